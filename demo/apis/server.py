"""A local HTTP server for an API that is one function, with faults on request."""

import json
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    """A request; names of headers are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    form: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes:
        body: Bytes as they are, or a value that is written as JSON.
        cut_at: The connection ends after so many bytes of the body.
        wait_seconds: Pause before it is sent.
    """

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    wait_seconds: float = 0.0

    @property
    def content(self) -> bytes:
        """The body's bytes."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Api = Callable[[Request], Answer]


class ApiServer:
    """Serves an API on a free port of this machine, until it is closed.

    Attributes:
        requests: All requests so far, in their order.
        faults: Answers to the next requests, in place of the API's; None lets the API answer.
    """

    def __init__(self, api: Api, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.api = api
        self.requests: list[Request] = []
        self.faults: deque[Answer | None] = deque()
        self._scheme = "http" if tls is None else "https"
        self._server = _Server(("127.0.0.1", port), _handler(self))
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop; open connections end."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, request: Request) -> Answer:
        """The answer to a request: the next fault, or the API's."""
        self.requests.append(request)
        fault = self.faults.popleft() if self.faults else None
        return fault if fault is not None else self.api(request)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that ends its connection is no error."""


def _handler(server: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body are two small packets, of which the second would wait for 40 ms.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base has it
            """Nothing: requests may hold keys."""

        def _serve(self) -> None:
            split = urlsplit(self.path)
            size = int(self.headers.get("content-length", 0))
            form = dict(parse_qsl(self.rfile.read(size).decode(), keep_blank_values=True))
            request = Request(
                self.command,
                split.path,
                dict(parse_qsl(split.query, keep_blank_values=True)),
                {name.lower(): value for name, value in self.headers.items()},
                form,
            )
            answer = server.answer(request)
            time.sleep(answer.wait_seconds)
            content = answer.content
            self.send_response(answer.status)
            for name, value in {"content-type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: answer.cut_at])
            if answer.cut_at is not None:
                self.close_connection = True

    return Handler


def error(status: int, code: str, message: str) -> Answer:
    """An error as many APIs write it."""
    return Answer({"error": {"code": code, "message": message}}, status)
