"""A backfill that is killed: nothing half-written is seen, and the next run repairs it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tests.e2e import installation
from tests.e2e.installation import FIRST, Installation, good_lines

pytestmark = pytest.mark.crash

DAYS = [FIRST + timedelta(days=n) for n in range(4)]
FACTS = "select date_key, count(*), sum(sales_value) from warehouse.fact_sales group by 1"
MART = "select date, sum(lines)::bigint, sum(sales) from marts.mart_daily_department group by 1"
# The last step that says it is done before the process dies.
POINTS = (
    pytest.param("raw/retail_transactions", marks=pytest.mark.slow),
    "processed/retail_transactions",
    pytest.param("curated/fact_sales", marks=pytest.mark.slow),
    "warehouse/fact_sales",
)


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    with _shop() as made:
        made.deliver_catalogue()
        for day in DAYS:
            made.deliver(day, good_lines(day))
        assert made.backfill(DAYS[0], DAYS[-1]).exit_code == 0
        yield made


@contextmanager
def _shop() -> Iterator[Installation]:
    root = Path(tempfile.mkdtemp(prefix="headrace-crash-"))
    root.chmod(0o755)
    made = installation.make(root, end=DAYS[-1] + timedelta(days=1))
    try:
        yield made
    finally:
        installation.end(made)
        shutil.rmtree(root, ignore_errors=True)


def kill_backfill(shop: Installation, point: str) -> bool:
    """Start a backfill in a process of its own and kill it once `point` is staged."""
    command = ["backfill", "--from", str(DAYS[0]), "--to", str(DAYS[-1])]
    with (
        shop.active(),
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "headrace.cli.app", *command],
            cwd=installation.REPOSITORY,
            env=dict(os.environ),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(point):
                os.killpg(process.pid, signal.SIGKILL)
                return True
    return False


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_backfill_shows_no_half_and_the_next_one_repairs_it(
    shop: Installation, point: str
) -> None:
    before = (sorted(shop.sql(FACTS)), sorted(shop.sql(MART)))
    # Every round delivers corrected files: five lines a day instead of four, or four again.
    rows = 9 - before[0][0][1]
    for day in DAYS:
        shop.deliver(day, good_lines(day, rows))
    assert kill_backfill(shop, point)
    seen = sorted(shop.sql(FACTS))
    assert {row[1] for row in seen} in ({4}, {5})
    assert shop.backfill(DAYS[0], DAYS[-1]).exit_code == 0
    after = (sorted(shop.sql(FACTS)), sorted(shop.sql(MART)))
    assert [row[1] for row in after[0]] == [rows] * len(DAYS)
    assert [row[1] for row in after[1]] == [rows] * len(DAYS)
    raw = shop.lake("raw.retail_transactions")
    versions = {(row["_object_version"], row["_source_position"]) for row in raw}
    assert len(raw) == len(versions), "a version was captured twice"
