"""Runs in processes of their own, and such that are killed for real around a commit to the lake."""

import subprocess
import sys
from datetime import date
from typing import Literal

from tests.e2e.installation import REPOSITORY, Installation

_RUN = """
import sys
from datetime import date
from headrace.cli.backfill import run_backfill

first, last, select = sys.argv[1:]
first, last = date.fromisoformat(first), date.fromisoformat(last)
sys.exit(run_backfill(first, last, select=select, quiet=True).exit_code)
"""
_KILLED = """
import os, signal, sys
from datetime import date
from headrace.cli.backfill import run_backfill
from platform_assets.steps.recorder import LedgerRecorder

asset, when, first, last, select = sys.argv[1:]
publish = LedgerRecorder.publish

def killed(self, context, output, commit):
    def dying(some):
        if when == "after":
            commit(some)
        os.kill(os.getpid(), signal.SIGKILL)

    is_it = "/".join(context.asset_key.path) == asset
    return publish(self, context, output, dying if is_it else commit)

LedgerRecorder.publish = killed
first, last = date.fromisoformat(first), date.fromisoformat(last)
sys.exit(run_backfill(first, last, select=select, quiet=True).exit_code)
"""
_KILL = -9


def start_run(shop: Installation, first: date, last: date, *, select: str) -> subprocess.Popen[str]:
    """A run of some days in a process of its own, which goes on beside this one."""
    command = [sys.executable, "-W", "ignore", "-c", _RUN, str(first), str(last), select]
    with shop.active():
        return subprocess.Popen(
            command,
            cwd=REPOSITORY,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )


def kill_after_commit(shop: Installation, asset: str, day: date, *, select: str) -> None:
    """Run a day in a process of its own that dies between the asset's commit and the ledger."""
    assert run_killed(shop, asset, "after", day, day, select=select), "it ended before"


def run_killed(
    shop: Installation,
    asset: str,
    when: Literal["before", "after"],
    first: date,
    last: date,
    *,
    select: str,
) -> bool:
    """Run some days in a process that dies around the asset's commit; whether it came to that."""
    days = [str(first), str(last)]
    command = [sys.executable, "-W", "ignore", "-c", _KILLED, asset, when, *days, select]
    with shop.active():
        killed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False)
    assert killed.returncode in (_KILL, 0, 3), killed.stderr.decode()
    return killed.returncode == _KILL
