"""Dagster's private parts behave as we rely on: pinned here, on its Postgres storage."""

import os
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import psycopg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.partition_status_cache import (
    get_and_update_asset_status_cache_value,
)

from platform_assets.partitions import range_tags
from platform_assets.processes import instance_connections
from platform_assets.steps import events
from tests import servers

DAYS = dg.DailyPartitionsDefinition("2017-01-01", end_date="2017-01-08")
KEYS = DAYS.get_partition_keys()
BAD = "2017-01-04"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    home: Path = tmp_path_factory.mktemp("dagster")
    url = servers.postgres().uri("dagster", driver="psycopg2")
    (home / "dagster.yaml").write_text(
        f'storage: {{postgres: {{postgres_url: "{url}"}}}}\ntelemetry: {{enabled: false}}\n'
    )
    variables = {"DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1"}
    with mock.patch.dict(os.environ, variables), dg.DagsterInstance.from_config(str(home)) as made:
        instance_connections.pool_connections(made)
        yield made


def test_kept_connections_are_closed_when_they_are_dropped(instance: dg.DagsterInstance) -> None:
    query = "select count(*) from pg_stat_activity where datname = 'dagster'"
    instance.get_runs_count()
    with psycopg.connect(servers.postgres().uri("dagster"), autocommit=True) as session:
        assert session.execute(query).fetchone() != (1,)
        instance_connections.close_connections(instance)
        ends = time.monotonic() + 10
        while session.execute(query).fetchone() != (1,):
            assert time.monotonic() < ends, "more than this test's own are left"
            time.sleep(0.05)


def chain(
    *,
    bad_at: str | None = None,
    version: str = "1",
    stops: bool = False,
    content: str | None = None,
) -> dg.Definitions:
    """Three assets in a row that say themselves which partitions are good, and what they hold."""

    def asset(name: str, upstream: list[str]) -> dg.AssetsDefinition:
        inputs = {parent: f"{parent} {content}" for parent in upstream if content}

        @dg.asset(
            name=name,
            deps=upstream,
            partitions_def=DAYS,
            code_version=version,
            backfill_policy=dg.BackfillPolicy.single_run(),
            check_specs=[dg.AssetCheckSpec("sound", asset=name)],
        )
        def made(context: dg.AssetExecutionContext) -> Iterator[Any]:
            step = context.get_step_execution_context()
            events.defer_asset_events(step)
            if stops and name == bad_at:
                raise dg.Failure("nothing was read", allow_retries=False)
            bad = [BAD] if name == bad_at else []
            good = [key for key in context.partition_keys if key not in bad]
            said = events.Materialization({"rows": 1}, content and f"{name} {content}", inputs)
            events.log_materializations(step, context.asset_key, dict.fromkeys(good, said))
            events.log_checks(
                step,
                [
                    events.CheckEvaluation(
                        context.asset_key, "sound", key not in bad, key, description=f"{key}: ok"
                    )
                    for key in context.partition_keys
                ],
            )
            events.log_planned(step, context.asset_key, bad)
            yield dg.MaterializeResult()
            yield dg.Output(None, output_name=f"{name}_sound")
            if name == "third" and bad_at:
                raise dg.Failure("a day was held", allow_retries=False)

        return made

    assets = [asset("first", []), asset("second", ["first"]), asset("third", ["second"])]
    return dg.Definitions(assets=assets)


def states(instance: dg.DagsterInstance, name: str) -> tuple[set[str], set[str]]:
    """Materialized and failed partitions, as the UI's partition bar shows them."""
    value = get_and_update_asset_status_cache_value(instance, dg.AssetKey(name), DAYS)
    assert value is not None
    materialized = value.deserialize_materialized_partition_subsets(DAYS)
    failed = value.deserialize_failed_partition_subsets(DAYS)
    return set(materialized.get_partition_keys()), set(failed.get_partition_keys())


