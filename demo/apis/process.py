"""The process that serves the demo's APIs to an installation: `python -m demo.apis.process FOLDER`.

`demo.servers` starts it. It ends once its state file is gone, such as when the home is deleted.
"""

import json
import os
import signal
import sys
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from demo.apis.catalogue import Catalogue
from demo.apis.server import Answer, Api, ApiServer, Request, error
from demo.apis.weather import Weather

CATALOGUE, STATE = "catalogue.jsonl", "apis.json"
# Answers which installation it serves.
WHO = "/who"

_LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class ApisState:
    """A process that serves the APIs.

    Attributes:
        pid: Its process id.
        started_at: When it started, as psutil says: another process may have the id later.
        port: Its port on 127.0.0.1.
    """

    pid: int
    started_at: float
    port: int

    @property
    def url(self) -> str:
        """What the URLs of its APIs begin with."""
        return f"http://127.0.0.1:{self.port}"


def read_state(folder: Path) -> ApisState | None:
    """The process that serves a folder's APIs, as it recorded itself; it may have ended."""
    try:
        return ApisState(**json.loads((folder / STATE).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def api_of(folder: Path) -> Api:
    """The APIs below one URL: `/catalogue` and `/weather`."""
    apis: dict[str, Api] = {
        "catalogue": Catalogue(folder / CATALOGUE),
        "weather": Weather(key=None),
    }

    def answer(request: Request) -> Answer:
        if request.path == WHO:
            return Answer({"folder": str(folder)})
        _, name, path = f"{request.path}/".split("/", 2)
        if name not in apis:
            return error(404, "NOT_FOUND", f"there is no {request.path}")
        return apis[name](replace(request, path=f"/{path.rstrip('/')}"))

    return answer


class _Server(ApiServer):
    def answer(self, request: Request) -> Answer:
        """The API's answer; requests are not kept, since the process lives long."""
        return self.api(request)


def main() -> None:
    """Serve until a signal, or until the state file is another's or gone."""
    folder = Path(sys.argv[1])
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with _Server(api_of(folder)) as server:
        me = psutil.Process()
        mine = ApisState(os.getpid(), me.create_time(), int(server.url.rpartition(":")[2]))
        unfinished = folder / f".{STATE}.unfinished"
        unfinished.write_text(json.dumps(asdict(mine)))
        unfinished.replace(folder / STATE)
        while not ended.wait(_LOOK_SECONDS) and read_state(folder) == mine:
            pass
    if read_state(folder) == mine:
        (folder / STATE).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
