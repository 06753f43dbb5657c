"""The embedded PostgreSQL on a TCP port of this machine, for tools that cannot use a socket."""

import os
import socket
from pathlib import Path

from headrace.embedded_postgres import server
from headrace.embedded_postgres.server import EmbeddedPostgres
from headrace.errors import ConfigError

ADDRESS = "127.0.0.1"
# The socket is accessible to its owner only. On the port all users need a password; the superuser
# has none and is rejected.
_HBA_RULES = f"""\
# Written by headrace warehouse listen.
local all all trust
host all postgres {ADDRESS}/32 reject
host all all {ADDRESS}/32 scram-sha-256
"""


def open_port(folder: Path, port: int) -> EmbeddedPostgres:
    """Make the server of `folder` listen on a port of 127.0.0.1, also after restarts.

    The server is restarted, which ends its sessions.

    Raises:
        ConfigError: The port is in use, or not a valid port.
    """
    running = server.start(folder)
    if running.port != port:
        _require_free(port)
    server.stop(folder)
    rules = running.data_directory / "pg_hba.conf"
    owner = running.data_directory.stat()
    rules.write_text(_HBA_RULES)
    if os.geteuid() == 0:
        os.chown(rules, owner.st_uid, owner.st_gid)
    server.port_file(folder).write_text(f"{port}\n")
    return server.start(folder)


def close_port(folder: Path) -> EmbeddedPostgres:
    """Make the server of `folder` listen on its socket only; it is restarted."""
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
