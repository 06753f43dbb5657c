"""A whole backfill in a fork of the warm process, with the real imports and dbt in another fork."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from headrace.warm import client
from tests.e2e import installation
from tests.e2e.installation import FIRST, Installation, good_lines

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="there is no warm process elsewhere"),
]
WAIT_SECONDS = 180


@pytest.fixture
def shop() -> Iterator[Installation]:
    # pytest's own folders are closed to the account that runs PostgreSQL for root.
    root = Path(tempfile.mkdtemp(prefix="headrace-warm-"))
    root.chmod(0o755)
    made = installation.make(root, end=FIRST + timedelta(days=1))
    made.deliver_catalogue()
    made.deliver(FIRST, good_lines(FIRST))
    yield made
    client.end(made.home)
    installation.end(made)
    shutil.rmtree(root, ignore_errors=True)


def headrace(shop: Installation, *words: str) -> "subprocess.CompletedProcess[str]":
    with shop.active():
        return subprocess.run(
            [sys.executable, "-m", "headrace.warm.client", *words],
            cwd=installation.REPOSITORY,
            env={**os.environ, "HEADRACE_WARM_MINUTES": "5"},
            capture_output=True,
            text=True,
            check=False,
        )


def warm_process(shop: Installation) -> psutil.Process:
    gives_up_at = time.monotonic() + WAIT_SECONDS
    while (pid := client.process_of(shop.home)) is None:
        assert time.monotonic() < gives_up_at, "no process stayed"
        # Again: a process that saw code change while it imported it ends, for good reason.
        headrace(shop, "check")
        time.sleep(1)
    return psutil.Process(pid)


def test_a_warm_backfill_builds_every_layer_and_leaves_nothing_running(
    shop: Installation,
) -> None:
    server = warm_process(shop)
    day = str(FIRST)
    done = headrace(shop, "backfill", "--from", day, "--to", day, "--json")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "resource_tracker" not in done.stderr
    assert json.loads(done.stdout)["bad"] == []
    assert shop.sql("select sum(lines)::bigint from marts.mart_daily_department") == [(4,)]
    assert server.children(recursive=True) == []
    # Its own work is none: what ran, ran in the fork.
    assert server.num_threads() == 1
    assert not server.net_connections()[1:]
