"""A landing zone on an SFTP server."""

import posixpath
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncssh
from asyncssh.constants import (
    FILEXFER_TYPE_DIRECTORY,
    FILEXFER_TYPE_REGULAR,
    FILEXFER_TYPE_SYMLINK,
)

from headrace.config.loader import Project
from headrace.config.sources.sftp_connection import SftpConnection
from headrace.errors import ConfigError, SourceRejectedError, SourceUnavailableError
from headrace.sources.landing.landing_zone import (
    BAD_NAME,
    ByteStream,
    RandomAccess,
    StoredFile,
    changed_error,
    entry_with_problem,
    is_finished,
    problem_error,
)
from headrace.sources.landing.sftp_session import SftpSession

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MISSING = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)


def sftp_landing(project: Project, name: str) -> "SftpLanding":
    """The landing zone of a connection; connects when it is first listed.

    Raises:
        ConfigError: There is no such connection.
    """
    settings = project.settings.connections.get(name)
    if not isinstance(settings, SftpConnection):
        raise ConfigError(
            f"there is no SFTP connection '{name}'",
            fix="declare it under `connections` in base.yaml with kind: sftp",
        )
    return SftpLanding(SftpSession(name, settings))


@dataclass(frozen=True)
class SftpLanding:
    """The files below a folder of a server; symbolic links are followed.

    A file's version is its modification time and size: servers tell no more. Most tell the time in
    seconds.
    """

    session: SftpSession

    def __post_init__(self) -> None:
        """End the connection when nothing refers to the landing zone any more."""
        weakref.finalize(self, self.session.close)

    @property
    def name(self) -> str:
        """See Landing."""
        settings = self.session.settings
        return f"sftp://{settings.host}:{settings.port}/{settings.folder}"

    def list_files(self, prefix: str = "") -> tuple[StoredFile, ...]:
        """See Landing."""
        root = self.session.settings.folder

        async def walk(client: asyncssh.SFTPClient) -> list[StoredFile]:
            try:
                await client.stat(root)
            except _MISSING:
                # An empty listing would mean a year without deliveries.
                raise SourceUnavailableError(
                    f"connection {self.session.name}: the folder {root} does not exist",
                    fix="correct its folder, or have it made",
                ) from None
            found: list[StoredFile] = []
            await _Walk(client, root, prefix, found).folder(prefix.rpartition("/")[0], ())
            return found

        return tuple(sorted(self.session.run(walk, root), key=lambda file: file.path))

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
        root = self.session.settings.folder
        source, place = posixpath.join(root, file.path), posixpath.join(root, target)

        async def rename(client: asyncssh.SFTPClient) -> bool:
            if await client.exists(place):
                return False
            await client.makedirs(posixpath.dirname(place), exist_ok=True)
            # Unlike POSIX's, SFTP's own rename refuses to replace a file.
            await client.rename(source, place)
            return True

        return self.session.run(rename, file.path)

    @contextmanager
    def _opened(self, file: StoredFile) -> Iterator["_SftpBytes"]:
        if file.problem:
            raise problem_error(file)
        self._check_unchanged(file)
        path = posixpath.join(self.session.settings.folder, file.path)

        async def begin(client: asyncssh.SFTPClient) -> asyncssh.SFTPClientFile:
            return await client.open(path, "rb")

        content = _SftpBytes(self.session, self.session.run(begin, file.path), file.path)
        try:
            yield content
        except SourceRejectedError:
            # An unfinished file is often malformed, too: the change is the better reason.
            self._check_unchanged(file)
            raise
        finally:
            content.close()
        self._check_unchanged(file)

    def _check_unchanged(self, file: StoredFile) -> None:
        path = posixpath.join(self.session.settings.folder, file.path)

        async def look(client: asyncssh.SFTPClient) -> asyncssh.SFTPAttrs:
            return await client.stat(path)

        now = self.session.run(look, file.path)
        if _listed(file.path, now).version != file.version:
            raise changed_error(file.path)


@dataclass
class _SftpBytes:
    session: SftpSession
    content: asyncssh.SFTPClientFile
    path: str
    at: int = 0

    def read(self, size: int, /) -> bytes:
        found = self.read_at(self.at, size)
        self.at += len(found)
        return found

    def read_at(self, offset: int, size: int, /) -> bytes:
        async def read(_: asyncssh.SFTPClient) -> bytes:
            return await self.content.read(size, offset)

        return self.session.run(read, self.path)

    def close(self) -> None:
        async def end(_: asyncssh.SFTPClient) -> None:
            await self.content.close()

        try:
            self.session.run(end, self.path)
        except (SourceUnavailableError, SourceRejectedError):
            return  # The connection is lost, which the read has said.


@dataclass(frozen=True)
class _Walk:
    """Lists the files below a folder whose paths begin with a prefix."""

    client: asyncssh.SFTPClient
    root: str
    prefix: str
    found: list[StoredFile]

    async def folder(self, folder: str, above: tuple[str, ...]) -> None:
        """Collect the files of a folder; `above` has its parents, so that a cycle of links ends."""
        whole = posixpath.join(self.root, folder)
        try:
            here = str(await self.client.realpath(whole))
            if here in above:
                return
            entries = [entry async for entry in self.client.scandir(whole)]
        except _MISSING:
            return
        except asyncssh.SFTPPermissionDenied:
            if not folder:
                raise
            self.found.append(
                entry_with_problem(f"{folder}/", "cannot be listed: Permission denied")
            )
            return
        for entry in entries:
            name = str(entry.filename)
            path = f"{folder}/{name}" if folder else name
            if is_finished(path):
                await self._entry(path, entry.attrs, (*above, here))

    async def _entry(self, path: str, attrs: asyncssh.SFTPAttrs, above: tuple[str, ...]) -> None:
        shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if attrs.type == FILEXFER_TYPE_SYMLINK:
            try:
                attrs = await self.client.stat(posixpath.join(self.root, path))
            except asyncssh.SFTPError:
                self.found.append(entry_with_problem(shown, "is a link to a missing file"))
                return
        if attrs.type == FILEXFER_TYPE_DIRECTORY:
            if shown != path:
                self.found.append(entry_with_problem(f"{shown}/", BAD_NAME))
            elif f"{path}/".startswith(self.prefix) or self.prefix.startswith(f"{path}/"):
                await self.folder(path, above)
        elif path.startswith(self.prefix):
            if attrs.type != FILEXFER_TYPE_REGULAR:
                problem = "is no file but a pipe, a socket or a device"
                self.found.append(entry_with_problem(shown, problem))
            else:
                self.found.append(
                    _listed(path, attrs) if shown == path else entry_with_problem(shown, BAD_NAME)
                )


def _listed(path: str, attrs: asyncssh.SFTPAttrs) -> StoredFile:
    seconds, rest = attrs.mtime or 0, (attrs.mtime_ns or 0) // 1000
    size = attrs.size or 0
    version = f"{seconds}.{attrs.mtime_ns or 0:09d}-{size}"
    return StoredFile(path, size, version, _EPOCH + timedelta(seconds=seconds, microseconds=rest))
