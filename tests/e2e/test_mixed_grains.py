"""Facts by month beside facts by day: runs of the command, the schedule, the sensor and the UI."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest import mock

import dagster as dg
import pytest
from dagster_graphql.test.utils import execute_dagster_graphql

from headrace.cli.audit import audit_star
from headrace.config.loader import load_project
from headrace.ledger import liveness
from headrace.project.connections import ledger_of
from headrace.project.home_setup import environment_of
from jobs.daily import DAILY_JOB
from platform_assets.definitions import build_definitions
from platform_assets.steps.executor import execute_in_this_process
from tests.e2e.installation import Installation
from tests.e2e.mixed_shop import FIRST, LAST, deliver, deliver_all, mixed_shop, order
from tests.e2e.test_ui_runs import workspace

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

MONTHS = [date(2017, month, 1) for month in (1, 2, 3)]
FEBRUARY = date(2017, 2, 1)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
PAYMENTS = """key:"*/shop_payments" or key:"curated/dim_person" or key:"curated/fact_payments"
    or group:warehouse or group:marts"""
LAUNCH = """
mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    """Three months, loaded by one command."""
    with mixed_shop() as made:
        deliver_all(made)
        result = made.backfill(FIRST, LAST)
        assert (result.exit_code, result.bad, result.skipped) == (0, (), ()), result.summary
        yield made


@contextmanager
def dagster(shop: Installation) -> Iterator[tuple[dg.DagsterInstance, dg.Definitions]]:
    """Dagster's storage of an installation, and the definitions that its UI shows."""
    with (
        shop.active(),
        mock.patch.dict(os.environ, environment_of(load_project())),
        dg.DagsterInstance.get() as instance,
    ):
        yield instance, build_definitions(load_project())


def run(
    instance: dg.DagsterInstance, job: dg.JobDefinition, tags: Mapping[str, str]
) -> dg.ExecuteInProcessResult:
    ended = execute_in_this_process(job, instance, tags=tags, run_config=QUIET)
    liveness.release(ended.run_id)
    return ended


def totals(shop: Installation) -> dict[int, tuple[Decimal, Decimal]]:
    """By month: what the mart says was ordered and paid; the facts have to agree."""
    mart = shop.sql(
        "select extract(month from date)::int, sum(ordered), sum(paid) from marts.mart_daily"
        " group by 1 order by 1"
    )
    facts = shop.sql(
        "select month, sum(ordered), sum(paid) from ("
        " select date_key / 100 % 100 as month, amount as ordered, 0 as paid"
        " from warehouse.fact_orders union all"
        " select date_key / 100 % 100, 0, paid from warehouse.fact_payments) as found"
        " group by 1 order by 1"
    )
    assert mart == facts
    return {month: (ordered, paid) for month, ordered, paid in mart}


def money(ordered: str, paid: str) -> tuple[Decimal, Decimal]:
    return Decimal(ordered), Decimal(paid)


def published(shop: Installation, asset: str) -> list[date | None]:
    with shop.active():
        states = ledger_of(load_project()).states(asset)
    return sorted((day for day, state in states.items() if state.published_at), key=str)


def runs_of(shop: Installation, asset: str) -> dict[date | None, str | None]:
    """The run that published each partition."""
    with shop.active():
        states = ledger_of(load_project()).states(asset)
    return {day: state.published_run_id for day, state in states.items()}


def test_each_fact_has_its_own_partitions_and_the_mart_the_finest_of_them(
    shop: Installation,
) -> None:
    every_day = [FIRST + timedelta(days=n) for n in range(90)]
    for layer in ("curated", "warehouse"):
        assert published(shop, f"{layer}/fact_orders") == MONTHS
        assert published(shop, f"{layer}/fact_payments") == every_day
    assert published(shop, "marts/mart_daily") == every_day
    assert totals(shop) == dict.fromkeys((1, 2, 3), money("4.00", "2.00"))
    status = shop.status()
    assert (status["raw/shop_orders"].partition, status["raw/shop_payments"].partition) == (
        "month",
        "day",
    )
    assert {name for name, one in status.items() if one.stale or one.missing} == set()
    with shop.active():
        assert all(table.is_equal for table in audit_star(quiet=True))


