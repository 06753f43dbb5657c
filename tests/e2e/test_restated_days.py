"""Days that change after their load reach warehouse and marts with the next run of any day."""

import shutil
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.e2e import installation
from tests.e2e.installation import FIRST, Installation, good_lines

pytestmark = pytest.mark.e2e

DAYS = [FIRST + timedelta(days=n) for n in range(4)]
FACTS = "select date_key % 100, count(*) from warehouse.fact_sales group by 1 order by 1"
MART = """
select extract(day from date)::int, sum(lines)::int
from marts.mart_daily_department group by 1 order by 1
"""
LAKE_ONLY = "group:raw or group:processed or group:curated"


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    root = Path(tempfile.mkdtemp(prefix="headrace-restated-"))
    root.chmod(0o755)
    made = installation.make(root, end=DAYS[-1] + timedelta(days=1))
    made.deliver_catalogue()
    for day in DAYS:
        made.deliver(day, good_lines(day))
    assert made.backfill(DAYS[0], DAYS[2]).exit_code == 0
    try:
        yield made
    finally:
        installation.end(made)
        shutil.rmtree(root, ignore_errors=True)


def test_a_day_published_anew_in_the_lake_follows_with_the_next_load(shop: Installation) -> None:
    shop.deliver(DAYS[1], good_lines(DAYS[1], 7))
    assert shop.backfill(DAYS[1], DAYS[1], select=LAKE_ONLY).exit_code == 0
    assert shop.sql(FACTS) == [(1, 4), (2, 4), (3, 4)]
    assert shop.backfill(DAYS[3], DAYS[3]).exit_code == 0
    assert shop.sql(FACTS) == [(1, 4), (2, 7), (3, 4), (4, 4)]
    assert shop.sql(MART) == [(1, 4), (2, 7), (3, 4), (4, 4)]


def test_what_did_not_change_is_loaded_no_second_time(shop: Installation) -> None:
    places = "select tableoid, ctid, xmin from warehouse.fact_sales order by 1, 2"
    before = shop.sql(places)
    loads = "select partition, load from platform.changed_day order by 1"
    changed = shop.sql(loads)
    assert shop.backfill(DAYS[0], DAYS[-1], select="group:warehouse or group:marts").exit_code == 0
    assert shop.sql(places) == before
    assert shop.sql(loads) == changed


def test_a_mart_follows_a_load_that_it_did_not_see(shop: Installation) -> None:
    shop.deliver(DAYS[2], good_lines(DAYS[2], 6))
    without_marts = f"{LAKE_ONLY} or group:warehouse"
    assert shop.backfill(DAYS[2], DAYS[2], select=without_marts).exit_code == 0
    assert shop.sql(MART)[2] == (3, 4)
    assert shop.backfill(DAYS[0], DAYS[0], select="group:marts").exit_code == 0
    assert shop.sql(MART)[2] == (3, 6)
