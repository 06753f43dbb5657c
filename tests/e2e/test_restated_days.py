"""Days that change after their load reach warehouse and marts with the next run of any day."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from headrace.cli.audit import audit_star
from tests.e2e import installation
from tests.e2e.installation import FIRST, Installation, good_lines
from tests.e2e.killing import kill_after_commit

pytestmark = pytest.mark.e2e

DAYS = [FIRST + timedelta(days=n) for n in range(4)]
FACTS = "select date_key % 100, count(*) from warehouse.fact_sales group by 1 order by 1"
MART = """
select extract(day from date)::int, sum(lines)::int
from marts.mart_daily_department group by 1 order by 1
"""
DEPARTMENTS = """
select extract(day from date)::int, department from marts.mart_daily_department order by 1
"""
PRODUCT_HEADER = (
    "product_id,manufacturer_id,department,brand,product_category,product_type,package_size,"
    "operation,changed_at"
)
WHOLE = "truncate_and_load"
LAKE_ONLY = "group:raw or group:processed or group:curated"


@contextmanager
def _shop() -> Iterator[Installation]:
    """A shop whose files are delivered, and not yet run."""
    root = Path(tempfile.mkdtemp(prefix="headrace-restated-"))
    root.chmod(0o755)
    made = installation.make(root, end=DAYS[-1] + timedelta(days=1))
    made.deliver_catalogue()
    for day in DAYS:
        made.deliver(day, good_lines(day))
    try:
        yield made
    finally:
        installation.end(made)
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    with _shop() as made:
        assert made.backfill(DAYS[0], DAYS[2]).exit_code == 0
        yield made


def test_a_day_published_anew_in_the_lake_follows_with_the_next_load(shop: Installation) -> None:
    shop.deliver(DAYS[1], good_lines(DAYS[1], 7))
    assert shop.backfill(DAYS[1], DAYS[1], select=LAKE_ONLY).exit_code == 0
    assert shop.sql(FACTS) == [(1, 4), (2, 4), (3, 4)]
    assert shop.backfill(DAYS[3], DAYS[3]).exit_code == 0
    assert shop.sql(FACTS) == [(1, 4), (2, 7), (3, 4), (4, 4)]
    assert shop.sql(MART) == [(1, 4), (2, 7), (3, 4), (4, 4)]
    # Views follow, an ordinary one and one that is kept ready.
    assert shop.sql("select sum(lines)::int from bi.sales_by_region_month") == [(19,)]
    assert shop.sql("select sum(lines)::int from bi.sales_by_department_month") == [(19,)]
    assert shop.sql("select count(*) from bi.products_by_date where date = '2017-01-02'") == [(2,)]
    assert shop.sql("select count(*) from bi.current_customers") == [(2,)]


def test_what_did_not_change_is_loaded_no_second_time(shop: Installation) -> None:
    places = "select tableoid, ctid, xmin from warehouse.fact_sales order by 1, 2"
    before = shop.sql(places)
    loads = (
        "select partition, data_version from platform.partition_ledger"
        " where asset = 'warehouse/fact_sales' order by 1"
    )
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


@pytest.mark.crash
def test_days_whose_commit_a_killed_run_could_not_write_down_follow(shop: Installation) -> None:
    # Told late: the keys of two days before are others. And the run's own day is corrected.
    moved = f"1,10,BAKERY,National,BREAD,ROLLS,6 CT,U,{DAYS[1]} 08:00:00"
    products = shop.landing / "products" / f"products-{DAYS[3]}.csv"
    products.write_text(f"{PRODUCT_HEADER}\n{moved}\n")
    shop.deliver(DAYS[3], good_lines(DAYS[3], 5))
    fact = "curated/fact_sales"
    kill_after_commit(shop, fact, DAYS[3], select=f'+key:"{fact}"')
    before = loaded_keys(shop)
    assert published_keys(shop) != before
    # Of another day: nobody asks for those.
    assert shop.backfill(DAYS[0], DAYS[0], select="+group:warehouse").exit_code == 0
    assert loaded_keys(shop) == published_keys(shop)
    assert {day for day, _, _ in before ^ loaded_keys(shop)} == {2, 3, 4}


def loaded_keys(shop: Installation) -> set[tuple[int, int, int]]:
    """Of the warehouse's facts: day, key of the product, number of rows."""
    keys = "select date_key % 100, product_key, count(*) from warehouse.fact_sales group by 1, 2"
    return {(day, key, rows) for day, key, rows in shop.sql(keys)}


def published_keys(shop: Installation) -> set[tuple[int, int, int]]:
    """The same of the lake's."""
    rows = shop.lake("curated.fact_sales")
    counted = Counter((row["_partition_date"].day, row["product_key"]) for row in rows)
    return {(day, key, count) for (day, key), count in counted.items()}


@pytest.fixture(scope="module")
def overwriting() -> Iterator[Installation]:
    """A shop whose departments are overwritten (type 1), and whose facts are loaded whole."""
    with _shop() as made:
        path = made.config / "star.yaml"
        star = yaml.safe_load(path.read_text())
        products = next(d for d in star["dimensions"] if d["name"] == "dim_product")
        products["type1"] = {"department": products["attributes"].pop("department")}
        next(d for d in star["dimensions"] if d["name"] == "dim_location")["load"] = WHOLE
        star["facts"][0]["load"] = WHOLE
        path.write_text(yaml.safe_dump(star))
        yield made


def test_marts_follow_an_attribute_that_changed_under_its_key(overwriting: Installation) -> None:
    shop = overwriting
    assert shop.backfill(DAYS[0], DAYS[1]).exit_code == 0
    assert shop.sql(DEPARTMENTS) == [(1, "GROCERY"), (2, "GROCERY")]
    changed = "1,10,BAKERY,National,BREAD,ROLLS,6 CT,U,2017-01-03 08:00:00"
    products = shop.landing / "products" / f"products-{DAYS[2]}.csv"
    products.write_text(f"{PRODUCT_HEADER}\n{changed}\n")
    assert shop.backfill(DAYS[2], DAYS[2]).exit_code == 0
    assert shop.sql(FACTS) == [(1, 4), (2, 4), (3, 4)]
    assert shop.sql(DEPARTMENTS) == [(1, "BAKERY"), (2, "BAKERY"), (3, "BAKERY")]


def test_the_audit_leaves_out_days_that_are_behind_of_tables_that_are_loaded_whole(
    overwriting: Installation,
) -> None:
    shop = overwriting
    shop.deliver(DAYS[0], good_lines(DAYS[0], 9))
    only_below = "group:raw or group:processed"
    assert shop.backfill(DAYS[0], DAYS[0], select=only_below).exit_code == 0
    with shop.active():
        found = {table.table: table for table in audit_star(quiet=True)}
    assert all(table.is_equal for table in found.values()), found
    assert found["warehouse.fact_sales"].days_behind == (DAYS[0],)