def test_a_full_snapshot_of_each_month_ends_what_it_lacks_at_the_month(shop: Installation) -> None:
    versions = shop.sql(
        "select valid_from::date, valid_to::date from warehouse.dim_town"
        " where town = 'Kiel' order by 1"
    )
    assert versions == [(date(1900, 1, 1), FEBRUARY), (date(2017, 3, 1), None)]


def test_a_corrected_day_of_one_fact_builds_no_month_of_the_other(shop: Installation) -> None:
    before = runs_of(shop, "curated/fact_orders"), runs_of(shop, "marts/mart_daily")
    day = date(2017, 2, 20)
    deliver(shop, f"payments-{day}.csv", [f"{day.toordinal()},ben,{day},5.00"])
    assert shop.backfill(day, day, select=PAYMENTS).exit_code == 0
    assert totals(shop)[2] == money("4.00", "6.00")
    assert runs_of(shop, "curated/fact_orders") == before[0]
    mart = runs_of(shop, "marts/mart_daily")
    assert [each for each in mart if mart[each] != before[1][each]] == [day]


def test_a_corrected_month_builds_its_days_in_the_mart(shop: Installation) -> None:
    before = runs_of(shop, "warehouse/fact_orders")
    rows = [order(1, date(2017, 2, 5), "7.00"), order(2, date(2017, 2, 27), "1.00")]
    deliver(shop, "orders-2017-02.csv", rows)
    # A day of the month, on which nothing was ordered.
    assert shop.backfill(date(2017, 2, 11), date(2017, 2, 11)).exit_code == 0
    assert totals(shop)[2] == money("8.00", "6.00")
    assert shop.sql(
        "select date from marts.mart_daily where date >= '2017-02-01' and ordered > 0"
        " and date < '2017-03-01' order by 1"
    ) == [
        (date(2017, 2, 5),),
        (date(2017, 2, 27),),
    ]
    after = runs_of(shop, "warehouse/fact_orders")
    assert [each for each in after if after[each] != before[each]] == [FEBRUARY]
    assert {name for name, one in shop.status().items() if one.stale} == set()


def test_the_schedule_asks_for_a_day_and_its_runs_build_the_month_of_it(
    shop: Installation,
) -> None:
    rows = [order(3, date(2017, 3, 5)), order(4, date(2017, 3, 30), "9.00")]
    deliver(shop, "orders-2017-03.csv", rows)
    deliver(shop, "payments-2017-03-30.csv", ["77,ben,2017-03-30,3.00"])
    with dagster(shop) as (instance, definitions):
        schedule = definitions.resolve_schedule_def("daily_at_night")
        at_night = datetime(2017, 3, 31, 4, tzinfo=UTC)
        context = dg.build_schedule_context(instance, scheduled_execution_time=at_night)
        requests = schedule.evaluate_tick(context).run_requests or ()
        job = definitions.resolve_job_def(DAILY_JOB)
        assert [run(instance, job, request.tags).success for request in requests] == [True, True]
    assert totals(shop)[3] == money("11.00", "5.00")
    assert {name for name, one in shop.status().items() if one.stale} == set()


def test_the_sensor_asks_once_for_the_month_of_a_file_and_its_run_builds_it(
    shop: Installation,
) -> None:
    def tick(cursor: str | None) -> dg.SensorResult:
        resources = dict(definitions.resources or {})
        with dg.build_sensor_context(instance, cursor, resources=resources) as context:
            found = definitions.resolve_sensor_def("new_files")(context)
        assert isinstance(found, dg.SensorResult)
        return found

    with dagster(shop) as (instance, definitions):
        seen = tick(tick(None).cursor)
        deliver(shop, "orders-2017-01.csv", [order(5, date(2017, 1, 31), "6.00")])
        found = tick(seen.cursor)
        (request,) = found.run_requests or ()
        assert not tick(found.cursor).run_requests
        assert run(instance, definitions.resolve_job_def(DAILY_JOB), request.tags).success
    assert totals(shop)[1] == money("6.00", "2.00")


