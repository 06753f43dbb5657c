"""Dagster's private parts: logging one event a partition, many at a time.

Belongs here: everything that reaches below Dagster's public API; tests pin its behaviour.
Elsewhere: deciding what to log (platform_assets.recorder).

Why at all. In a run over a range, Dagster marks every partition of the range as materialized
once the step succeeds, and logs each event by itself: 365 partitions of 6 assets took 38.8 s.
Here the assets say themselves which partitions are good, in one insert an asset.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.events import (
    AssetMaterializationPlannedData,
    DagsterEvent,
    DagsterEventType,
    EventSpecificData,
    StepMaterializationData,
)
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.context.system import StepExecutionContext
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import SqlEventLogStorage, SqlEventLogStorageTable
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.tags import EXTERNALLY_MANAGED_ASSETS_TAG
from dagster._serdes import serialize_value

Step = StepExecutionContext

# Rows an INSERT statement: more gain nothing, and the statement's text would grow without bound.
_CHUNK = 1000


def defer_asset_events(run: dg.DagsterRun) -> None:
    """Keep Dagster from marking the whole range of this run as materialized.

    Runs from the UI and the daemon come without the tag, and a run's tags are fixed once it is
    stored; the executor looks at the copy in memory, so that is where it is set.
    """
    run.tags[EXTERNALLY_MANAGED_ASSETS_TAG] = "true"  # type: ignore[index]


def log_materializations(
    step: Step, key: dg.AssetKey, metadata: Mapping[str | None, Mapping[str, Any]]
) -> None:
    """Mark each partition in `metadata` as materialized; None stands for an asset without any."""
    entries = [
        _entry(
            step,
            DagsterEventType.ASSET_MATERIALIZATION,
            StepMaterializationData(
                dg.AssetMaterialization(key, partition=partition, metadata=values)
            ),
        )
        for partition, values in metadata.items()
    ]
    storage = step.instance.event_log_storage
    for chunk in _chunks(entries):
        if len(chunk) == 1:
            storage.store_event(chunk[0])
        else:
            storage.store_event_batch(chunk)


def log_planned(step: Step, key: dg.AssetKey, partitions: Sequence[str]) -> None:
    """Announce partitions one by one: those without a materialization turn red as the run fails.

    With DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS the run announced them as one range,
    which costs nothing and marks nothing.
    """
    for partition in partitions:
        event = DagsterEvent.build_asset_materialization_planned_event(
            step.job_name, step.step.key, AssetMaterializationPlannedData(key, partition=partition)
        )
        step.instance.report_dagster_event(event, run_id=step.run_id)


def log_checks(step: Step, evaluations: Sequence[dg.AssetCheckEvaluation]) -> None:
    """Store check evaluations, each with its partition, instead of those that the run planned."""
    entries = [
        _entry(step, DagsterEventType.ASSET_CHECK_EVALUATION, evaluation)
        for evaluation in evaluations
    ]
    storage = step.instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        for entry in entries:
            storage.store_event(entry)
        return
    planned = {(e.asset_key.to_string(), e.check_name) for e in evaluations}
    table = AssetCheckExecutionsTable
    with storage.index_connection() as connection:
        for key, name in planned:
            connection.execute(
                table.delete().where(
                    (table.c.asset_key == key)
                    & (table.c.check_name == name)
                    & (table.c.run_id == step.run_id)
                )
            )
        for chunk in _chunks(entries):
            rows = [storage._event_to_row(entry) for entry in chunk]
            insert = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id)
            ids = [row[0] for row in connection.execute(insert, rows)]
            executions = [_execution(*pair) for pair in zip(chunk, ids, strict=True)]
            connection.execute(table.insert(), executions)


def _execution(entry: EventLogEntry, event_id: int) -> dict[str, Any]:
    evaluation = entry.get_dagster_event().event_specific_data
    if not isinstance(evaluation, AssetCheckEvaluation):
        raise TypeError(f"not a check evaluation: {type(evaluation).__name__}")
    status = AssetCheckExecutionRecordStatus
    return {
        "asset_key": evaluation.asset_key.to_string(),
        "check_name": evaluation.check_name,
        "run_id": entry.run_id,
        "execution_status": (status.SUCCEEDED if evaluation.passed else status.FAILED).value,
        "evaluation_event": serialize_value(entry),
        "evaluation_event_timestamp": datetime.fromtimestamp(entry.timestamp, UTC).replace(
            tzinfo=None
        ),
        "evaluation_event_storage_id": event_id,
        "partition": evaluation.partition,
    }


def _entry(step: Step, kind: DagsterEventType, what: EventSpecificData) -> EventLogEntry:
    event = DagsterEvent(
        event_type_value=kind.value,
        job_name=step.job_name,
        step_handle=step.step.handle,
        node_handle=step.step.node_handle,
        step_kind_value=step.step.kind.value,
        logging_tags=step.event_tags,
        event_specific_data=what,
    )
    return EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None,
        level="info",
        user_message="",
        run_id=step.run_id,
        timestamp=datetime.now(UTC).timestamp(),
        step_key=step.step.key,
        job_name=step.job_name,
        dagster_event=event,
    )


def _chunks(entries: Sequence[EventLogEntry]) -> list[Sequence[EventLogEntry]]:
    return [entries[start : start + _CHUNK] for start in range(0, len(entries), _CHUNK)]


def keep_connections(instance: dg.DagsterInstance) -> None:
    """Let the instance keep its connection: it opens one a statement otherwise (0.15 s a step)."""
    instance.optimize_for_webserver(statement_timeout=60_000, pool_recycle=3600, max_overflow=10)
