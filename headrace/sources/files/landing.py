"""The landing zone: the files that sources drop, as a listing and as the bytes of one version."""

import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from headrace.errors import SourceRejectedError, SourceUnavailableError

# What copying programs call a file until it is whole: rsync's and our own dot files, WinSCP's
# .filepart, Hadoop's _COPYING_, and editors' backups.
_UNFINISHED = (".tmp", ".part", ".filepart", "_COPYING_", "~")
_Folders = tuple[tuple[int, int], ...]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BAD_NAME = "has a name that is not UTF-8"
_DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class StoredFile:
    """One file of the landing zone, as listed.

    Attributes:
        path: Its path below the landing zone, with `/`.
        size_bytes: Its size.
        version: Changes whenever its bytes change: times and size, or S3's ETag.
        modified_at: When it was last written, UTC, as its source or the program that copied it
            says.
        changed_at: When it was last written, renamed or moved here, UTC, as the landing zone says;
            None where that is the same.
        problem: Why it cannot be read; None of a file. A folder that cannot be looked into is
            listed too: its path ends in `/`.
    """

    path: str
    size_bytes: int
    version: str
    modified_at: datetime
    changed_at: datetime | None = None
    problem: str | None = None

    @property
    def arrived_at(self) -> datetime:
        """Since when the landing zone has had it as it is, UTC."""
        return self.changed_at or self.modified_at

    @property
    def logical_path(self) -> str:
        """Equal for all deliveries of one file: composed Unicode (NFC), without `.gz`.

        A source that packs a file once it is old, and a Mac that writes an accent as a character of
        its own, have delivered nothing else.
        """
        return unicodedata.normalize("NFC", self.path).removesuffix(".gz")

    @property
    def delivery(self) -> str:
        """Orders deliveries totally, as text: by modification time, then path in natural order."""
        natural = _DIGITS.sub(_counted, self.logical_path)
        return f"{self.modified_at:%Y%m%dT%H%M%S%f} {natural}"


class ByteStream(Protocol):
    """Bytes from beginning to end."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end. SourceUnavailableError: the source broke off."""
        ...


class Landing(Protocol):
    """Where files arrive."""

    def list_files(self, prefix: str = "") -> tuple[StoredFile, ...]:
        """The files whose path begins with `prefix`, by path; unfinished ones are left out.

        What lies there and cannot be read (`StoredFile.problem`) is listed too.

        Raises:
            SourceUnavailableError: The landing zone itself does not answer or is not there.
            SourceRejectedError: It may not be listed.
        """
        ...

    def open(self, file: StoredFile) -> AbstractContextManager[ByteStream]:
        """The bytes of exactly this version.

        Raises:
            SourceUnavailableError: The file changed since it was listed, even while it was read:
                then on leaving the block.
            SourceRejectedError: It may not be read.
        """
        ...


def _counted(digits: re.Match[str]) -> str:
    # 9 comes before 10 as text once each number says first how long it is.
    number = digits[0].lstrip("0")
    return f"{len(number):03d}{number}"


def is_finished(path: str) -> bool:
    """Whether no part of the name says that the file is hidden or still being written."""
    parts = path.split("/")
    return not parts[-1].endswith(_UNFINISHED) and not any(p.startswith(".") for p in parts)


def changed_error(path: str) -> SourceUnavailableError:
    """The file is not what the listing said."""
    return SourceUnavailableError(
        f"{path} changed while it was captured: it is still being written",
        fix="capture the day again once the file is whole; deliver under another name and rename",
    )


def gone_error(path: str) -> SourceUnavailableError:
    """The file was listed, and is no longer there."""
    return SourceUnavailableError(
        f"{path} is gone since it was listed", fix="deliver it again, then capture its day"
    )


def forbidden_error(path: str) -> SourceRejectedError:
    """The file is there, and closed to us."""
    return SourceRejectedError(
        f"{path} may not be read", fix="give the user that runs Headrace the right to read it"
    )


def problem_error(file: StoredFile) -> SourceRejectedError:
    """What lies at a path is not a file that can be read."""
    return SourceRejectedError(
        f"{file.path} {file.problem}", fix="replace it by a file that can be read, or remove it"
    )


@dataclass(frozen=True)
class LocalLanding:
    """A folder, links followed. A file's version is its times (ns) and its size."""

    root: Path

    def list_files(self, prefix: str = "") -> tuple[StoredFile, ...]:
        """See Landing."""
        if not self.root.is_dir():
            # An unmounted landing zone must not look like a year without deliveries.
            raise SourceUnavailableError(
                f"the landing zone {self.root} is not a folder",
                fix="create or mount it, or correct landing.uri",
            )
        folder = prefix.rpartition("/")[0]
        return tuple(sorted(self._walk(folder, prefix, ()), key=lambda file: file.path))

    @contextmanager
    def open(self, file: StoredFile) -> Iterator[ByteStream]:
        """See Landing."""
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
                # Half a file is often malformed; that it is half is the better reason.
                self._check_unchanged(file)
                raise
            self._check_unchanged(file)

    def _walk(self, folder: str, prefix: str, above: _Folders) -> Iterator[StoredFile]:
        """The files below a folder; `above` are the folders that lead to it, lest it be endless."""
        try:
            here = _identity(self.root / folder)
            entries = [] if here in above else sorted(os.scandir(self.root / folder), key=_name)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            if not folder:
                raise _unreadable(str(self.root), error) from error
            yield _unlisted(f"{folder}/", f"cannot be looked into: {error.strerror}")
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
            yield _unlisted(f"{shown}/", _BAD_NAME)
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


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # A link to itself: its own stat says so.


def _printable(path: str) -> str:
    """The path as text that can be written anywhere: a byte that is not UTF-8 as its number."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _unlisted(path: str, problem: str) -> StoredFile:
    return StoredFile(path, 0, problem, _EPOCH, problem=problem)


def _listed(file: Path, shown: str) -> StoredFile | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        # A link that leads nowhere stays; a file that was taken away while we looked does not.
        return _unlisted(shown, "is a link that leads nowhere") if file.is_symlink() else None
    except OSError as error:
        return _unlisted(shown, f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(found.st_mode):
        return _unlisted(shown, "is no file but a pipe, a socket or a device")
    if os.fsencode(file) != str(file).encode("utf-8", "replace"):
        return _unlisted(shown, _BAD_NAME)
    # Programs set the time of a file as they like (rsync -t, mv, cp -p), that of its last change
    # they cannot: a replacement of equal size and time is seen by it.
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
        return gone_error(path)
    return SourceUnavailableError(
        f"{path} cannot be read: {error.strerror}", fix="see that its disk is mounted and healthy"
    )
