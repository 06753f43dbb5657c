"""Dagster's daemon, whose forkserver can be started before the first run asks for it.

`python -m platform_assets.runtime.daemon run …` takes what `dagster-daemon run …` takes. A line on
its standard input starts the forkserver; without one, as with `dagster-daemon`, the first run waits
for the imports.
"""

import sys
import threading

import dagster as dg
from dagster._daemon.cli import main

from platform_assets.runtime.run_launcher import ForkRunLauncher


def _prepare_when_asked() -> None:
    if not sys.stdin.readline():
        return
    with dg.DagsterInstance.get() as instance:
        launcher = instance.run_launcher
        # Another one may be configured: on Kubernetes, runs start elsewhere.
        if isinstance(launcher, ForkRunLauncher):
            launcher.prepare()


if __name__ == "__main__":
    threading.Thread(target=_prepare_when_asked, daemon=True).start()
    main()
