"""How the command and the warm process talk: lengths and JSON over a Unix socket.

Belongs here: messages, open files passed along, who is at the other end, where the socket is.
Elsewhere: what is said (headrace.warm.client, headrace.warm.server).

Of the standard library, and little of that: each command imports this first.
"""

import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

SOCKET = "warm.sock"
LOCK = "warm.lock"
_LENGTH = struct.Struct("!I")
_PEER = struct.Struct("3i")
# Standard input, output, error, and the folder that the command was started in.
FILES = 4


def send(connection: socket.socket, message: dict[str, Any], files: Sequence[int] = ()) -> None:
    """Send a message, and open files with it.

    Raises:
        OSError: The other end is gone, or does not read.
    """
    content = json.dumps(message).encode("utf-8", "surrogatepass")
    length = _LENGTH.pack(len(content))
    if files:
        socket.send_fds(connection, [length], list(files))
    else:
        connection.sendall(length)
    connection.sendall(content)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and the files that came with it; None: the other end is gone.

    Raises:
        OSError: It was silent for longer than the connection's timeout.
    """
    start, files, _, _ = socket.recv_fds(connection, _LENGTH.size, FILES)
    head = start + _exactly(connection, _LENGTH.size - len(start)) if start else b""
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    content = _exactly(connection, length)
    if len(content) < length:
        return None
    message: dict[str, Any] = json.loads(content.decode("utf-8", "surrogatepass"))
    return message, files


def is_own(connection: socket.socket) -> bool:
    """Whether the process at the other end is of the same user, as the system knows it."""
    return _peer(connection)[1] == os.geteuid()


def process_of(connection: socket.socket) -> int:
    """Process id of the other end, as the system knows it."""
    return _peer(connection)[0]


def address(home_file: int) -> str:
    """The socket's path by way of an open folder: a Unix socket's own may have 107 bytes only."""
    return f"/proc/self/fd/{home_file}/{SOCKET}"


def _peer(connection: socket.socket) -> tuple[int, int, int]:
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    process, user, group = _PEER.unpack(found)
    return process, user, group


def _exactly(connection: socket.socket, count: int) -> bytes:
    content = bytearray()
    while len(content) < count:
        more = connection.recv(min(count - len(content), 1 << 16))
        if not more:
            break
        content += more
    return bytes(content)
