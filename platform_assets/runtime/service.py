"""Dagster's daemon or web server, which imports while the code server loads the definitions.

`python -m platform_assets.runtime.service daemon|web_server SOCKET …` takes the other arguments of
`dagster-daemon` or `dagster-webserver`. It imports at once, and begins to serve when the code
server's socket exists. A line on the daemon's standard input starts the forkserver of its runs;
without that line the first run starts it, and waits for its imports.
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
_POLL_SECONDS = 0.05


def main() -> None:
    """Import a service, wait for the code server, run the service."""
    _, name, socket, *arguments = sys.argv
    run: Callable[[], None] = import_module(_MAIN_OF[name]).main
    try:
        while not Path(socket).exists():
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        return
    if name == "daemon":
        threading.Thread(target=_start_forkserver_after_a_line, daemon=True).start()
    sys.argv = [name, *arguments]
    run()


def _start_forkserver_after_a_line() -> None:
    if not sys.stdin.readline():
        return
    with dg.DagsterInstance.get() as instance:
        launcher = instance.run_launcher
        # dagster.yaml may name another launcher, such as that of Kubernetes.
        if isinstance(launcher, ForkRunLauncher):
            launcher.prepare()


if __name__ == "__main__":
    main()
