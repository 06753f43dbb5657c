"""The demo's servers: a database on the home's Postgres, and a process with two APIs.

They start when something first reads from them, also after a reboot. Only a configuration with
connections of `kind: demo` leads here.
"""

import fcntl
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from demo import shop
from demo.apis.process import CATALOGUE, WHO, ApisState, read_state
from headrace.errors import ConfigError, SourceUnavailableError

_PATHS = {"catalogue": "/catalogue/v1", "weather": "/weather/data/2.5"}
_START_SECONDS = 20
_END_SECONDS = 10
_POLL_SECONDS = 0.02


def folder_of(home: Path) -> Path:
    """The folder of the demo's own files in a home."""
    return home / "demo"


def url_of(home: Path, server: str) -> str:
    """URL of a server, which is started if it does not run.

    Args:
        home: HEADRACE_HOME.
        server: `shop`, `catalogue` or `weather`.

    Raises:
        ConfigError: The demo is not staged.
        SourceUnavailableError: The server did not start.
    """
    if not (folder_of(home) / CATALOGUE).is_file():
        raise ConfigError(f"the demo's servers have no data in {home}", fix="headrace demo stage")
    if server == "shop":
        return shop.reader_url(home)
    return f"{_start_apis(folder_of(home)).url}{_PATHS[server]}"


def stop(home: Path) -> bool:
    """Stop the APIs; False if they do not run. The database stops with the home's Postgres."""
    folder = folder_of(home)
    if read_state(folder) is None:
        return False
    with _locked(folder):
        state = read_state(folder)
        process = _process_of(state) if state else None
        if process is None:
            return False
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()
        return True


def _start_apis(folder: Path) -> ApisState:
    """The process that serves the folder's APIs, started if it does not run."""
    if found := _running(folder):
        return found
    # Serialized: two first captures would otherwise start one each.
    with _locked(folder):
        return _running(folder) or _launch(folder)


def _running(folder: Path) -> ApisState | None:
    """The process of the folder that runs and answers; None if there is none."""
    state = read_state(folder)
    if state is None or _process_of(state) is None:
        return None
    try:
        with urllib.request.urlopen(f"{state.url}{WHO}", timeout=_START_SECONDS) as answer:  # noqa: S310
            who = json.load(answer)
    except (OSError, ValueError):
        return None
    # The state file of a copied home names the process of the original's.
    return state if who == {"folder": str(folder)} else None


def _process_of(state: ApisState) -> psutil.Process | None:
    """The process of a state; None if it has ended, even if another one has its id."""
    try:
        process = psutil.Process(state.pid)
        is_same = process.create_time() == state.started_at
    except psutil.NoSuchProcess:
        return None
    return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None


def _launch(folder: Path) -> ApisState:
    log = folder / "apis.log"
    with log.open("w") as output:
        process = subprocess.Popen(  # noqa: S603  # our own program
            [sys.executable, "-m", "demo.apis.process", str(folder)],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # It outlives the command that needs it first, and its Ctrl-C.
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if (found := _running(folder)) and found.pid == process.pid:
            # It is not waited for; without a code, Python warns that it still runs.
            process.returncode = 0
            return found
        time.sleep(_POLL_SECONDS)
    process.kill()
    process.wait()
    raise SourceUnavailableError("the demo's APIs did not start", fix=f"see {log}, and try again")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
