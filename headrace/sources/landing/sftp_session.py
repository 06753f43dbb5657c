"""A connection to an SFTP server, for callers without an event loop."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import asyncssh

from headrace.config.loader import resolve_secret
from headrace.config.sources.sftp_connection import SftpConnection
from headrace.errors import (
    HeadraceError,
    SourceRejectedError,
    SourceUnauthorizedError,
    SourceUnavailableError,
)
from headrace.sources.connections import retried
from headrace.sources.landing.landing_zone import forbidden_error, removed_error

Result = TypeVar("Result")
_Act = Callable[[asyncssh.SFTPClient], Awaitable[Result]]

_LOST = (
    *(OSError, asyncio.TimeoutError, asyncssh.DisconnectError, asyncssh.ChannelOpenError),
    *(asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection),
)
_MISSING = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)


@dataclass
class SftpSession:
    """One connection, which is made when it is first used, and again after it was lost.

    Threads may share it. It holds no secret: they are read when it connects.

    Attributes:
        name: Its name in `connections`.
        settings: Where the server is, and who we are there.
    """

    name: str
    settings: SftpConnection
    _open: "_Opened | None" = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def run(self, act: _Act[Result], path: str) -> Result:
        """Act on the server; `path` names in errors what the action is about.

        Raises:
            SourceUnavailableError: The server does not answer, or the connection was lost.
            SourceRejectedError: It refuses the credentials or the action, or its host key is not
                the declared one.
        """
        opened = self._connected()
        try:
            return opened.run(self._in_time(act(opened.client)))
        except (*_LOST, asyncssh.Error) as error:
            if isinstance(error, _LOST):
                self._forget(opened)
            raise self._mapped(error, path) from error

    def close(self) -> None:
        """End the connection, if there is one."""
        with self._lock:
            opened, self._open = self._open, None
        if opened is not None:
            opened.close()

    def _connected(self) -> "_Opened":
        with self._lock:
            # A forked process has the parent's memory, and none of its threads.
            if self._open is None or self._open.process != os.getpid():
                self._open = retried(self._connect)
            return self._open

    def _forget(self, opened: "_Opened") -> None:
        with self._lock:
            if self._open is opened:
                self._open = None
        opened.close()

    def _connect(self) -> "_Opened":
        settings, loop = self.settings, _Loop()
        client = _Client(settings.host_key)
        try:
            options = self._options()
            connection = loop.run(
                self._in_time(
                    asyncssh.connect(
                        settings.host,
                        settings.port,
                        client_factory=lambda: client,
                        connect_timeout=settings.connect_seconds,
                        login_timeout=settings.connect_seconds,
                        keepalive_interval=15,
                        **options,
                    )
                )
            )
            opened = loop.run(
                self._in_time(connection.start_sftp_client(path_errors="surrogateescape"))
            )
        except (*_LOST, asyncssh.Error) as error:
            loop.stop()
            raise self._mapped(error, self.settings.folder, client.offered) from error
        except BaseException:
            loop.stop()
            raise
        return _Opened(loop, connection, opened)

    def _options(self) -> dict[str, object]:
        settings = self.settings
        keys = []
        if settings.private_key is not None:
            phrase = resolve_secret(settings.passphrase) if settings.passphrase else None
            try:
                keys = [asyncssh.import_private_key(resolve_secret(settings.private_key), phrase)]
            except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
                raise SourceUnauthorizedError(
                    f"connection {self.name}: the private key cannot be read",
                    fix=f"put the text of the key into {settings.private_key.env}, and its "
                    "passphrase, if it has one, into that of `passphrase`",
                ) from None
        password = resolve_secret(settings.password) if settings.password else None
        return {
            "username": settings.user,
            "password": password,
            "client_keys": keys,
            "known_hosts": self._known_hosts(),
            # Nothing of the machine's own configuration: it may trust other hosts.
            "config": [],
            "agent_path": None,
            "x509_trusted_certs": None,
            "gss_host": None,
        }

    def _known_hosts(self) -> asyncssh.SSHKnownHosts:
        if self.settings.known_hosts is None:
            return asyncssh.import_known_hosts("")
        path = Path(self.settings.known_hosts).expanduser()
        try:
            return asyncssh.read_known_hosts(str(path))
        except (OSError, ValueError):
            raise SourceRejectedError(
                f"connection {self.name}: the file of known hosts {path} cannot be read",
                fix=f"correct known_hosts, or declare host_key (ssh-keyscan {self.settings.host})",
            ) from None

    async def _in_time(self, act: Awaitable[Result]) -> Result:
        return await asyncio.wait_for(act, self.settings.read_seconds)

    def _mapped(self, error: BaseException, path: str, offered: str = "") -> HeadraceError:
        """The error, in our own words: a driver's text may quote what must not be shown."""
        settings = self.settings
        server = f"connection {self.name}: {settings.host}:{settings.port}"
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            declared = "host_key" if settings.host_key else f"known_hosts ({settings.known_hosts})"
            return SourceRejectedError(
                f"{server} has the host key {offered or 'of an unknown kind'}, which is not the "
                f"one of {declared}: another server may answer in its place",
                fix="ask the server's operator for the fingerprint of its key; if it is this one, "
                f"declare it as {'host_key' if settings.host_key else 'a known host'}",
            )
        if isinstance(error, asyncssh.PermissionDenied):
            secrets = [one.env for one in (settings.password, settings.private_key) if one]
            return SourceUnauthorizedError(
                f"{server} refuses the user '{settings.user}' with these credentials",
                fix=f"correct user, or the value of {' or '.join(secrets)}",
            )
        if isinstance(error, asyncssh.SFTPPermissionDenied):
            return forbidden_error(path)
        if isinstance(error, _MISSING):
            return removed_error(path)
        kind = type(error).__name__
        if isinstance(error, asyncssh.SFTPError) and not isinstance(error, _LOST):
            return SourceRejectedError(
                f"{server} refuses to read {path}: {kind}",
                fix="see that it is a file, and that the user may read it",
            )
        return SourceUnavailableError(
            f"{server} does not answer, or cut the connection: {kind}, at {path}",
            fix="see that host and port are right and that the server runs, then try again",
        )


class _Client(asyncssh.SSHClient):
    """Trusts the declared key alone, besides those of `known_hosts`."""

    def __init__(self, accepted: str | None) -> None:
        self.accepted, self.offered = accepted, ""

    def validate_host_public_key(
        self,
        host: str,  # noqa: ARG002
        addr: str,  # noqa: ARG002
        port: int,  # noqa: ARG002
        key: asyncssh.SSHKey,
    ) -> bool:
        self.offered = key.get_fingerprint()
        return self.offered == self.accepted


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._turn, name="sftp", daemon=True)
        self._thread.start()

    def run(self, act: Awaitable[Result]) -> Result:
        async def awaited() -> Result:
            return await act

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _turn(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()


@dataclass(frozen=True)
class _Opened:
    loop: _Loop
    connection: asyncssh.SSHClientConnection
    client: asyncssh.SFTPClient
    process: int = field(default_factory=os.getpid)

    def run(self, act: Awaitable[Result]) -> Result:
        return self.loop.run(act)

    def close(self) -> None:
        if self.process != os.getpid():
            return

        async def ended() -> None:
            self.client.exit()
            self.connection.abort()
            await self.connection.wait_closed()

        self.loop.run(ended())
        self.loop.stop()
