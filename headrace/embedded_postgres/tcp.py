"""The embedded PostgreSQL on a TCP port of this machine, for tools that cannot use a socket."""

import os
import socket
from pathlib import Path

from headrace.embedded_postgres import server
from headrace.embedded_postgres.server import EmbeddedPostgres
from headrace.errors import ConfigError

ADDRESS = "127.0.0.1"
# The socket is the owner's alone. By the port everybody needs a password, and the superuser,
# who has none, stays out.
_WHO_MAY_CONNECT = f"""\
# Written by headrace warehouse listen.
local all all trust
host all postgres {ADDRESS}/32 reject
host all all {ADDRESS}/32 scram-sha-256
"""


def open_port(folder: Path, port: int) -> EmbeddedPostgres:
    """Have the server of `folder` listen on a port of 127.0.0.1, from now on.

    It is restarted: sessions are cut off.

    Raises:
        ConfigError: The port is taken, or none.
    """
    running = server.start(folder)
    if running.port != port:
        _require_free(port)
    server.stop(folder)
    rules = running.data_directory / "pg_hba.conf"
    owner = running.data_directory.stat()
    rules.write_text(_WHO_MAY_CONNECT)
    if os.geteuid() == 0:
        os.chown(rules, owner.st_uid, owner.st_gid)
    server.port_file(folder).write_text(f"{port}\n")
    return server.start(folder)


def close_port(folder: Path) -> EmbeddedPostgres:
    """Have the server of `folder` listen on its socket only; it is restarted."""
    server.port_file(folder).unlink(missing_ok=True)
    server.stop(folder)
    return server.start(folder)


def _require_free(port: int) -> None:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((ADDRESS, port))
    except (OSError, OverflowError):
        raise ConfigError(
            f"nothing can listen on port {port} of {ADDRESS}", fix="choose a free port above 1023"
        ) from None
