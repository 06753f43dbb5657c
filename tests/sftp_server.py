"""A real SFTP server in this process, on a port of its own, with a folder as its root."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

USER, PASSWORD = "partner", "canary-sftp-password"


@dataclass
class SftpServer:
    """What tests need to reach the server, and to misuse it.

    Attributes:
        folder: Its root.
        port: On 127.0.0.1.
        host_key: The fingerprint of its key.
        public_key: Its line for a file of known hosts.
        user_key: A private key that it accepts, as text.
        cut_after: The connection is cut when so many bytes were read; None: it is not.
    """

    folder: Path
    port: int = 0
    host_key: str = ""
    public_key: str = ""
    user_key: str = ""
    cut_after: int | None = None
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop, repr=False)
    clients: list[asyncssh.SSHServerConnection] = field(default_factory=list, repr=False)

    def connection(self, **changes: Any) -> dict[str, Any]:
        """A valid declaration of the connection; `changes` replace parts, None drops them."""
        declared = {
            "kind": "sftp",
            "host": "127.0.0.1",
            "port": self.port,
            "user": USER,
            "password": {"env": "PARTNER_PASSWORD"},
            "host_key": self.host_key,
            "folder": "/",
            "read_seconds": 10,
        }
        return {key: value for key, value in (declared | changes).items() if value is not None}


@contextmanager
def sftp_server(folder: Path) -> Iterator[SftpServer]:
    """A running server."""
    server = SftpServer(folder)
    thread = threading.Thread(target=server.loop.run_forever, daemon=True)
    thread.start()
    listening = asyncio.run_coroutine_threadsafe(_listen(server), server.loop).result()
    try:
        yield server
    finally:

        async def end() -> None:
            listening.close()
            await listening.wait_closed()
            for client in server.clients:
                client.abort()
                await client.wait_closed()

        asyncio.run_coroutine_threadsafe(end(), server.loop).result(10)
        server.loop.call_soon_threadsafe(server.loop.stop)
        thread.join(10)
        server.loop.close()


@dataclass
class _Login(asyncssh.SSHServer):
    """Lets one user in, by password or key."""

    server: SftpServer
    key: asyncssh.SSHKey

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.server.clients.append(conn)

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == USER and key.get_fingerprint() == self.key.get_fingerprint()


class _Files(asyncssh.SFTPServer):
    """Serves a folder; may cut the connection in a file."""

    def __init__(self, channel: Any, server: SftpServer) -> None:
        super().__init__(channel, chroot=os.fsencode(server.folder))
        self._server, self._sent = server, 0

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if path.endswith(b"secret.csv"):
            raise asyncssh.SFTPPermissionDenied("not for you")
        return super().open(path, pflags, attrs)

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        found: Any = super().read(file_obj, offset, size)
        self._sent += size
        if self._server.cut_after is not None and self._sent > self._server.cut_after:
            self.channel.get_connection().abort()
        return bytes(found)


async def _listen(server: SftpServer) -> asyncssh.SSHAcceptor:
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    user_key = asyncssh.generate_private_key("ssh-ed25519")
    listening = await asyncssh.create_server(
        lambda: _Login(server, user_key),
        "127.0.0.1",
        0,
        server_host_keys=[host_key],
        sftp_factory=lambda channel: _Files(channel, server),
    )
    server.port = listening.get_port()
    server.host_key = host_key.get_fingerprint()
    public = host_key.export_public_key().decode().strip()
    server.public_key = f"[127.0.0.1]:{server.port} {public}"
    server.user_key = user_key.export_private_key().decode()
    return listening
