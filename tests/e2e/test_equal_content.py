"""A file that is delivered anew with equal rows makes nothing below its processed day stale."""

from collections.abc import Iterator
from datetime import date
from unittest import mock

import pytest
import yaml

from headrace.pipeline import unchanged_days
from tests.e2e.installation import Installation
from tests.e2e.killing import kill_after_commit
from tests.e2e.stale_shop import STAR, amounts, deliver, run, run_stale, stale, stale_shop

pytestmark = pytest.mark.e2e

DAY, NEXT = date(2017, 1, 1), date(2017, 1, 2)


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    """Customers may have several rows a day, of which the last one holds."""
    with stale_shop(date(2017, 1, 3)) as made:
        path = made.config / "sources" / "shop.yaml"
        source = yaml.safe_load(path.read_text())
        for entity in source["entities"]:
            entity["quality"] = {"max_quarantined_share": 1}
            if entity["name"] == "customers":
                entity["key"] = ["customer_id", "city"]
        path.write_text(yaml.safe_dump(source))
        deliver(made, "customers", DAY, ["1,Bonn", "1,Kiel", "2,Ulm"])
        deliver(made, "orders", DAY, ["1,1,10", "2,2,5"])
        deliver(made, "returns", DAY, ["1,1,1"])
        assert run(made, DAY).exit_code == 0
        yield made


@pytest.mark.parametrize(
    "rows",
    [
        ["2,2,5", "1,1,10"],
        ["1,1, 10 ", "2,2,5.00"],
        ["1,1,10", "2,2,5", "3,2,none"],
        ["1,1,10", "2,2,5"],
    ],
    ids=["reordered", "other spaces", "one more in quarantine", "as before"],
)
def test_only_the_processed_day_is_built_for_a_file_with_equal_rows(
    shop: Installation, rows: list[str]
) -> None:
    deliver(shop, "orders", DAY, rows)
    assert run(shop, DAY, select="group:raw").exit_code == 0
    assert stale(shop) == {"processed/shop_orders": 1}
    assert run_stale(shop).published == 1
    assert stale(shop) == {}
    assert amounts(shop) == {1: 15}
    quarantined = shop.lake("quarantine.shop_orders")
    assert len(quarantined) == len(rows) - 2


def test_rows_of_equal_number_with_another_value_reach_the_fact(shop: Installation) -> None:
    deliver(shop, "orders", DAY, ["1,1,10", "2,2,6"])
    assert run(shop, DAY, select="group:raw").exit_code == 0
    assert run_stale(shop).exit_code == 0
    assert amounts(shop) == {1: 16}


@pytest.mark.crash
def test_rows_that_a_killed_run_left_are_not_what_was_published_before(
    shop: Installation,
) -> None:
    deliver(shop, "orders", DAY, ["1,1,10", "2,2,7"])
    kill_after_commit(shop, "processed/shop_orders", DAY, select=STAR)
    assert run_stale(shop).exit_code == 0
    assert amounts(shop) == {1: 17}
    assert stale(shop) == {}


def test_as_many_rows_with_other_keys_reach_the_fact(shop: Installation) -> None:
    deliver(shop, "returns", DAY, ["1,1,1", "2,1,1"])
    assert run(shop, DAY).exit_code == 0
    deliver(shop, "returns", DAY, ["2,1,1", "3,1,1"])
    assert run(shop, DAY, select="group:raw").exit_code == 0
    assert run_stale(shop).exit_code == 0
    assert shop.sql("select return_id from warehouse.fact_returns order by 1") == [(2,), (3,)]


def test_a_first_build_and_a_build_from_the_same_rows_compare_nothing(shop: Installation) -> None:
    for name, rows in {"customers": ["2,Ulm"], "orders": ["1,2,1"], "returns": []}.items():
        deliver(shop, name, NEXT, rows)
    with mock.patch.object(unchanged_days, "differing_days") as compare:
        assert run(shop, NEXT).exit_code == 0
        assert run(shop, NEXT).exit_code == 0
    assert not compare.called


def test_the_order_of_rows_counts_where_the_last_one_of_a_member_holds(shop: Installation) -> None:
    city = "select city from warehouse.dim_customer where customer_id = 1 and is_current"
    assert shop.sql(city) == [("Kiel",)]
    deliver(shop, "customers", DAY, ["1,Kiel", "2,Ulm", "1,Bonn"])
    assert run(shop, DAY, select="group:raw").exit_code == 0
    assert run_stale(shop).exit_code == 0
    assert shop.sql(city) == [("Bonn",)]
    assert stale(shop) == {}
