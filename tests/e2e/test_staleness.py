"""What changed, failed elsewhere or was killed is found by one rule and brought up to date."""

from collections.abc import Iterator
from datetime import date
from typing import Any
from unittest import mock

import pytest
import yaml

from headrace.pipeline.processed import ProcessedStep
from tests.e2e.installation import Installation
from tests.e2e.killing import kill_after_commit, start_run
from tests.e2e.stale_shop import (
    STAR,
    amounts,
    deliver,
    deliver_without_column,
    run,
    run_stale,
    stale,
    stale_shop,
)

pytestmark = pytest.mark.e2e

DAYS = [date(2017, 1, n) for n in range(1, 7)]


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    with stale_shop(date(2017, 1, 8)) as made:
        yield made


def test_a_bad_entity_cuts_no_other_off_in_a_run_of_one_day(shop: Installation) -> None:
    for day in DAYS[:2]:
        deliver(shop, "customers", day, ["1,Bonn", "2,Kiel"])
        deliver(shop, "orders", day, ["1,1,10", "2,2,5"])
        deliver(shop, "returns", day, ["1,1,1"])
    deliver_without_column(shop, "returns", DAYS[1])
    assert run(shop, DAYS[0]).exit_code == 0
    result = run(shop, DAYS[1])
    assert result.exit_code == 3
    assert [(b.asset, b.partition) for b in result.bad] == [("raw/shop_returns", DAYS[1])]
    assert {s.asset for s in result.skipped} == {
        "processed/shop_returns",
        "curated/fact_returns",
        "warehouse/fact_returns",
    }
    assert amounts(shop) == {1: 15, 2: 15}
    assert amounts(shop, "fact_returns") == {1: 1}
    assert stale(shop) == {}, "the same file would fail again"
    deliver(shop, "returns", DAYS[1], ["1,1,2"])
    assert run(shop, DAYS[1], select='key:"raw/shop_returns"').exit_code == 0
    assert stale(shop) == {"processed/shop_returns": 1}
    assert run_stale(shop).exit_code == 0
    assert amounts(shop, "fact_returns") == {1: 1, 2: 2}
    assert stale(shop) == {}


def test_a_corrected_file_goes_all_the_way_in_one_run_of_what_is_stale(shop: Installation) -> None:
    deliver(shop, "orders", DAYS[0], ["1,1,10", "2,2,7"])
    assert run(shop, DAYS[0], select="group:raw").exit_code == 0
    result = run_stale(shop)
    assert result.exit_code == 0
    assert amounts(shop)[1] == 17
    assert stale(shop) == {}
    again = run_stale(shop)
    assert (again.exit_code, again.published) == (0, 0)


def test_a_changed_rule_reaches_the_days_that_were_built_before(shop: Installation) -> None:
    path = shop.config / "sources" / "shop.yaml"
    before = path.read_text()
    source = yaml.safe_load(before)
    rule = {"name": "large", "expect": "amount >= 7", "reason": "too small"}
    source["entities"][0]["rules"] = [rule]
    source["entities"][0]["quality"] = {"max_quarantined_share": 1}
    path.write_text(yaml.safe_dump(source))
    assert stale(shop)["processed/shop_orders"] == 2
    assert run_stale(shop).exit_code == 0
    assert amounts(shop) == {1: 17, 2: 10}
    path.write_text(before)
    assert run_stale(shop).exit_code == 0
    assert amounts(shop) == {1: 17, 2: 15}


def test_a_fact_waits_for_the_members_that_its_dimension_infers(shop: Installation) -> None:
    day = DAYS[2]
    deliver(shop, "customers", day, ["1,Ulm"])
    deliver(shop, "orders", day, ["1,1,1", "2,99,2"])
    for select in (
        '+key:"processed/shop_customers"',
        'key:"curated/dim_customer" or group:raw',
        '+key:"processed/shop_orders"',
    ):
        assert run(shop, day, select=select).exit_code == 0
    result = run(shop, day, select='key:"curated/fact_orders"')
    assert result.exit_code == 3
    assert result.skipped[0].why.startswith("curated/dim_customer 2017-01-03 was not built from")
    assert run(shop, day).exit_code == 0
    assert amounts(shop)[3] == 3
    assert shop.sql("select count(*) from warehouse.fact_orders where customer_key = -1") == [(0,)]


def test_a_run_that_read_an_older_file_gives_way(shop: Installation) -> None:
    day = DAYS[3]
    deliver(shop, "customers", day, ["1,Ulm"])
    deliver(shop, "orders", day, ["1,1,1"])
    stage = ProcessedStep.stage
    codes: list[int] = []

    def overtaken(step: ProcessedStep, asset: str, *rest: Any) -> Any:
        staged = stage(step, asset, *rest)
        if asset == "processed/shop_orders" and not codes:
            deliver(shop, "orders", day, ["1,1,100"])
            newer = start_run(shop, day, day, select=STAR)
            newer.communicate()
            codes.append(newer.returncode)
        return staged

    with mock.patch.object(ProcessedStep, "stage", overtaken):
        result = run(shop, day)
    assert codes == [0]
    assert result.exit_code == 0
    assert amounts(shop)[4] == 100
    assert stale(shop) == {}
    attempts = "select status from platform.partition_attempt where run_id = '{}' and asset = '{}'"
    found = shop.sql(attempts.format(result.run_id, "processed/shop_orders"))
    assert found == [("superseded",)]


@pytest.mark.crash
@pytest.mark.parametrize("asset", ["raw/shop_orders", "processed/shop_orders"])
def test_what_a_killed_run_left_is_stale_and_is_finished(shop: Installation, asset: str) -> None:
    day, amount = (DAYS[4], 5.0) if asset.startswith("raw") else (DAYS[5], 6.0)
    deliver(shop, "customers", day, ["1,Ulm"])
    deliver(shop, "orders", day, [f"1,1,{amount}"])
    deliver(shop, "returns", day, ["1,1,3"])
    kill_after_commit(shop, asset, day, select=STAR)
    assert stale(shop)[asset] == 1
    assert run_stale(shop).exit_code == 0
    # Those as well whose turn had not come when the run died.
    assert amounts(shop)[day.day] == amount
    assert amounts(shop, "fact_returns")[day.day] == 3
    assert stale(shop) == {}


@pytest.mark.crash
def test_a_corrected_day_of_a_killed_run_reaches_the_facts(shop: Installation) -> None:
    deliver(shop, "orders", DAYS[1], ["1,1,50"])
    kill_after_commit(shop, "processed/shop_orders", DAYS[1], select=STAR)
    assert run_stale(shop).exit_code == 0
    assert amounts(shop)[2] == 50
    assert stale(shop) == {}
