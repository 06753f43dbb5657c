"""Runs that are killed for real where a commit to the lake is made and nothing tells of it yet."""

import subprocess
import sys
from datetime import date

from tests.e2e.installation import REPOSITORY, Installation

_KILLED = """
import os, signal, sys
from datetime import date
from headrace.cli.runner import run_backfill
from platform_assets.recorder import PublicationRecorder

asset, day, select = sys.argv[1:]
publish = PublicationRecorder.publish

def killed(self, context, output, commit):
    def dying(some):
        commit(some)
        os.kill(os.getpid(), signal.SIGKILL)

    is_it = "/".join(context.asset_key.path) == asset
    return publish(self, context, output, dying if is_it else commit)

PublicationRecorder.publish = killed
run_backfill(date.fromisoformat(day), date.fromisoformat(day), select=select, quiet=True)
"""


def kill_after_commit(shop: Installation, asset: str, day: date, *, select: str) -> None:
    """Run a day in a process of its own that dies between the asset's commit and the ledger."""
    command = [sys.executable, "-W", "ignore", "-c", _KILLED, asset, str(day), select]
    with shop.active():
        killed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr.decode()
