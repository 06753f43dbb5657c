"""Stale partitions ask for a run, once, and not while the run that made them stale goes on."""

from datetime import date
from pathlib import Path
from unittest import mock

import dagster as dg
import pytest

from headrace.config.loader import load_project
from headrace.ledger.build_plan import AssetLineage
from headrace.ledger.ledger import Ledger
from headrace.ledger.records import PartitionRecord
from headrace.ledger.staleness import StalePartition
from platform_assets.partitions import daily_partitions
from resources.warehouse import WarehouseResource
from sensors.stale import build_stale_sensor, plan_stale
from tests import servers

# All of its partitions are days.
CONFIG = Path(__file__).parents[2] / "demo/files/config"
FIRST, LAST = date(2017, 1, 2), date(2017, 1, 9)


def stale(day: date | None, *runs: str, reason: str = "was never built") -> StalePartition:
    return StalePartition("curated/f", day, reason, frozenset(runs))


def test_nothing_stale_asks_for_no_run() -> None:
    plan = plan_stale([], (), None, last_day=LAST)
    assert plan.window is None
    assert plan.reason == "no partition has to be built again"


def test_one_run_takes_all_that_is_stale() -> None:
    plan = plan_stale([stale(LAST), stale(FIRST)], (), None, last_day=LAST)
    assert plan.window == (FIRST, LAST)


def test_what_a_run_under_way_brings_further_is_left_to_it() -> None:
    both = [stale(FIRST, "a"), stale(LAST, "b")]
    assert plan_stale(both, {"a"}, None, last_day=LAST).window == (LAST, LAST)
    plan = plan_stale(both, {"a", "b"}, None, last_day=LAST)
    assert plan.window is None
    assert "2 partitions wait" in plan.reason


def test_what_stays_stale_is_asked_for_once() -> None:
    first = plan_stale([stale(FIRST)], (), None, last_day=LAST)
    again = plan_stale([stale(FIRST)], (), first.cursor, last_day=LAST)
    assert again.window is None
    assert "still stale" in again.reason
    for changed in ([stale(FIRST), stale(LAST)], [stale(FIRST, reason="other")]):
        assert plan_stale(changed, (), again.cursor, last_day=LAST).window is not None


def test_an_asset_that_has_to_follow_a_table_asks_for_some_day() -> None:
    assert plan_stale([stale(None)], (), None, last_day=LAST).window == (LAST, LAST)


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_the_sensor_asks_for_stale_days_only(tmp_path: Path) -> None:
    project = load_project({"HEADRACE_CONFIG": str(CONFIG), "HEADRACE_HOME": str(tmp_path)})
    partitions = daily_partitions(project.settings.partitions)
    job = mock.create_autospec(dg.JobDefinition, instance=True)
    job.name = "daily"
    lineages = {name: AssetLineage(name, "2") for name in ("x/stale", "x/waits")}
    sensor = build_stale_sensor(project, job, partitions, lineages)
    warehouse = WarehouseResource(url=servers.postgres().uri("warehouse"))
    ledger: Ledger = warehouse.ledger()
    record = PartitionRecord("x/stale", FIRST, "published", "r", code_version="1", inputs={})
    waits = PartitionRecord("x/waits", LAST, "held", "r", code_version="1")
    ledger.record([record, waits])
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(
            instance=instance, resources={"warehouse": warehouse}, sensor_name=sensor.name
        )
        found = sensor(context)
        assert isinstance(found, dg.SensorResult)
        (request,) = found.run_requests or ()
        assert request.tags["headrace/only"] == "stale"
        # A day that waits for its file is the landing sensor's.
        assert request.tags["dagster/partition"] == str(FIRST)
        assert found.cursor