def run(
    instance: dg.DagsterInstance,
    *,
    bad_at: str | None = None,
    select: str = "*",
    last: str = "",
    stops: bool = False,
    content: str | None = None,
) -> Any:
    definitions = chain(bad_at=bad_at, stops=stops, content=content)
    job = definitions.resolve_implicit_global_asset_job_def()
    window = date.fromisoformat(KEYS[0]), date.fromisoformat(last or KEYS[-1])
    return job.get_subset(
        asset_selection=dg.AssetSelection.from_string(select).resolve(job.asset_layer.asset_graph)
    ).execute_in_process(instance=instance, tags=range_tags(*window), raise_on_error=False)


def test_a_bad_partition_turns_red_and_the_others_green_past_it(
    instance: dg.DagsterInstance,
) -> None:
    result = run(instance, bad_at="second")
    assert not result.success
    assert states(instance, "first") == (set(KEYS), set())
    assert states(instance, "second") == (set(KEYS) - {BAD}, {BAD})
    assert states(instance, "third") == (set(KEYS), set())


def test_checks_are_stored_by_partition_and_none_stays_planned(
    instance: dg.DagsterInstance,
) -> None:
    result = run(instance, bad_at="second")
    history = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("second"), "sound"), limit=100
    )
    found = {row.partition: row.status.value for row in history if row.run_id == result.run_id}
    assert found == {key: "FAILED" if key == BAD else "SUCCEEDED" for key in KEYS}


def test_a_check_that_a_failed_run_did_not_come_to_keeps_its_last_result(
    instance: dg.DagsterInstance,
) -> None:
    run(instance)
    failed = run(instance, bad_at="first", stops=True)
    assert not failed.success
    for name in ("first", "second", "third"):
        [latest] = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey(name), "sound"), limit=1
        )
        assert latest.run_id != failed.run_id, name
        assert latest.status.value == "SUCCEEDED"


def test_a_repaired_partition_turns_green_again(instance: dg.DagsterInstance) -> None:
    run(instance, bad_at="second")
    assert run(instance).success
    assert states(instance, "second") == (set(KEYS), set())


def test_a_partitions_metadata_can_be_read_back(instance: dg.DagsterInstance) -> None:
    run(instance)
    event = instance.get_latest_data_version_record(dg.AssetKey("first"), partition_key=KEYS[2])
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["rows"].value == 1


def test_events_written_by_hand_read_back_as_dagsters_own(instance: dg.DagsterInstance) -> None:
    result = run(instance)
    storage = instance.event_log_storage
    history = storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("first"), "sound"), limit=100
    )
    evaluations = {
        row.partition: row.event.dagster_event.asset_check_evaluation_data
        for row in history
        if row.run_id == result.run_id and row.event and row.event.dagster_event
    }
    assert evaluations[KEYS[0]] == dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("first"),
        check_name="sound",
        passed=True,
        partition=KEYS[0],
        description=f"{KEYS[0]}: ok",
        blocking=True,
    )
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey("first"), asset_partitions=[KEYS[0]]), limit=1
    ).records
    assert records[0].asset_materialization == dg.AssetMaterialization(
        "first",
        partition=KEYS[0],
        metadata={"rows": 1},
        tags={"dagster/code_version": "1", "dagster/data_version": result.run_id},
    )


def test_no_two_events_of_an_asset_have_the_same_millisecond(instance: dg.DagsterInstance) -> None:
    result = run(instance)
    of_run = dg.AssetRecordsFilter(asset_key=dg.AssetKey("first"))
    found = instance.fetch_materializations(of_run, limit=len(KEYS)).records
    logged = [record.event_log_entry for record in found if record.run_id == result.run_id]
    assert len({int(entry.timestamp * 1000) for entry in logged}) == len(KEYS)
    assert [record.partition_key for record in found] == KEYS[::-1]
    history = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("first"), "sound"), limit=len(KEYS)
    )
    assert len({int(row.event.timestamp * 1000) for row in history if row.event}) == len(KEYS)


