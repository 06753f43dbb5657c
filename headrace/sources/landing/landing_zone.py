"""The landing zone: the files that sources drop, as a listing and as the bytes of one version."""

import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol, Self

from headrace.errors import HeadraceError, SourceRejectedError, SourceUnavailableError

# Endings of files that a program is still copying (WinSCP's .filepart, Hadoop's _COPYING_), and of
# editors' backups. rsync and Headrace itself write hidden files.
_UNFINISHED = (".tmp", ".part", ".filepart", "_COPYING_", "~")
_Folders = tuple[tuple[int, int], ...]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BAD_NAME = "has a name that is not UTF-8"
_DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class StoredFile:
    """One file of the landing zone, as listed.

    Attributes:
        path: Its path below the landing zone, with `/`.
        size_bytes: Its size.
        version: Changes whenever its bytes change: times and size, or S3's ETag.
        modified_at: When it was last written, UTC (mtime), as set by the source or by the program
            that copied it.
        changed_at: When it was last written, renamed or moved here, UTC (ctime); None on S3, where
            `modified_at` says so.
        problem: Why it cannot be read; None for a readable file. A folder or an archive that cannot
            be listed is an entry, too; its path ends in `/`, and that of an archive in `!/`.
        error: The error of reading it, where `problem` does not say all; see `problem_error`.
        arrival: The version of the marker or manifest by which it has arrived.
    """

    path: str
    size_bytes: int
    version: str
    modified_at: datetime
    changed_at: datetime | None = None
    problem: str | None = None
    error: HeadraceError | None = field(default=None, compare=False)
    arrival: str = field(default="", compare=False)

    @property
    def arrived_at(self) -> datetime:
        """When this version arrived in the landing zone, UTC."""
        return self.changed_at or self.modified_at

    @property
    def logical_path(self) -> str:
        """Equal for all deliveries of one file: composed Unicode (NFC), without `.gz`, `.zst`.

        Compressing a file later does not make it another one, and neither does the decomposed
        Unicode that a Mac writes.
        """
        composed = unicodedata.normalize("NFC", self.path)
        return composed.removesuffix(".gz").removesuffix(".zst")

    @property
    def delivery(self) -> str:
        """Orders deliveries totally, as text: by modification time, then path in natural order."""
        natural = _DIGITS.sub(_with_length, self.logical_path)
        return f"{self.modified_at:%Y%m%dT%H%M%S%f} {natural}"


class ByteStream(Protocol):
    """Bytes from beginning to end."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end.

        Raises:
            SourceUnavailableError: The connection was lost.
        """
        ...


class RandomAccess(Protocol):
    """The bytes of one version of a file, from any position."""

    def read_at(self, offset: int, size: int, /) -> bytes:
        """Up to `size` bytes from `offset` on; fewer at the end.

        Raises:
            SourceUnavailableError: The connection was lost, or the file changed.
        """
        ...


class Landing(Protocol):
    """Where files arrive."""

    @property
    def name(self) -> str:
        """The folder or the URI, without credentials."""
        ...

    def list_files(self, prefix: str = "") -> tuple[StoredFile, ...]:
        """The files whose path begins with `prefix`, by path; unfinished ones are left out.

        Entries that cannot be read are listed with their `StoredFile.problem`.

        Raises:
            SourceUnavailableError: The landing zone does not answer or does not exist.
            SourceRejectedError: We lack the right to list it.
        """
        ...

    def open(self, file: StoredFile) -> AbstractContextManager[ByteStream]:
        """The bytes of exactly this version.

        Raises:
            SourceUnavailableError: The file changed since it was listed; on leaving the block, if
                it changed while it was read.
            SourceRejectedError: We lack the right to read it.
        """
        ...

    def random_access(self, file: StoredFile) -> AbstractContextManager[RandomAccess]:
        """The bytes of exactly this version, from any position. Raises: as `open` does."""
        ...

    def move(self, file: StoredFile, target: str) -> bool:
        """Move exactly this version to another path; False if another file is there.

        A move that was interrupted is finished.

        Raises:
            SourceUnavailableError: The file changed since it was listed.
            SourceRejectedError: We lack the right to move it.
        """
        ...


def _with_length(digits: re.Match[str]) -> str:
    # With the length in front of each number, 9 sorts before 10 as text.
    number = digits[0].lstrip("0")
    return f"{len(number):03d}{number}"


def is_finished(path: str) -> bool:
    """Whether a path is neither hidden nor named like a file that is still being written."""
    parts = path.split("/")
    return not parts[-1].endswith(_UNFINISHED) and not any(p.startswith(".") for p in parts)


def changed_error(path: str) -> SourceUnavailableError:
    """The file has another version than the listing."""
    return SourceUnavailableError(
        f"{path} changed while it was captured: it is still being written",
        fix="capture the day again once the file is whole; deliver under another name and rename",
    )


def removed_error(path: str) -> SourceUnavailableError:
    """The file was listed and does not exist any more."""
    return SourceUnavailableError(
        f"{path} was removed since it was listed", fix="deliver it again, then capture its day"
    )


def forbidden_error(path: str) -> SourceRejectedError:
    """The file exists, but we lack the right to read it."""
    return SourceRejectedError(
        f"{path} may not be read", fix="give the user that runs Headrace the right to read it"
    )


def problem_error(file: StoredFile) -> HeadraceError:
    """The entry at a path is not a readable file."""
    return file.error or SourceRejectedError(
        f"{file.path} {file.problem}", fix="replace it by a file that can be read, or remove it"
    )


