"""The landing zone: the files that sources drop, as a listing and as the bytes of one version.

Belongs here: what a landing zone promises, and the one that is a local folder.
Elsewhere: the one on S3 (headrace.ingestion.s3_landing), which file belongs to which day
(headrace.ingestion.files).
"""

import os
import re
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
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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
    """

    path: str
    size_bytes: int
    version: str
    modified_at: datetime
    changed_at: datetime | None = None

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

        Raises:
            SourceUnavailableError: The landing zone itself does not answer or is not there.
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


@dataclass(frozen=True)
class LocalLanding:
    """A folder. A file's version is its modification time, its size and its change time (ns)."""

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
        try:
            return tuple(sorted(self._walk(folder, prefix), key=lambda file: file.path))
        except OSError as error:
            raise _unreadable(str(error.filename or self.root), error) from error

    @contextmanager
    def open(self, file: StoredFile) -> Iterator[ByteStream]:
        """See Landing."""
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

    def _walk(self, folder: str, prefix: str) -> Iterator[StoredFile]:
        try:
            entries = sorted(os.scandir(self.root / folder), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if not is_finished(path):
                continue
            if entry.is_dir():
                if f"{path}/".startswith(prefix) or prefix.startswith(f"{path}/"):
                    yield from self._walk(path, prefix)
            elif path.startswith(prefix) and (found := _listed(self.root / path, path)):
                yield found

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


def _listed(file: Path, path: str) -> StoredFile | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    # Programs set the time of a file as they like (rsync -t, mv, cp -p), that of its last change
    # they cannot: a replacement of equal size and time is seen by it.
    version = f"{found.st_mtime_ns}-{found.st_size}-{found.st_ctime_ns}"
    return StoredFile(
        path, found.st_size, version, _time(found.st_mtime_ns), _time(found.st_ctime_ns)
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