def test_events_of_one_step_follow_each_other_though_they_are_logged_in_two_calls(
    instance: dg.DagsterInstance,
) -> None:
    @dg.asset(name="twice", partitions_def=DAYS)
    def twice(context: dg.AssetExecutionContext) -> None:
        step = context.get_step_execution_context()
        events.defer_asset_events(step)
        for some in (KEYS[:4], KEYS[4:]):
            said = events.Materialization()
            events.log_materializations(step, context.asset_key, dict.fromkeys(some, said))
            judged = [
                events.CheckEvaluation(context.asset_key, "sound", passed=True, partition=key)
                for key in some
            ]
            events.log_checks(step, judged)

    made = dg.materialize([twice], instance=instance, partition_key=KEYS[0])
    assert made.success
    found = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey("twice")), limit=100
    ).records
    assert len({int(record.timestamp * 1000) for record in found}) == len(KEYS)
    history = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("twice"), "sound"), limit=100
    )
    assert {row.partition for row in history} == {*KEYS}


def stale(
    instance: dg.DagsterInstance, definitions: dg.Definitions, key: str
) -> dict[str, list[str]]:
    """Why the UI shows a partition of each asset as stale."""
    resolver = CachingStaleStatusResolver(
        instance, definitions.resolve_asset_graph(), LoadingContextForTest(instance)
    )
    return {
        name: [cause.reason for cause in resolver.get_stale_causes(dg.AssetKey(name), key)]
        for name in ("first", "second", "third")
    }


def test_a_changed_rule_makes_partitions_stale_and_a_run_makes_them_fresh(
    instance: dg.DagsterInstance,
) -> None:
    run(instance)
    fresh: dict[str, list[str]] = {"first": [], "second": [], "third": []}
    assert stale(instance, chain(), KEYS[1]) == fresh
    changed = stale(instance, chain(version="2"), KEYS[1])
    assert changed == {key: ["has a new code version"] for key in fresh}


def test_only_what_lies_below_a_new_publication_is_stale(instance: dg.DagsterInstance) -> None:
    run(instance)
    run(instance, select="first", last=KEYS[1])
    found = stale(instance, chain(), KEYS[1])
    assert found == {"first": [], "second": ["has a new dependency data version"], "third": []}
    assert not any(stale(instance, chain(), KEYS[2]).values())
    run(instance, select="second+", last=KEYS[1])
    assert not any(stale(instance, chain(), KEYS[1]).values())


def test_a_publication_of_equal_content_leaves_what_lies_below_fresh(
    instance: dg.DagsterInstance,
) -> None:
    run(instance, content="a")
    run(instance, select="first", last=KEYS[1], content="a")
    assert not any(stale(instance, chain(), KEYS[1]).values())
    run(instance, select="first", last=KEYS[1], content="b")
    changed = stale(instance, chain(), KEYS[1])
    assert changed == {"first": [], "second": ["has a new dependency data version"], "third": []}
    run(instance, select="first", last=KEYS[1], content="a")
    assert not any(stale(instance, chain(), KEYS[1]).values())


def test_the_event_of_a_partition_names_the_versions_that_it_was_built_from(
    instance: dg.DagsterInstance,
) -> None:
    run(instance, content="a")
    record = instance.get_latest_data_version_record(dg.AssetKey("second"), partition_key=KEYS[2])
    assert record is not None
    assert record.asset_materialization is not None
    tags = record.asset_materialization.tags or {}
    assert tags["dagster/data_version"] == "second a"
    assert tags["dagster/input_data_version/first"] == "first a"


def test_each_column_of_dagsters_table_of_assets_is_looked_up_once(
    instance: dg.DagsterInstance,
) -> None:
    look_up = SqlEventLogStorage._has_asset_key_col_on_connection
    # Patched before the connections are pooled, which wraps the method as it is then.
    with (
        dg.DagsterInstance.from_ref(instance.get_ref()) as fresh,
        mock.patch.object(
            SqlEventLogStorage,
            "_has_asset_key_col_on_connection",
            autospec=True,
            side_effect=look_up,
        ) as looked_up,
    ):
        instance_connections.pool_connections(fresh)
        for _ in range(2):
            assert run(fresh).success
        instance_connections.close_connections(fresh)
    columns = [call.args[2] for call in looked_up.call_args_list]
    assert columns
    assert len(columns) == len({*columns})
