"""The demo's year in random orders: the star is the same to the last row. Nightly.

`make test-orders`; ORDERS=3 takes three orders instead of ten.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from headrace.cli.backfill import run_backfill
from headrace.config.loader import load_project
from headrace.embedded_postgres import server
from headrace.project.home import Home
from tests.e2e.installation import REPOSITORY, Installation

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FIRST, LAST = date(2017, 1, 1), date(2018, 1, 1)
ORDERS = int(os.environ.get("ORDERS", "10"))
SELECT = "+group:warehouse"
TABLES = ("dim_customer", "dim_product", "dim_location", "fact_sales")

Star = dict[str, tuple[int, int]]


@contextmanager
def _year(landing: Path | None = None) -> Iterator[Installation]:
    """A new installation of the demo, over a landing folder that is staged once."""
    root = Path(tempfile.mkdtemp(prefix="headrace-orders-"))
    root.chmod(0o755)
    made = Installation(root)
    shutil.copytree(REPOSITORY / "demo/files/config", made.config)
    (root / "dbt").symlink_to(REPOSITORY / "demo/files/dbt")
    made.home.mkdir()
    if landing:
        made.landing.symlink_to(landing)
    try:
        yield made
    finally:
        server.stop(Home(made.home).postgres)
        shutil.rmtree(root, ignore_errors=True)


def run(shop: Installation, start: date, end: date) -> None:
    with shop.active():
        result = run_backfill(start, end, select=SELECT, quiet=True)
    assert result.exit_code == 0, result.summary


def star(shop: Installation) -> Star:
    """Rows and the sum of their hashes: equal for equal sets of rows, whatever their order."""
    found: Star = {}
    for table in TABLES:
        query = (
            f"select count(*), sum(hashtextextended(t::text, 0)::numeric) from warehouse.{table} t"
        )
        found[table] = shop.sql(query)[0]
    return found


def windows(random: Random) -> list[tuple[date, date]]:
    """The year cut into some ranges, in random order, two of them twice."""
    days = (LAST - FIRST).days + 1
    cuts = sorted(random.sample(range(1, days), random.randrange(4, 9)))
    bounds = [0, *cuts, days]
    found = [
        (FIRST + timedelta(days=a), FIRST + timedelta(days=b - 1)) for a, b in pairwise(bounds)
    ]
    return random.sample(found, len(found)) + random.sample(found, 2)


@pytest.fixture(scope="module")
def in_order() -> Iterator[tuple[Installation, Star]]:
    with _year() as shop:
        with shop.active():
            from headrace.cli.demo import stage  # noqa: PLC0415  # reads the environment

            stage()
            assert load_project().home == shop.home
        run(shop, FIRST, LAST)
        yield shop, star(shop)


@pytest.mark.parametrize("seed", range(ORDERS))
def test_the_year_in_any_order_is_the_year(in_order: tuple[Installation, Star], seed: int) -> None:
    first, expected = in_order
    assert expected["fact_sales"][0] > 1_400_000
    assert expected["dim_product"][0] > 92_331, "products have history"
    with _year(first.landing) as shop:
        for start, end in windows(Random(seed)):  # noqa: S311  # reproducible
            run(shop, start, end)
        assert star(shop) == expected
