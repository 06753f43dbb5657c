"""FerretDB, which speaks MongoDB's protocol, on a free local port and gone at the end."""

import hashlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

_START_SECONDS = 30.0
_PROGRAM = Path(__file__).parent / "ferretdb"


@dataclass
class MongoServer:
    """A server.

    Attributes:
        folder: Its data.
        port: Of 127.0.0.1.
    """

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    def url(self, database: str = "shop", options: str = "") -> str:
        """The URL of a connection; the server has no users."""
        return f"mongodb://127.0.0.1:{self.port}/{database}?directConnection=true{options}"

    @cached_property
    def client(self) -> "MongoClient[dict[str, Any]]":
        """A client that may write; it connects again after a restart."""
        return MongoClient(self.url())

    def restart(self) -> None:
        """End the server, which ends all connections, and start it again with its data."""
        self.process.terminate()
        self.process.wait()
        self.process = _start(self.folder, self.port)


def missing() -> str | None:
    """Why it cannot run here; None if it can."""
    return None if _binary().exists() else "FerretDB is not built: run tests/ferretdb/build"


@contextmanager
def running(folder: Path) -> Iterator[MongoServer]:
    """Start a server whose files are in `folder`; end it."""
    port = _free_port()
    server = MongoServer(folder, port, _start(folder, port))
    try:
        yield server
    finally:
        server.client.close()
        server.process.kill()
        server.process.wait()


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [str(_binary()), f"127.0.0.1:{port}", str(folder)], stdout=log, stderr=log, cwd=folder
        )
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            with MongoClient[dict[str, Any]](
                f"mongodb://127.0.0.1:{port}/?directConnection=true", serverSelectionTimeoutMS=1000
            ) as client:
                client.admin.command("ping")
        except PyMongoError:
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                process.wait()
                text = (folder / "log").read_text()[-2000:]
                raise RuntimeError(f"FerretDB did not start: {text}") from None
            time.sleep(0.05)
            continue
        return process


def _binary() -> Path:
    """What tests/ferretdb/build makes."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    sources = (_PROGRAM / "main.go").read_bytes() + (_PROGRAM / "go.mod").read_bytes()
    return cache / "headrace" / f"ferretdb-{hashlib.sha256(sources).hexdigest()[:12]}"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
