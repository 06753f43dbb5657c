"""A landing zone whose zip archives are folders: `a.zip!b.csv` is the member b.csv of a.zip."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from headrace.config.sources.file_extract import FileExtract
from headrace.config.sources.file_formats import UnpackLimits
from headrace.errors import HeadraceError, SourceRejectedError
from headrace.sources.files.path_patterns import is_archive_of
from headrace.sources.landing.landing_zone import (
    ByteStream,
    Landing,
    RandomAccess,
    StoredFile,
    is_finished,
    problem_error,
)
from headrace.sources.landing.zip_directory import ZipMember, open_member, read_directory

# Archives on S3 and SFTP are opened at the same time: each costs a round trip.
_THREADS = 8
# Directories that a process keeps, by the members that they have together.
_MOST_MEMBERS = 200_000

LimitsOf = Callable[[str], UnpackLimits | None]


@dataclass(frozen=True)
class MemberFile(StoredFile):
    """A member of an archive, which has the archive's times.

    Attributes:
        archive: The archive, as listed.
        member: Where it lies in the archive.
    """

    archive: StoredFile | None = field(default=None, compare=False)
    member: ZipMember | None = field(default=None, compare=False)


def with_archives(landing: Landing, extracts: Iterable[FileExtract]) -> Landing:
    """The landing zone with the members of the archives that the paths of some entities name.

    Other archives are files as any other: opening each costs time.
    """
    into_archives = [extract for extract in extracts if extract.archive_path is not None]
    if not into_archives:
        return landing

    def limits_of(path: str) -> UnpackLimits | None:
        found = [extract.unpack for extract in into_archives if is_archive_of(extract, path)]
        return max(found, key=lambda limits: limits.max_members, default=None)

    return ZipLanding(landing, limits_of)


def delivered_file(file: StoredFile) -> StoredFile:
    """The file that was delivered: the archive of a member, else the file itself."""
    return file.archive if isinstance(file, MemberFile) and file.archive else file


@dataclass(frozen=True)
class ZipLanding:
    """See Landing.

    Attributes:
        inner: The landing zone.
        limits_of: The limits of an archive by its path; None: it is not opened.
    """

    inner: Landing
    limits_of: LimitsOf

    @property
    def name(self) -> str:
        """See Landing."""
        return self.inner.name

    def list_files(self, prefix: str = "") -> tuple[StoredFile, ...]:
        """See Landing. An archive that cannot be listed is an entry whose path ends in `!/`."""
        archive, is_member, _ = prefix.partition("!")
        listed = self.inner.list_files(archive if is_member else prefix)
        with ThreadPoolExecutor(_THREADS) as pool:
            found = [file for files in pool.map(self._expanded, listed) for file in files]
        wanted = (file for file in found if _is_below(file.path, prefix))
        return tuple(sorted(wanted, key=lambda file: file.path))

    @contextmanager
    def open(self, file: StoredFile) -> Iterator[ByteStream]:
        """See Landing."""
        if not isinstance(file, MemberFile) or file.archive is None or file.member is None:
            with self.inner.open(file) as stream:
                yield stream
            return
        if file.problem:
            raise problem_error(file)
        limits = self.limits_of(file.archive.path) or UnpackLimits()
        with (
            self.inner.random_access(file.archive) as source,
            open_member(source, file.member, file.path, limits) as stream,
        ):
            yield stream

    @contextmanager
    def random_access(self, file: StoredFile) -> Iterator[RandomAccess]:
        """See Landing. A member has no bytes but in their order."""
        if isinstance(file, MemberFile):
            raise SourceRejectedError(
                f"{file.path} is in an archive, which is read in its order",
                fix="deliver the file itself",
            )
        with self.inner.random_access(file) as source:
            yield source

    def move(self, file: StoredFile, target: str) -> bool:
        """See Landing. Archives are moved, not their members."""
        return self.inner.move(file, target)

    def _expanded(self, file: StoredFile) -> list[StoredFile]:
        limits = self.limits_of(file.path)
        if limits is None:
            return [file]
        try:
            members = self._members(file, limits)
        except HeadraceError as error:
            return [_unlisted(file, error)]
        return [_listed(file, member) for member in members if is_finished(member.name)]

    def _members(self, file: StoredFile, limits: UnpackLimits) -> tuple[ZipMember, ...]:
        if file.problem:
            raise problem_error(file)
        key = (self.name, file.path, file.version, str(file.modified_at), limits.model_dump_json())
        known = _DIRECTORIES.get(key)
        if known is None:
            with self.inner.random_access(file) as source:
                known = read_directory(source, file.size_bytes, file.path, limits)
            _DIRECTORIES.put(key, known)
        return known


class _Directories:
    """Directories of archives that were read before, the latest ones."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[str, ...], tuple[ZipMember, ...]] = OrderedDict()
        self._members, self._lock = 0, Lock()

    def get(self, key: tuple[str, ...]) -> tuple[ZipMember, ...] | None:
        with self._lock:
            found = self._found.get(key)
            if found is not None:
                self._found.move_to_end(key)
            return found

    def put(self, key: tuple[str, ...], members: tuple[ZipMember, ...]) -> None:
        with self._lock:
            if key not in self._found:
                self._found[key] = members
                self._members += len(members) + 1
            while self._members > _MOST_MEMBERS and len(self._found) > 1:
                _, oldest = self._found.popitem(last=False)
                self._members -= len(oldest) + 1


_DIRECTORIES = _Directories()


def _is_below(path: str, prefix: str) -> bool:
    is_unlisted = path.endswith("!/")
    return path.startswith(prefix) or (is_unlisted and prefix.startswith(path.removesuffix("/")))


def _listed(archive: StoredFile, member: ZipMember) -> MemberFile:
    path = f"{archive.path}!{member.name}"
    error = None
    if member.problem:
        error = SourceRejectedError(f"{path} {member.problem}", fix=member.fix)
    return MemberFile(
        path=path,
        size_bytes=member.size_bytes,
        # A replaced archive may have the member unchanged: then its rows prove equal.
        version=f"{archive.version} {member.crc:08x}",
        modified_at=archive.modified_at,
        changed_at=archive.changed_at,
        problem=member.problem,
        error=error,
        archive=archive,
        member=member,
    )


def _unlisted(archive: StoredFile, error: HeadraceError) -> StoredFile:
    return StoredFile(
        path=f"{archive.path}!/",
        size_bytes=archive.size_bytes,
        version=archive.version,
        modified_at=archive.modified_at,
        changed_at=archive.changed_at,
        problem=f"cannot be listed: {error}",
        error=error,
    )
