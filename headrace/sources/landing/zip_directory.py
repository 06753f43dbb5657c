"""Members of a zip archive: its central directory, checked, and the bytes of one member.

Nothing is written to disk: a member's path only names it.
"""

import io
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from headrace.config.sources.file_formats import UnpackLimits
from headrace.errors import SourceRejectedError, shown
from headrace.sources.files.text.decoding import ChunkStream, read_chunks, within_limits
from headrace.sources.landing.landing_zone import ByteStream, RandomAccess

# The end of most archives, which has the whole central directory.
_TAIL_BYTES = 64 * 2**10
_BLOCK_BYTES = 2**20
# Bytes of a directory by member: 46, a name, and times.
_ENTRY_BYTES = 256
_LEAST_DIRECTORY_BYTES = 2**20
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_OTHER_METHODS = {9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd", 95: "xz"}
# Bits of the flags: encrypted, strongly encrypted, encrypted directory.
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar")
_DRIVE = re.compile(r"[A-Za-z]:")
_AGAIN = "deliver the archive again, whole"


@dataclass(frozen=True, slots=True)
class ZipMember:
    """One file of an archive.

    Attributes:
        name: Its path in the archive, with `/`.
        offset: Where its local header begins.
        packed_bytes: Its size in the archive.
        size_bytes: Its size.
        crc: CRC-32 of its bytes.
        method: Its compression.
        problem: Why it cannot be read; None for a readable member.
        fix: What to do then.
    """

    name: str
    offset: int
    packed_bytes: int
    size_bytes: int
    crc: int
    method: int
    problem: str | None = None
    fix: str = ""


def read_directory(
    source: RandomAccess, size_bytes: int, path: str, limits: UnpackLimits
) -> tuple[ZipMember, ...]:
    """The members of an archive, without folders, in its order.

    A member that cannot be read has a `problem`. Whatever makes the archive as a whole suspect
    refuses it.

    Args:
        source: Its bytes.
        size_bytes: Its size.
        path: Its name, for errors.
        limits: The most members and bytes, and the highest ratio.

    Raises:
        SourceRejectedError: It is no whole zip archive, exceeds a limit, or has a member whose
            path leads out of it.
        SourceUnavailableError: It changed, or the connection was lost.
    """
    most = max(limits.max_members * _ENTRY_BYTES, _LEAST_DIRECTORY_BYTES)
    try:
        with zipfile.ZipFile(_Seekable(source, size_bytes, most)) as archive:
            entries, end = archive.infolist(), archive.start_dir
    except _LongDirectoryError:
        raise _too_many(path, limits) from None
    except (
        *(zipfile.BadZipFile, struct.error, NotImplementedError),
        *(ValueError, EOFError, OverflowError, IndexError),
    ):
        raise SourceRejectedError(
            f"{path} is no whole zip archive: its central directory is damaged, or it was cut off",
            fix=_AGAIN,
        ) from None
    if len(entries) > limits.max_members:
        raise _too_many(path, limits)
    _check_paths(entries, path)
    _check_sizes(entries, size_bytes, path, limits)
    _check_places(entries, end, path)
    files = [entry for entry in entries if not entry.is_dir()]
    times = Counter(_name(entry) for entry in files)
    return tuple({_name(entry): _member(entry, times[_name(entry)]) for entry in files}.values())


@contextmanager
def open_member(
    source: RandomAccess, member: ZipMember, path: str, limits: UnpackLimits
) -> Iterator[ByteStream]:
    """The bytes of a member, decompressed as they are read and checked by their CRC.

    Raises:
        SourceRejectedError: Its data is damaged, or exceeds the limits.
        SourceUnavailableError: The archive changed, or the connection was lost.
    """
    header = source.read_at(member.offset, _LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
        raise _damaged(path)
    _, name, extra = _LOCAL_HEADER.unpack(header)
    start = member.offset + _LOCAL_HEADER.size + name + extra
    packed = _Packed(source, start, member.packed_bytes)
    entry = zipfile.ZipInfo(member.name)
    entry.compress_type, entry.CRC = member.method, member.crc
    entry.compress_size, entry.file_size = member.packed_bytes, member.size_bytes
    with zipfile.ZipExtFile(packed, "r", entry) as content:
        chunks = _whole(content, path)
        yield ChunkStream(within_limits(chunks, lambda: packed.count, path, limits))


class _LongDirectoryError(Exception):
    """The central directory has more bytes than the most members need."""


class _Seekable(io.RawIOBase):
    """The end of an archive, as the zipfile module reads it: few seeks, then long reads."""

    def __init__(self, source: RandomAccess, size: int, most: int) -> None:
        self._source, self._size, self._most, self._at = source, size, most, 0
        self._tail_at = max(0, size - _TAIL_BYTES)
        self._tail = source.read_at(self._tail_at, size - self._tail_at)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError("negative position")
        self._at = start + offset
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        rest = max(0, self._size - self._at)
        size = rest if size is None or size < 0 else min(size, rest)
        if size > self._most:
            raise _LongDirectoryError
        if self._at >= self._tail_at:
            start = self._at - self._tail_at
            found = self._tail[start : start + size]
        else:
            found = self._source.read_at(self._at, size)
        self._at += len(found)
        return found


class _Packed:
    """The compressed bytes of a member, in order."""

    def __init__(self, source: RandomAccess, start: int, size: int) -> None:
        self._source, self._at, self._end = source, start, start + size
        self._block = b""
        self.count = 0

    def read(self, size: int, /) -> bytes:
        if not self._block:
            wanted = min(_BLOCK_BYTES, self._end - self._at)
            self._block = self._source.read_at(self._at, wanted) if wanted else b""
            self._at += len(self._block)
        found, self._block = self._block[:size], self._block[size:]
        self.count += len(found)
        return found

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        """The archive is closed by its owner."""


def _whole(content: zipfile.ZipExtFile, path: str) -> Iterator[bytes]:
    try:
        yield from read_chunks(content)
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise _damaged(path) from None


def _name(entry: zipfile.ZipInfo) -> str:
    # Some programs on Windows write \ between folders.
    return unicodedata.normalize("NFC", entry.filename.replace("\\", "/"))


def _member(entry: zipfile.ZipInfo, times: int) -> ZipMember:
    problem, fix = _problem(entry, times) or (None, "")
    return ZipMember(
        name=_name(entry),
        offset=entry.header_offset,
        packed_bytes=entry.compress_size,
        size_bytes=entry.file_size,
        crc=entry.CRC,
        method=entry.compress_type,
        problem=problem,
        fix=fix,
    )


def _problem(entry: zipfile.ZipInfo, times: int) -> tuple[str, str] | None:
    if times > 1:
        return f"is in the archive {times} times", "deliver the archive with one of them"
    if entry.flag_bits & _ENCRYPTED:
        return "is encrypted", "deliver the archive without a password"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "is a symbolic link", "deliver the archive with the file that it leads to"
    if _name(entry).lower().endswith(_ARCHIVES):
        return "is an archive in an archive", "deliver its files in one archive"
    if entry.compress_type not in _METHODS:
        kind = _OTHER_METHODS.get(entry.compress_type, f"method {entry.compress_type}")
        return f"is compressed by {kind}", "compress it by deflate, which every program knows"
    return None


def _check_paths(entries: Sequence[zipfile.ZipInfo], path: str) -> None:
    for entry in entries:
        name = _name(entry)
        how = None
        if name.startswith("/"):
            how = "an absolute path"
        elif _DRIVE.match(name):
            how = "the path of a drive"
        elif ".." in name.split("/"):
            how = "a path that leads out of it"
        if how:
            raise SourceRejectedError(
                f"{path}: the archive has a member with {how}, '{shown(name)}'",
                fix="see who made the archive; deliver it with paths below its own folder",
            )


def _check_sizes(
    entries: Sequence[zipfile.ZipInfo], size_bytes: int, path: str, limits: UnpackLimits
) -> None:
    total = sum(entry.file_size for entry in entries)
    if total > limits.max_bytes:
        raise SourceRejectedError(
            f"{path}: the members of the archive have {total:,} bytes, more than "
            f"{limits.max_bytes:,}",
            fix="see that it is what its source means to deliver; if it is, declare a higher "
            "extract.unpack.max_bytes",
        )
    if total > limits.ratio_from_bytes and total > limits.max_ratio * size_bytes:
        raise SourceRejectedError(
            f"{path}: the members of the archive have more than {limits.max_ratio:,} times its "
            "bytes",
            fix="see that it is what its source means to deliver; if it is, declare a higher "
            "extract.unpack.max_ratio",
        )


def _check_places(entries: Sequence[zipfile.ZipInfo], end: int, path: str) -> None:
    """Refuse members that share bytes, by which a small archive becomes petabytes."""
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    ends = [*(entry.header_offset for entry in ordered[1:]), end]
    for entry, after in zip(ordered, ends, strict=True):
        if entry.header_offset + _LOCAL_HEADER.size + entry.compress_size > after:
            raise SourceRejectedError(
                f"{path}: members of the archive overlap: '{shown(_name(entry))}' and the next",
                fix="deliver the archive as another program makes it",
            )


def _too_many(path: str, limits: UnpackLimits) -> SourceRejectedError:
    return SourceRejectedError(
        f"{path}: the archive has more than {limits.max_members:,} members",
        fix="deliver several archives, or declare a higher extract.unpack.max_members",
    )


def _damaged(path: str) -> SourceRejectedError:
    return SourceRejectedError(f"{path}: its data in the archive is damaged", fix=_AGAIN)
