"""A server of MongoDB's protocol that answers what a test says: errors, cuts, documents at will."""

import socketserver
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

_QUERY, _REPLY, _MESSAGE = 2004, 1, 2013
_HEADER = struct.Struct("<iiii")

# Documents of one answer; the code of an error; None: the connection is cut.
Answer = Sequence[bytes] | int | None


@dataclass
class Script:
    """What the server answers.

    Attributes:
        answers: To `find` and each `getMore` after it.
        errors: Codes of errors, by the name of the command.
        commands: What was asked, without handshakes.
    """

    answers: Sequence[Answer] = ((),)
    errors: Mapping[str, int] = field(default_factory=dict)
    commands: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, command: Mapping[str, Any]) -> bytes | None:
        """The document that answers a command; None: the connection is cut."""
        name = next(iter(command))
        if name.lower() in ("hello", "ismaster"):
            return bson.encode(_hello())
        self.commands.append(dict(command))
        if name in self.errors:
            return _error(self.errors[name])
        if name == "listCollections":
            found = [{"name": "orders", "type": "collection"}]
            return bson.encode({"cursor": {"id": 0, "ns": "shop.x", "firstBatch": found}, "ok": 1})
        if name in ("find", "getMore"):
            place = 0 if name == "find" else int(command["getMore"])
            return self._batch(place)
        return bson.encode({"ok": 1})

    def _batch(self, place: int) -> bytes | None:
        answer = self.answers[place]
        if answer is None:
            return None
        if isinstance(answer, int):
            return _error(answer)
        following = place + 1 if place + 1 < len(self.answers) else 0
        documents = [RawBSONDocument(text) for text in answer]
        batch = "nextBatch" if place else "firstBatch"
        cursor = {"id": bson.Int64(following), "ns": "shop.orders", batch: documents}
        return bson.encode({"cursor": cursor, "ok": 1})


@contextmanager
def serving(script: Script) -> Iterator[str]:
    """Serve a script at the URL."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while (request := _received(self.request)) is not None:
                number, code, body = request
                answer = script.answer(_command(code, body))
                if answer is None:
                    return
                self.request.sendall(_framed(number, code, answer))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            port = server.server_address[1]
            options = "directConnection=true&serverSelectionTimeoutMS=2000"
            yield f"mongodb://127.0.0.1:{port}/shop?{options}"
        finally:
            server.shutdown()
            thread.join()


def _hello() -> dict[str, Any]:
    return {
        "helloOk": True,
        "ismaster": True,
        "isWritablePrimary": True,
        "maxBsonObjectSize": 2**24,
        "maxMessageSizeBytes": 48_000_000,
        "maxWriteBatchSize": 100_000,
        "localTime": datetime.now(UTC),
        "minWireVersion": 0,
        "maxWireVersion": 21,
        "ok": 1,
    }


def _error(code: int) -> bytes:
    # The server's words may quote documents and users.
    return bson.encode({"ok": 0, "code": code, "errmsg": "s3cret words of canary"})


def _received(connection: Any) -> tuple[int, int, bytes] | None:
    header = _exactly(connection, _HEADER.size)
    if header is None:
        return None
    length, number, _, code = _HEADER.unpack(header)
    body = _exactly(connection, length - _HEADER.size)
    return None if body is None else (number, code, body)


def _exactly(connection: Any, count: int) -> bytes | None:
    found = bytearray()
    while len(found) < count:
        try:
            piece = connection.recv(count - len(found))
        except OSError:
            return None
        if not piece:
            return None
        found += piece
    return bytes(found)


def _command(code: int, body: bytes) -> dict[str, Any]:
    if code == _QUERY:
        start = body.index(b"\0", 4) + 1 + 8
        return bson.decode(body[start:])
    # Flags, and the kind of the first section.
    return bson.decode(body[5:])


def _framed(number: int, code: int, document: bytes) -> bytes:
    if code == _QUERY:
        body = struct.pack("<iqii", 8, 0, 0, 1) + document
        return _HEADER.pack(len(body) + _HEADER.size, 1, number, _REPLY) + body
    body = struct.pack("<iB", 0, 0) + document
    return _HEADER.pack(len(body) + _HEADER.size, 1, number, _MESSAGE) + body
