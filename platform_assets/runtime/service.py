"""Dagster's daemon or web server, which imports while the code server loads the definitions.

`python -m platform_assets.runtime.service daemon|web_server SOCKET …` begins once the code server's
socket is there, with the arguments of `dagster-daemon` or `dagster-webserver`. A line on the
daemon's standard input then starts the forkserver of its runs; without one, as with
`dagster-daemon`, the first run waits for the imports.
"""

import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import dagster as dg

from platform_assets.runtime.run_launcher import ForkRunLauncher

_MAIN_OF = {"daemon": "dagster._daemon.cli", "web_server": "dagster_webserver.cli"}
_LOOK_SECONDS = 0.05


def main() -> None:
    """Import a service, wait for the code server, run the service."""
    _, name, socket, *arguments = sys.argv
    run: Callable[[], None] = import_module(_MAIN_OF[name]).main
    try:
        while not Path(socket).exists():
            time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        return
    if name == "daemon":
        threading.Thread(target=_prepare_runs_when_asked, daemon=True).start()
    sys.argv = [name, *arguments]
    run()


def _prepare_runs_when_asked() -> None:
    if not sys.stdin.readline():
        return
    with dg.DagsterInstance.get() as instance:
        launcher = instance.run_launcher
        # Another one may be configured: on Kubernetes, runs start elsewhere.
        if isinstance(launcher, ForkRunLauncher):
            launcher.prepare()


if __name__ == "__main__":
    main()
