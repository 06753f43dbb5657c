"""Dagster's private parts behave as we rely on: pinned here, on its Postgres storage."""

import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.partition_status_cache import (
    get_and_update_asset_status_cache_value,
)

from platform_assets import events
from platform_assets.partitions import range_tags
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
        events.keep_connections(made)
        yield made


def chain(*, bad_at: str | None) -> dg.JobDefinition:
    """Three assets in a row that say themselves which partitions are good."""

    def asset(name: str, upstream: list[str]) -> dg.AssetsDefinition:
        @dg.asset(
            name=name,
            deps=upstream,
            partitions_def=DAYS,
            backfill_policy=dg.BackfillPolicy.single_run(),
            check_specs=[dg.AssetCheckSpec("sound", asset=name)],
        )
        def made(context: dg.AssetExecutionContext) -> Iterator[Any]:
            step = context.get_step_execution_context()
            events.defer_asset_events(context.run)
            bad = [BAD] if name == bad_at else []
            good = [key for key in context.partition_keys if key not in bad]
            events.log_materializations(step, context.asset_key, {key: {"rows": 1} for key in good})
            events.log_checks(
                step,
                [
                    events.JudgedCheck(context.asset_key, "sound", key not in bad, key)
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
    return dg.Definitions(assets=assets).resolve_implicit_global_asset_job_def()


def states(instance: dg.DagsterInstance, name: str) -> tuple[set[str], set[str]]:
    """Materialized and failed partitions, as the UI's partition bar shows them."""
    value = get_and_update_asset_status_cache_value(instance, dg.AssetKey(name), DAYS)
    assert value is not None
    materialized = value.deserialize_materialized_partition_subsets(DAYS)
    failed = value.deserialize_failed_partition_subsets(DAYS)
    return set(materialized.get_partition_keys()), set(failed.get_partition_keys())


def run(instance: dg.DagsterInstance, *, bad_at: str | None = None) -> Any:
    first, last = date.fromisoformat(KEYS[0]), date.fromisoformat(KEYS[-1])
    return chain(bad_at=bad_at).execute_in_process(
        instance=instance,
        tags=range_tags(first, last),
        raise_on_error=False,
    )


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
        blocking=True,
    )
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey("first"), asset_partitions=[KEYS[0]]), limit=1
    ).records
    assert records[0].asset_materialization == dg.AssetMaterialization(
        "first", partition=KEYS[0], metadata={"rows": 1}
    )


def test_dagsters_own_table_is_looked_at_once(instance: dg.DagsterInstance) -> None:
    run(instance)
    with mock.patch.object(
        SqlEventLogStorage,
        "_has_asset_key_col_on_connection",
        autospec=True,
        return_value=True,
    ) as looked:
        assert run(instance).success
    assert looked.call_count == 0
