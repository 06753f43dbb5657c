"""History is right in any order: late days, corrections, days that are gone, split ranges."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from random import Random

import pytest

from headrace.cli.audit import audit_star
from tests.e2e import history_shop, installation
from tests.e2e.history_shop import DAYS, HistoryShop

pytestmark = pytest.mark.e2e

Star = dict[str, list[tuple[object, ...]]]
CORRECTED, GONE = DAYS[2], DAYS[4]


@contextmanager
def _shop() -> Iterator[HistoryShop]:
    root = Path(tempfile.mkdtemp(prefix="headrace-history-"))
    root.chmod(0o755)
    made = history_shop.make(root)
    try:
        yield made
    finally:
        installation.end(made.shop)
        shutil.rmtree(root, ignore_errors=True)


def deliver_all(shop: HistoryShop) -> None:
    for day in DAYS:
        shop.deliver(day, correction=int(day == CORRECTED))
    shop.empty(GONE)


def equal(shop: HistoryShop) -> bool:
    with shop.shop.active():
        return all(table.is_equal for table in audit_star(quiet=True))


@pytest.fixture(scope="module")
def in_order() -> Iterator[Star]:
    """The star from the final files, all days in one run."""
    with _shop() as shop:
        deliver_all(shop)
        shop.run(DAYS[0], DAYS[-1])
        yield shop.star()


def test_the_case_has_what_makes_history_hard(in_order: Star) -> None:
    assert len(in_order["fact_sales"]) > 15
    products = in_order["dim_product"]
    assert len(products) > len({row[1] for row in products}) + 3, "several versions of products"


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3))])
def test_days_in_any_order_with_corrections_give_the_star_of_one_run(
    in_order: Star, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a dimension of many members is loaded: what differs is found out first.
    monkeypatch.setattr("headrace.pipeline.warehouse._ROWS_TO_COMPARE", 1)
    random = Random(seed)  # noqa: S311  # reproducible
    with _shop() as shop:
        order: list[date] = random.sample(DAYS, len(DAYS))
        for day in order:
            shop.deliver(day)
            shop.run(day, day)
        # Corrected, and gone, after everything else was published.
        shop.deliver(CORRECTED, correction=1)
        shop.empty(GONE)
        for day in random.sample([CORRECTED, GONE], 2):
            shop.run(day, day)
        assert shop.star() == in_order
        assert equal(shop)


def test_the_audit_finds_what_was_changed_behind_the_platforms_back() -> None:
    with _shop() as shop:
        for day in DAYS[:2]:
            shop.deliver(day)
        shop.run(DAYS[0], DAYS[1])
        assert equal(shop)
        change = "update warehouse.fact_sales set amount = amount + 1 where sale_id % 100 = 1"
        shop.shop.sql(change, write=True)
        with shop.shop.active():
            found = {table.table: table for table in audit_star(quiet=True)}
        differing = [name for name, table in found.items() if not table.is_equal]
        assert differing == ["warehouse.fact_sales"]
        assert found["warehouse.fact_sales"].missing == 2
        assert found["warehouse.fact_sales"].examples[0].startswith("missing: sale_id")
