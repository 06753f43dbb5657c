"""What Dagster's UI shows and asks for, in this process: without its server and its daemon.

The runs of one installation: its first days, with one that fails, and a repair of it.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from unittest import mock

import dagster as dg
import psycopg
import pytest
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView
from dagster._core.definitions.temporal_context import TemporalContext
from dagster._core.execution.asset_backfill import (
    AssetBackfillData,
    execute_asset_backfill_iteration_inner,
)
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster_graphql.test.utils import execute_dagster_graphql

from headrace.config.loader import load_project
from headrace.project.connections import postgres_url
from headrace.project.home_setup import environment_of
from platform_assets.definitions import build_definitions
from tests.e2e.conftest import days
from tests.e2e.installation import Installation, good_lines, line

pytestmark = pytest.mark.e2e

WINDOW = days(4)
BAD = WINDOW[2]
REEXECUTE = """
mutation ($params: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
STALENESS = """
query ($day: String!) { assetNodes { assetKey { path } staleStatus(partition: $day) } }
"""
DAY_2 = f"{WINDOW[1]:%Y%m%d}"
SAME_TOTALS = dg.AssetCheckKey(dg.AssetKey(["warehouse", "fact_sales"]), "same_totals")


@pytest.fixture(scope="module")
def shop(long_shop: Installation) -> Installation:
    """Four days by the command line; the third fails."""
    long_shop.deliver_catalogue()
    for day in WINDOW:
        bad = [line(day, n, sales="x") for n in range(9)] if day == BAD else []
        long_shop.deliver(day, [*good_lines(day), *bad])
    assert long_shop.backfill(WINDOW[0], WINDOW[-1]).exit_code == 3
    return long_shop


@pytest.fixture
def instance(shop: Installation) -> Iterator[dg.DagsterInstance]:
    """Dagster's storage of the installation, in its environment."""
    with (
        shop.active(),
        mock.patch.dict(os.environ, environment_of(load_project())),
        dg.DagsterInstance.get() as found,
    ):
        yield found


@pytest.fixture
def job(instance: dg.DagsterInstance) -> dg.JobDefinition:
    """All assets, as the UI's server defines them."""
    return build_definitions(load_project()).resolve_implicit_global_asset_job_def()


def execute(
    instance: dg.DagsterInstance, job: dg.JobDefinition, **tags: str
) -> dg.ExecuteInProcessResult:
    return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def check_rows(
    instance: dg.DagsterInstance, key: dg.AssetCheckKey, run_id: str
) -> dict[str | None, str]:
    """What the history of a check says of a run: status by partition."""
    rows = instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    return {row.partition: row.status.value for row in rows if row.run_id == run_id}


def checks_of(job: dg.JobDefinition, *layers: str) -> set[dg.AssetCheckKey]:
    graph = job.asset_layer.asset_graph
    return {key for key in graph.asset_check_keys if key.asset_key.path[0] in layers}


def test_the_run_of_a_command_belongs_to_the_code_location(instance: dg.DagsterInstance) -> None:
    [run] = instance.get_runs(
        dg.RunsFilter(tags={".dagster/repository": "__repository__@platform"})
    )
    origin = run.remote_job_origin
    assert origin is not None
    assert (origin.location_name, origin.job_name) == ("platform", "__ASSET_JOB")
    assert run.tags["headrace/days"] == f"{WINDOW[0]}...{WINDOW[-1]}"


def test_a_mart_does_not_take_the_facts_it_read_for_rows_of_its_own(
    instance: dg.DagsterInstance,
) -> None:
    of_day = dg.AssetRecordsFilter(
        asset_key=dg.AssetKey(["marts", "mart_customer_rfm"]),
        asset_partitions=[WINDOW[0].isoformat()],
    )
    [record] = instance.fetch_materializations(of_day, limit=1).records
    assert record.asset_materialization is not None
    found = record.asset_materialization.metadata
    assert "dagster/partition_row_count" not in found
    assert found["facts_read"].value == 4


@pytest.mark.parametrize(
    ("asset", "check", "said"),
    [
        ("warehouse/fact_sales", "same_totals", f"{WINDOW[3]}: expected"),
        (
            "marts/mart_customer_rfm",
            "mart_customer_rfm_key",
            f"{WINDOW[0]} to {WINDOW[3]}: expected",
        ),
    ],
)
def test_the_history_of_a_check_names_the_day_what_was_expected_and_what_was_found(
    instance: dg.DagsterInstance, asset: str, check: str, said: str
) -> None:
    key = dg.AssetCheckKey(dg.AssetKey(asset.split("/")), check)
    [row] = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert row.event is not None
    assert row.event.dagster_event is not None
    description = row.event.dagster_event.asset_check_evaluation_data.description or ""
    assert description.startswith(said)
    assert ", found " in description


# Of Dagster, about itself.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_all_assets_over_some_days_are_one_run(instance: dg.DagsterInstance) -> None:
    with workspace(instance) as context:
        graph, now = context.asset_graph, datetime.now(UTC)
        view = AssetGraphView(
            temporal_context=TemporalContext(effective_dt=now, last_event_id=None),
            instance=instance,
            asset_graph=graph,
        )
        wanted = AssetBackfillData.from_asset_partitions(
            asset_graph=graph,
            partition_names=[day.isoformat() for day in WINDOW],
            asset_selection=[*graph.materializable_asset_keys],
            dynamic_partitions_store=instance,
            backfill_start_timestamp=time.time(),
            all_partitions=False,
        )
        log = logging.getLogger(__name__)
        plan = execute_asset_backfill_iteration_inner("b", wanted, view, time.time(), log, {})
    [request] = plan.run_requests
    assert {*(request.asset_selection or ())} == {*graph.materializable_asset_keys}


@contextmanager
def workspace(instance: dg.DagsterInstance) -> Iterator[WorkspaceRequestContext]:
    """What the UI's server answers from."""
    target = LoadableTargetOrigin(module_name="platform_assets.definitions")
    location = InProcessCodeLocationOrigin(target, location_name="platform")
    loaded = InProcessWorkspaceLoadTarget(location)
    with WorkspaceProcessContext(instance, loaded) as context:
        yield context.create_request_context()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_run_of_a_command_can_be_executed_again(instance: dg.DagsterInstance) -> None:
    [run] = instance.get_runs(dg.RunsFilter(tags={"headrace/days": f"{WINDOW[0]}...{WINDOW[-1]}"}))
    wanted = {"parentRunId": run.run_id, "strategy": "ALL_STEPS"}
    with workspace(instance) as context:
        answer = execute_dagster_graphql(context, REEXECUTE, {"params": wanted})
    launched = answer.data["launchRunReexecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    queued = instance.get_run_by_id(launched["run"]["runId"])
    assert queued is not None
    assert queued.tags["dagster/asset_partition_range_end"] == WINDOW[-1].isoformat()
    instance.delete_run(queued.run_id)


def test_checks_that_the_ui_offers_to_execute_judge_what_is_published(
    shop: Installation, instance: dg.DagsterInstance, job: dg.JobDefinition
) -> None:
    checks = checks_of(job, "warehouse", "marts")
    alone = job.get_subset(asset_selection=set(), asset_check_selection=checks)
    assert len(checks) > 4
    ended = execute(instance, alone)
    assert ended.success
    found = {key: check_rows(instance, key, ended.run_id) for key in checks}
    assert {status for rows in found.values() for status in rows.values()} == {"SUCCEEDED"}
    assert all(found.values())
    good = {day.isoformat() for day in WINDOW if day != BAD}
    assert {*found[SAME_TOTALS]} == good
    day = WINDOW[1].isoformat()
    of_one_day = execute(instance, alone, **{"dagster/partition": day})
    assert of_one_day.success
    assert check_rows(instance, SAME_TOTALS, of_one_day.run_id) == {day: "SUCCEEDED"}

    # Somebody changed a published row by hand.
    with psycopg.connect(postgres_url(load_project(), "warehouse")) as session:
        session.execute(f"update warehouse.fact_sales set sales_value = 9 where date_key = {DAY_2}")
    ended = execute(instance, alone)
    assert check_rows(instance, SAME_TOTALS, ended.run_id)[day] == "FAILED"
    [latest] = instance.event_log_storage.get_asset_check_execution_history(SAME_TOTALS, limit=1)
    assert latest.partition == day
    assert shop.backfill(WINDOW[1], WINDOW[1]).exit_code == 0


def test_a_day_that_changes_no_dimension_leaves_no_check_without_result(
    instance: dg.DagsterInstance, job: dg.JobDefinition
) -> None:
    day = WINDOW[3].isoformat()
    ended = execute(instance, job, **{"dagster/partition": day})
    assert ended.success
    for key in checks_of(job, "processed", "curated", "warehouse", "marts"):
        rows = check_rows(instance, key, ended.run_id)
        assert {*rows.values()} == {"SUCCEEDED"}, key


def staleness(instance: dg.DagsterInstance, day: date) -> dict[str, set[str]]:
    """Assets by the mark that the UI shows at a day."""
    with workspace(instance) as context:
        answer = execute_dagster_graphql(context, STALENESS, {"day": day.isoformat()})
    found: dict[str, set[str]] = {}
    for node in answer.data["assetNodes"]:
        found.setdefault(node["staleStatus"], set()).add("/".join(node["assetKey"]["path"]))
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_was_published_again_with_equal_content_makes_nothing_stale(
    shop: Installation, instance: dg.DagsterInstance
) -> None:
    day = WINDOW[0]
    before = staleness(instance, day)
    assert {*before} == {"FRESH"}
    assert shop.backfill(day, day, select="group:raw or group:processed").exit_code == 0
    assert staleness(instance, day) == before
    shop.deliver(day, good_lines(day, 5))
    assert shop.backfill(day, day, select="group:raw").exit_code == 0
    assert staleness(instance, day)["STALE"] == {"processed/retail_transactions"}
    assert shop.backfill(day, day).exit_code == 0
    assert staleness(instance, day) == before