@dataclass(frozen=True)
class LocalLanding:
    """A folder; symbolic links are followed. A file's version is mtime, ctime (ns) and size."""

    root: Path

    @classmethod
    def of_uri(cls, uri: str) -> Self:
        """The folder that a path or a `file://` URI names."""
        return cls(Path(uri.removeprefix("file://")).expanduser().absolute())

    @property
    def name(self) -> str:
        """See Landing."""
        return str(self.root)

    def list_files(self, prefix: str = "") -> tuple[StoredFile, ...]:
        """See Landing."""
        if not self.root.is_dir():
            # An empty listing of an unmounted landing zone would mean a year without deliveries.
            raise SourceUnavailableError(
                f"the landing zone {self.root} is not a folder",
                fix="create or mount it, or correct landing.uri",
            )
        folder = prefix.rpartition("/")[0]
        return tuple(sorted(self._walk(folder, prefix, ()), key=lambda file: file.path))

    @contextmanager
    def open(self, file: StoredFile) -> Iterator[ByteStream]:
        """See Landing."""
        with self._opened(file) as content:
            yield content

    @contextmanager
    def random_access(self, file: StoredFile) -> Iterator[RandomAccess]:
        """See Landing."""
        with self._opened(file) as content:
            yield content

    def move(self, file: StoredFile, target: str) -> bool:
        """See Landing."""
        self._check_unchanged(file)
        source, place = self.root / file.path, self.root / target
        if place.exists():
            return False
        try:
            before = source.stat()
            place.parent.mkdir(parents=True, exist_ok=True)
            source.rename(place)
            moved = place.stat()
        except OSError as error:
            raise _unreadable(file.path, error) from error
        if (moved.st_mtime_ns, moved.st_size) != (before.st_mtime_ns, before.st_size):
            # It was replaced in this moment: the new version is not captured.
            if not source.exists():
                place.rename(source)
            raise changed_error(file.path)
        return True

    @contextmanager
    def _opened(self, file: StoredFile) -> Iterator["_LocalBytes"]:
        if file.problem:
            raise problem_error(file)
        try:
            stream = (self.root / file.path).open("rb", buffering=0)
        except OSError as error:
            raise _unreadable(file.path, error) from error
        with stream:
            try:
                yield _LocalBytes(stream.fileno(), file.path)
            except SourceRejectedError:
                # An unfinished file is often malformed, too: the change is the better reason.
                self._check_unchanged(file)
                raise
            self._check_unchanged(file)

    def _walk(self, folder: str, prefix: str, above: _Folders) -> Iterator[StoredFile]:
        """The files below a folder; `above` has its parents, so that a cycle of links ends."""
        try:
            here = _identity(self.root / folder)
            entries = [] if here in above else sorted(os.scandir(self.root / folder), key=_name)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            if not folder:
                raise _unreadable(str(self.root), error) from error
            yield entry_with_problem(f"{folder}/", f"cannot be listed: {error.strerror}")
            return
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if is_finished(path):
                yield from self._found(entry, path, prefix, (*above, here))

    def _found(
        self, entry: os.DirEntry[str], path: str, prefix: str, above: _Folders
    ) -> Iterator[StoredFile]:
        shown = _printable(path)
        if not _is_folder(entry):
            listed = _listed(self.root / path, shown) if path.startswith(prefix) else None
            yield from [listed] if listed else []
        elif shown != path:
            yield entry_with_problem(f"{shown}/", BAD_NAME)
        elif f"{path}/".startswith(prefix) or prefix.startswith(f"{path}/"):
            yield from self._walk(path, prefix, above)

    def _check_unchanged(self, file: StoredFile) -> None:
        now = _listed(self.root / file.path, file.path)
        if now is None or now.version != file.version:
            raise changed_error(file.path)


@dataclass(frozen=True)
class _LocalBytes:
    descriptor: int
    path: str

    def read(self, size: int, /) -> bytes:
        try:
            return os.read(self.descriptor, size)
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def read_at(self, offset: int, size: int, /) -> bytes:
        try:
            return os.pread(self.descriptor, size, offset)
        except OSError as error:
            raise _unreadable(self.path, error) from error


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # A link to itself: `_listed` reports it.


def _printable(path: str) -> str:
    """The path as valid text; a byte that is not UTF-8 is written as an escape sequence."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def entry_with_problem(path: str, problem: str) -> StoredFile:
    """An entry that cannot be read."""
    return StoredFile(path, 0, problem, _EPOCH, problem=problem)


def _listed(file: Path, shown: str) -> StoredFile | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        if not file.is_symlink():
            return None  # Removed during the listing.
        return entry_with_problem(shown, "is a link to a missing file")
    except OSError as error:
        return entry_with_problem(shown, f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(found.st_mode):
        return entry_with_problem(shown, "is no file but a pipe, a socket or a device")
    if os.fsencode(file) != str(file).encode("utf-8", "replace"):
        return entry_with_problem(shown, BAD_NAME)
    # Programs set mtime (rsync -t, mv, cp -p) but cannot set ctime, which differs after a
    # replacement of equal size and mtime.
    version = f"{found.st_mtime_ns}-{found.st_size}-{found.st_ctime_ns}"
    return StoredFile(
        shown, found.st_size, version, _time(found.st_mtime_ns), _time(found.st_ctime_ns)
    )


def _time(nanoseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def _unreadable(path: str, error: OSError) -> SourceUnavailableError | SourceRejectedError:
    if isinstance(error, PermissionError):
        return forbidden_error(path)
    if isinstance(error, FileNotFoundError):
        return removed_error(path)
    return SourceUnavailableError(
        f"{path} cannot be read: {error.strerror}", fix="see that its disk is mounted and healthy"
    )
