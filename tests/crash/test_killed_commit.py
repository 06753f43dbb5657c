"""A run that is killed between a commit to the lake and the ledger's rows of it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest
import yaml

from tests.e2e import history_shop, installation
from tests.e2e.history_shop import DAYS, HistoryShop
from tests.e2e.killing import kill_after_commit

# A short round of the same is in tests/e2e/test_restated_days.py.
pytestmark = [pytest.mark.crash, pytest.mark.slow]

_BALANCES = {
    "name": "fact_balances",
    "kind": "periodic_snapshot",
    "snapshot_of": "movements",
    "entity": "shop.sales",
    "grain": ["customer_id"],
    "dimensions": [
        {"dimension": "dim_customer", "natural_key": {"customer_id": "customer_id"}},
    ],
    "measures": ["amount"],
}
COLUMNS = {
    "dim_product": ("product_key", "size", "valid_from", "valid_to"),
    "dim_customer": ("customer_key", "city", "valid_from", "valid_to"),
    "fact_sales": ("sale_id", "product_key", "customer_key", "amount"),
    "fact_balances": ("date_key", "customer_key", "amount"),
}


@contextmanager
def _shop() -> Iterator[HistoryShop]:
    """A shop with one more fact, whose days depend on those before, and four days of each."""
    root = Path(tempfile.mkdtemp(prefix="headrace-commit-"))
    root.chmod(0o755)
    made = history_shop.make(root)
    path = made.shop.config / "star.yaml"
    star = yaml.safe_load(path.read_text())
    star["facts"].append(_BALANCES)
    path.write_text(yaml.safe_dump(star))
    for day in DAYS:
        deliver(made, "customers", day, "customer_id,city", "1,A")
        deliver(made, "products", day, "product_id,size,brand,changed_at,operation")
        deliver_sales(made, day, 1, 2)
    deliver_size(made, DAYS[0], "S", delivered_on=DAYS[0])
    try:
        yield made
    finally:
        installation.end(made.shop)
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def shop() -> Iterator[HistoryShop]:
    with _shop() as made:
        made.run(DAYS[0], DAYS[3])
        yield made


def deliver(shop: HistoryShop, entity: str, day: date, *lines: str) -> None:
    path = shop.shop.landing / entity / f"{entity}-{day}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]))


def deliver_sales(shop: HistoryShop, day: date, *numbers: int) -> None:
    lines = [f"{day.toordinal() * 10 + n},1,1,{day} 12:00:00,{n}.5" for n in numbers]
    deliver(shop, "sales", day, "sale_id,product_id,customer_id,sold_at,amount", *lines)


def deliver_size(
    shop: HistoryShop, since: date, size: str, *, delivered_on: date, hour: int = 8
) -> None:
    header = "product_id,size,brand,changed_at,operation"
    deliver(shop, "products", delivered_on, header, f"1,{size},X,{since} {hour:02}:00:00,U")


def rows(shop: HistoryShop, table: str) -> tuple[list[str], list[str]]:
    """The rows of a table in the lake and in the warehouse."""
    columns = COLUMNS[table]
    lake = [tuple(row[name] for name in columns) for row in shop.shop.lake(f"curated.{table}")]
    loaded = shop.shop.sql(f"select {', '.join(columns)} from warehouse.{table}")
    return sorted(map(str, lake)), sorted(map(str, loaded))


def behind(shop: HistoryShop) -> set[str]:
    """Tables of the warehouse that are not as the lake has them."""
    both = {table: rows(shop, table) for table in COLUMNS}
    return {table for table, (lake, loaded) in both.items() if lake != loaded}


def test_a_dimension_whose_commit_was_not_written_down_follows(shop: HistoryShop) -> None:
    deliver_size(shop, DAYS[1], "M", delivered_on=DAYS[3])
    kill_after_commit(
        shop.shop, "curated/dim_product", DAYS[3], select='+key:"curated/dim_product"'
    )
    assert behind(shop) == {"dim_product"}
    before = rows(shop, "fact_sales")
    shop.run(DAYS[0], DAYS[0])
    assert behind(shop) == set()
    assert rows(shop, "fact_sales") != before


def test_days_of_facts_whose_commit_was_not_written_down_follow(shop: HistoryShop) -> None:
    # The run's own day is emptied; it moves keys of the day before, and balances of days after.
    deliver_size(shop, DAYS[0], "L", delivered_on=DAYS[1], hour=10)
    deliver_sales(shop, DAYS[1])
    kill_after_commit(shop.shop, "curated/fact_sales", DAYS[1], select='+key:"curated/fact_sales"')
    kill_after_commit(
        shop.shop, "curated/fact_balances", DAYS[1], select='key:"curated/fact_balances"'
    )
    assert behind(shop) == {"dim_product", "fact_sales", "fact_balances"}
    # Another day: nobody asks for the one that was killed.
    shop.run(DAYS[3], DAYS[3])
    assert behind(shop) == set()
