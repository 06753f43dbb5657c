"""What changed, failed elsewhere or was killed is found by one rule and brought up to date."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any
from unittest import mock

import pytest
import yaml

from headrace.cli.runner import BackfillResult, run_backfill
from headrace.layers.processed import ProcessedStep
from tests.e2e import installation
from tests.e2e.conftest import scratch_root
from tests.e2e.installation import REPOSITORY, Installation
from tests.e2e.killing import kill_after_commit

pytestmark = pytest.mark.e2e

DAYS = [date(2017, 1, n) for n in range(1, 7)]
STAR = "+group:warehouse"
_NAMES = {
    "orders": "order_id,customer_id,ordered_at,amount",
    "returns": "return_id,customer_id,returned_at,amount",
    "customers": "customer_id,city",
}
_AMOUNT: dict[str, object] = {"name": "amount", "type": "decimal(12,2)", "required": True}


def _entity(name: str, key: str, time: str | None) -> dict[str, Any]:
    columns: list[dict[str, object]] = [{"name": key, "type": "bigint"}]
    if time:
        customer: dict[str, object] = {"name": "customer_id", "type": "bigint"}
        columns += [customer, {"name": time, "type": "timestamp", "required": True}, _AMOUNT]
    else:
        columns.append({"name": "city", "type": "string"})
    path = f"{name}/{name}-{{date:%Y-%m-%d}}.csv"
    extract: dict[str, object] = {"mode": "files", "path": path, "missing_file": "empty"}
    made = {"name": name, "extract": extract, "key": [key], "columns": columns}
    return made | ({"event_time": time} if time else {})


def _fact(name: str, key: str, time: str) -> dict[str, Any]:
    join = {"dimension": "dim_customer", "natural_key": {"customer_id": "customer_id"}}
    return {
        "name": f"fact_{name}",
        "entity": f"shop.{name}",
        "grain": [key],
        "event_time": time,
        "dimensions": [join],
        "columns": [key, time],
        "measures": ["amount"],
    }


@contextmanager
def _shop() -> Iterator[Installation]:
    with scratch_root() as root:
        made = installation.make(root, end=date(2017, 1, 8))
        shutil.rmtree(made.config / "views", ignore_errors=True)
        (made.config / "sources" / "retail.yaml").unlink()
        entities = [
            _entity("orders", "order_id", "ordered_at"),
            _entity("returns", "return_id", "returned_at"),
            _entity("customers", "customer_id", None),
        ]
        source = {"name": "shop", "connector": "files", "entities": entities}
        (made.config / "sources" / "shop.yaml").write_text(yaml.safe_dump(source))
        star = {
            "calendar": {"name": "dim_date", "start": DAYS[0], "end": date(2017, 12, 31)},
            "dimensions": [
                {
                    "name": "dim_customer",
                    "entity": "shop.customers",
                    "natural_key": {"customer_id": "customer_id"},
                    "attributes": {"city": "city"},
                    "missing": "inferred",
                }
            ],
            "facts": [
                _fact("orders", "order_id", "ordered_at"),
                _fact("returns", "return_id", "returned_at"),
            ],
        }
        (made.config / "star.yaml").write_text(yaml.safe_dump(star))
        try:
            yield made
        finally:
            installation.end(made)


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    with _shop() as made:
        yield made


def deliver(shop: Installation, name: str, day: date, rows: Sequence[str]) -> None:
    lines = [row if name == "customers" else _timed(row, day) for row in rows]
    target = shop.landing / name / f"{name}-{day}.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}")
    scratch.write_text("\n".join([_NAMES[name], *lines, ""]))
    scratch.replace(target)


def _timed(row: str, day: date) -> str:
    key, customer, amount = row.split(",")
    return f"{key},{customer},{day} 09:00:00,{amount}"


def run(shop: Installation, *days: date, select: str = STAR) -> BackfillResult:
    return shop.backfill(days[0], days[-1], select=select)


def run_stale(shop: Installation) -> BackfillResult:
    with shop.active():
        return run_backfill(None, None, select=STAR, only_stale=True, quiet=True)


def amounts(shop: Installation, fact: str = "fact_orders") -> dict[int, float]:
    """By day of the month: the sum of a fact's amounts in the warehouse."""
    query = f"select date_key % 100, sum(amount)::float from warehouse.{fact} group by 1"
    return dict(shop.sql(query))


def stale(shop: Installation) -> dict[str, int]:
    return {name: status.stale for name, status in shop.status().items() if status.stale}


def test_a_bad_entity_cuts_no_other_off_in_a_run_of_one_day(shop: Installation) -> None:
    for day in DAYS[:2]:
        deliver(shop, "customers", day, ["1,Bonn", "2,Kiel"])
        deliver(shop, "orders", day, ["1,1,10", "2,2,5"])
        deliver(shop, "returns", day, ["1,1,1"])
    bad = shop.landing / "returns" / f"returns-{DAYS[1]}.csv"
    bad.write_text("return_id,customer_id\n1,1\n")
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
    assert result.skipped[0].why.startswith("curated/dim_customer 2017-01-03 has not read")
    assert run(shop, day).exit_code == 0
    assert amounts(shop)[3] == 3
    assert shop.sql("select count(*) from warehouse.fact_orders where customer_key = -1") == [(0,)]


def test_a_run_that_read_an_older_file_gives_way(shop: Installation) -> None:
    day = DAYS[3]
    deliver(shop, "customers", day, ["1,Ulm"])
    deliver(shop, "orders", day, ["1,1,1"])
    stage = ProcessedStep.stage
    runs: list[subprocess.CompletedProcess[bytes]] = []

    def overtaken(step: ProcessedStep, asset: str, *rest: Any) -> Any:
        staged = stage(step, asset, *rest)
        if asset == "processed/shop_orders" and not runs:
            deliver(shop, "orders", day, ["1,1,100"])
            code = (
                "import sys; from datetime import date"
                "; from headrace.cli.runner import run_backfill"
                f"; day = date.fromisoformat('{day}')"
                f"; sys.exit(run_backfill(day, day, select='{STAR}', quiet=True).exit_code)"
            )
            command = [sys.executable, "-W", "ignore", "-c", code]
            runs.append(subprocess.run(command, cwd=REPOSITORY, env={**os.environ}, check=False))
        return staged

    with mock.patch.object(ProcessedStep, "stage", overtaken):
        result = run(shop, day)
    assert [newer.returncode for newer in runs] == [0]
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
