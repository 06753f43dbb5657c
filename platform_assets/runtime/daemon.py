"""Dagster's daemon, with the forkserver of its runs started before the first run asks for it.

`python -m platform_assets.runtime.daemon run …` takes what `dagster-daemon run …` takes. That one
works too: its first run waits for the imports.
"""

import threading

import dagster as dg
from dagster._daemon.cli import main

from platform_assets.runtime.run_launcher import ForkRunLauncher

# The imports keep a core busy for some seconds, in which the UI starts.
_DELAY_SECONDS = 5.0


def _prepare() -> None:
    with dg.DagsterInstance.get() as instance:
        launcher = instance.run_launcher
        # Another one may be configured: on Kubernetes, runs start elsewhere.
        if isinstance(launcher, ForkRunLauncher):
            launcher.prepare()


if __name__ == "__main__":
    timer = threading.Timer(_DELAY_SECONDS, _prepare)
    timer.daemon = True
    timer.start()
    main()