def test_the_ui_launches_a_single_month(shop: Installation) -> None:
    keys = [dg.AssetKey([layer, "shop_orders"]) for layer in ("raw", "processed")]
    deliver(shop, "orders-2017-01.csv", [order(5, date(2017, 1, 31), "8.00")])
    tag = {"key": "dagster/partition", "value": str(MONTHS[0])}
    with dagster(shop) as (instance, definitions), workspace(instance) as context:
        launched = _launch(context, keys, tag)
        queued = instance.get_run_by_id(launched)
        assert queued is not None
        job = definitions.resolve_implicit_global_asset_job_def()
        alone = job.get_subset(asset_selection={*keys})
        ended = run(instance, alone, {k: v for k, v in queued.tags.items() if k == tag["key"]})
        instance.delete_run(launched)
        assert ended.success
        built = instance.fetch_materializations(keys[1], limit=1).records[0]
    assert (built.run_id, built.partition_key) == (ended.run_id, str(MONTHS[0]))


def _launch(context: Any, keys: list[dg.AssetKey], tag: dict[str, str]) -> str:
    selector = {
        "pipelineName": "__ASSET_JOB",
        "repositoryName": "__repository__",
        "repositoryLocationName": "platform",
        "assetSelection": [{"path": key.path} for key in keys],
    }
    params: dict[str, Any] = {
        "selector": selector,
        "mode": "default",
        "runConfigData": {},
        "executionMetadata": {"tags": [tag]},
    }
    launched = execute_dagster_graphql(context, LAUNCH, {"params": params}).data["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    return str(launched["run"]["runId"])


def test_a_month_without_its_file_is_held_under_its_name_until_it_is_overdue() -> None:
    with mixed_shop() as made:
        deliver_all(made)
        (made.landing / "orders-2017-02.csv").unlink()
        # It was expected two days after the month's last day, long ago: the month is empty.
        assert made.backfill(FIRST, LAST, select="+key:curated/fact_orders").exit_code == 0
        assert made.status()["raw/shop_orders"].empty == 1

        source = made.config / "sources" / "shop.yaml"
        source.write_text(re.sub(r"\n *expected_by:.*", "", source.read_text()))
        result = made.backfill(FEBRUARY, FEBRUARY, select="raw/shop_orders")
        (bad,) = result.bad
        assert (bad.status, bad.label) == ("held", "2017-02")
        assert "orders-2017-02.csv" in bad.why
        with dagster(made) as (instance, _):
            (ended,) = instance.get_runs(dg.RunsFilter(run_ids=[result.run_id]))
            said = " ".join(
                event.user_message
                for event in instance.all_logs(ended.run_id)
                if event.user_message
            )
        assert "2017-02" in said
        assert "2017-02-01" not in said


def test_a_column_that_begins_within_a_month_may_be_lacking_in_its_file_and_not_after() -> None:
    note = {"name": "note", "type": "string", "required": True, "since": date(2017, 2, 10)}
    header = "order_no,person_id,town,ordered_on,amount"
    with mixed_shop(orders=note) as made:
        deliver_all(made)
        deliver(made, "orders-2017-02.csv", [order(1, date(2017, 2, 9))], header)
        deliver(made, "orders-2017-03.csv", [order(2, date(2017, 3, 9))], header)
        result = made.backfill(FIRST, LAST, select="+key:processed/shop_orders")
        assert {bad.label for bad in result.bad} == {"2017-03"}
        assert published(made, "processed/shop_orders") == MONTHS[:2]
        # Of rows after the day, the column is required in the same file.
        rows = [order(1, date(2017, 2, 9)) + ",", order(3, date(2017, 2, 12)) + ","]
        deliver(made, "orders-2017-02.csv", rows, f"{header},note")
        assert made.backfill(FEBRUARY, FEBRUARY, select="+key:processed/shop_orders").exit_code == 3
