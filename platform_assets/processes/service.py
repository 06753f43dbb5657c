"""Dagster's daemon or web server, which imports while the code server loads the definitions.

`python -m platform_assets.processes.service daemon|web_server SOCKET …` takes the further arguments
of the service. It imports at once, and begins to serve when the code server's socket exists. A line
on the daemon's standard input starts the forkserver of its runs; without that line the first run
starts it, and waits for its imports.
"""

import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

_MAIN_OF = {"daemon": "platform_assets.processes.daemon", "web_server": "dagster_webserver.cli"}
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
    sys.argv = [name, *arguments]
    run()


if __name__ == "__main__":
    main()
