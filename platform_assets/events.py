"""Dagster's private parts: logging one event a partition, many at a time.

Belongs here: everything that reaches below Dagster's public API; tests pin its behaviour.
Elsewhere: deciding what to log (platform_assets.recorder).

Why at all. In a run over a range, Dagster marks every partition of the range as materialized
once the step succeeds, and logs each event by itself: 365 partitions of 6 assets took 38.8 s.
Here the assets say themselves which partitions are good, in one insert an asset.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
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
from dagster._serdes import deserialize_value, serialize_value
from sqlalchemy import Connection

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
    step: Step, key: dg.AssetKey, metadata: Mapping[str | None, Mapping[str, int | float | str]]
) -> None:
    """Mark each partition in `metadata` as materialized; None stands for an asset without any."""
    if not metadata:
        return
    kind = DagsterEventType.ASSET_MATERIALIZATION
    first = _entry(step, kind, StepMaterializationData(dg.AssetMaterialization(key)))
    storage = step.instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise TypeError(f"events are stored in SQL, not in a {type(storage).__name__}")
    template = serialize_value(first)
    texts = [
        _rendered(template, "materialization", partition, _metadata(values))
        for partition, values in metadata.items()
    ]
    rows = [
        {**storage._event_to_row(first), "event": text, "partition": partition}
        for text, partition in zip(texts, metadata, strict=True)
    ]
    with storage.index_connection() as connection:
        ids = _insert_events(connection, rows)
        last = deserialize_value(texts[-1], EventLogEntry)
        storage.store_asset_event(last, ids[-1])


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
    storage, table = step.instance.event_log_storage, AssetCheckExecutionsTable
    if not isinstance(storage, SqlEventLogStorage):
        raise TypeError(f"events are stored in SQL, not in a {type(storage).__name__}")
    by_check: dict[tuple[dg.AssetKey, str], list[dg.AssetCheckEvaluation]] = {}
    for evaluation in evaluations:
        by_check.setdefault((evaluation.asset_key, evaluation.check_name), []).append(evaluation)
    with storage.index_connection() as connection:
        for (key, name), some in by_check.items():
            is_planned = (
                (table.c.asset_key == key.to_string())
                & (table.c.check_name == name)
                & (table.c.run_id == step.run_id)
            )
            connection.execute(table.delete().where(is_planned))
            first = _entry(step, DagsterEventType.ASSET_CHECK_EVALUATION, some[0])
            template = serialize_value(first)
            texts = [
                _rendered(template, None, e.partition, _metadata(_plain(e)), success=e.passed)
                for e in some
            ]
            row = storage._event_to_row(first)
            rows = [
                {**row, "event": text, "partition": evaluation.partition}
                for text, evaluation in zip(texts, some, strict=True)
            ]
            ids = _insert_events(connection, rows)
            connection.execute(
                table.insert(),
                [_execution(first, *one) for one in zip(some, texts, ids, strict=True)],
            )


def _insert_events(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    insert = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id)
    found: list[int] = []
    for start in range(0, len(rows), _CHUNK):
        found += [row[0] for row in connection.execute(insert, rows[start : start + _CHUNK])]
    return found


def _rendered(
    template: str,
    part: str | None,
    partition: str | None,
    metadata: Mapping[str, Mapping[str, Any]],
    **fields: object,
) -> str:
    """A serialized event, for another partition and with other metadata.

    Dagster takes 90 µs to serialize an event; a year has ten thousand that differ in little.
    """
    document = json.loads(template)
    data = document["dagster_event"]["event_specific_data"]
    if part is None:
        data.update(partition=partition, metadata=dict(metadata), **fields)
    else:
        entries = [_metadata_entry(name, value) for name, value in metadata.items()]
        data[part].update(partition=partition, metadata_entries=entries, **fields)
    return json.dumps(document)


def _metadata_entry(label: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "__class__": "EventMetadataEntry",
        "description": None,
        "entry_data": value,
        "label": label,
    }


def _metadata(values: Mapping[str, int | float | str]) -> dict[str, dict[str, Any]]:
    return {name: _metadata_value(value) for name, value in values.items()}


def _metadata_value(value: float | str) -> dict[str, Any]:
    if isinstance(value, str):
        return {"__class__": "TextMetadataEntryData", "text": value}
    kind = "IntMetadataEntryData" if isinstance(value, int) else "FloatMetadataEntryData"
    return {"__class__": kind, "value": value}


def _plain(evaluation: dg.AssetCheckEvaluation) -> dict[str, int | float | str]:
    found: dict[str, int | float | str] = {}
    for name, metadata in evaluation.metadata.items():
        value = metadata.value
        found[name] = value if isinstance(value, int | float) else str(value)
    return found


def _execution(
    template: EventLogEntry, evaluation: dg.AssetCheckEvaluation, text: str, event_id: int
) -> dict[str, Any]:
    status = AssetCheckExecutionRecordStatus
    at = datetime.fromtimestamp(template.timestamp, UTC).replace(tzinfo=None)
    return {
        "asset_key": evaluation.asset_key.to_string(),
        "check_name": evaluation.check_name,
        "run_id": template.run_id,
        "execution_status": (status.SUCCEEDED if evaluation.passed else status.FAILED).value,
        "evaluation_event": text,
        "evaluation_event_timestamp": at,
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


def keep_connections(instance: dg.DagsterInstance) -> None:
    """Let the instance keep its connection: it opens one a statement otherwise (0.15 s a step)."""
    instance.optimize_for_webserver(statement_timeout=60_000, pool_recycle=3600, max_overflow=10)
