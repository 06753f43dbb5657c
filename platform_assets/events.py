"""Dagster's private parts: logging one event a partition, many at a time.

Belongs here: everything that reaches below Dagster's public API; tests pin its behaviour.
Elsewhere: deciding what to log (platform_assets.recorder).

Why at all. In a run over a range, Dagster marks every partition of the range as materialized
once the step succeeds, and logs each event by itself: 365 partitions of 6 assets took 38.8 s.
Here the assets say themselves which partitions are good, in one insert an asset.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

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
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus as _CheckStatus,
)
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.tags import EXTERNALLY_MANAGED_ASSETS_TAG
from dagster._serdes import deserialize_value, serialize_value
from dagster_postgres.event_log import PostgresEventLogStorage
from sqlalchemy import Connection, text

Step = StepExecutionContext

# The server writes the texts out: sent whole, a year's ten thousand were 25 MB and took the client
# longer than the server. The ids are drawn first, for the second table names them.
_DRAWN = """
with drawn as materialized (
    select
        nextval(pg_get_serial_sequence('event_logs', 'id')) as id,
        replace(
            replace(replace(:text, :partition_mark, as_json), :metadata_mark, metadata),
            :success_mark, success
        ) as event,
        partition,
        success
    from unnest(
        cast(:partitions as text []), cast(:as_json as text []),
        cast(:metadata as text []), cast(:success as text [])
    ) as filled (partition, as_json, metadata, success)
),

stored as (
    insert into event_logs (
        id, run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition
    )
    select
        id, :run_id, event, :dagster_event_type, :timestamp, :step_key, :asset_key, partition
    from drawn
)
"""
_STORE = f"{_DRAWN} select max(id) from drawn"  # noqa: S608  # of constants alone
_STORE_EVALUATIONS = f"""{_DRAWN}
insert into asset_check_executions (
    asset_key, check_name, partition, run_id, execution_status,
    evaluation_event, evaluation_event_timestamp, evaluation_event_storage_id
)
select
    :checked_key, :check_name, partition, :run_id,
    case success when 'true' then :succeeded else :failed end, event, :timestamp, id
from drawn
"""  # noqa: S608  # of constants alone


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
    template = _Template.of(
        _entry(step, kind, StepMaterializationData(dg.AssetMaterialization(key))), "materialization"
    )
    filled = [
        _Filling(partition, [_metadata_entry(*one) for one in _metadata(values).items()])
        for partition, values in metadata.items()
    ]
    storage = _storage(step)
    with storage.index_connection() as connection:
        stored = connection.execute(text(_STORE), template.parameters(storage, filled))
        last_id = int(stored.scalar_one())
        storage.store_asset_event(template.filled(filled[-1]), last_id)


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


@dataclass(frozen=True)
class JudgedCheck:
    """What one check said of a partition, or of a whole asset.

    Dagster's own form of it takes 40 µs to make; a year has ten thousand.
    """

    key: dg.AssetKey
    name: str
    passed: bool
    partition: str | None = None
    metadata: Mapping[str, int | float | str] = field(default_factory=dict)

    def evaluation(self) -> dg.AssetCheckEvaluation:
        """In Dagster's form; a check that fails keeps its partition from being published."""
        return dg.AssetCheckEvaluation(
            asset_key=self.key,
            check_name=self.name,
            passed=self.passed,
            partition=self.partition,
            metadata=self.metadata,
            blocking=True,
        )


def log_checks(step: Step, judged: Iterable[JudgedCheck]) -> None:
    """Store check evaluations, each with its partition, instead of those that the run planned."""
    by_check: dict[tuple[dg.AssetKey, str], list[JudgedCheck]] = {}
    for one in judged:
        by_check.setdefault((one.key, one.name), []).append(one)
    storage, table, status = _storage(step), AssetCheckExecutionsTable, _CheckStatus
    with storage.index_connection() as connection:
        for (key, name), some in by_check.items():
            is_planned = (
                (table.c.asset_key == key.to_string())
                & (table.c.check_name == name)
                & (table.c.run_id == step.run_id)
            )
            connection.execute(table.delete().where(is_planned))
            entry = _entry(step, DagsterEventType.ASSET_CHECK_EVALUATION, some[0].evaluation())
            template = _Template.of(entry)
            filled = [_Filling(c.partition, _metadata(c.metadata), success=c.passed) for c in some]
            more = {
                "checked_key": key.to_string(),
                "check_name": name,
                "succeeded": status.SUCCEEDED.value,
                "failed": status.FAILED.value,
            }
            parameters = template.parameters(storage, filled) | more
            connection.execute(text(_STORE_EVALUATIONS), parameters)


@dataclass(frozen=True)
class _Filling:
    """In what the events of one kind and asset differ; metadata as Dagster serializes it."""

    partition: str | None
    metadata: object
    success: bool = True


@dataclass(frozen=True)
class _Template:
    """A serialized event with marks in the place of what a `_Filling` holds.

    Dagster takes 90 µs to serialize an event; a year has ten thousand that differ in little.
    """

    entry: EventLogEntry
    text: str
    mark: str

    @classmethod
    def of(cls, entry: EventLogEntry, part: str | None = None) -> "_Template":
        """From one event; its metadata is in `part`, as entries, or in the event's own data."""
        mark = uuid4().hex
        document = json.loads(serialize_value(entry))
        data = document["dagster_event"]["event_specific_data"]
        if part is None:
            data |= {"metadata": f"{mark}-metadata", "success": f"{mark}-success"}
        else:
            data = data[part]
            data["metadata_entries"] = f"{mark}-metadata"
        data["partition"] = f"{mark}-partition"
        return cls(entry, json.dumps(document), mark)

    def filled(self, filling: _Filling) -> EventLogEntry:
        """One event, as the server writes it."""
        found = self.text
        for name in ("partition", "metadata", "success"):
            found = found.replace(self._marked(name), json.dumps(getattr(filling, name)))
        return deserialize_value(found, EventLogEntry)

    def parameters(
        self, storage: PostgresEventLogStorage, filled: Sequence[_Filling]
    ) -> dict[str, object]:
        """Of the statements above."""
        return {
            **storage._event_to_row(self.entry),
            "text": self.text,
            **{f"{n}_mark": self._marked(n) for n in ("partition", "metadata", "success")},
            "partitions": [filling.partition for filling in filled],
            "as_json": [json.dumps(filling.partition) for filling in filled],
            "metadata": [json.dumps(filling.metadata) for filling in filled],
            "success": [json.dumps(filling.success) for filling in filled],
        }

    def _marked(self, name: str) -> str:
        return json.dumps(f"{self.mark}-{name}")


def _storage(step: Step) -> PostgresEventLogStorage:
    storage = step.instance.event_log_storage
    if not isinstance(storage, PostgresEventLogStorage):
        raise TypeError(f"events are stored in Postgres, not in a {type(storage).__name__}")
    return storage


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
    storage = instance.event_log_storage
    if isinstance(storage, PostgresEventLogStorage):
        _know_columns(storage)


def _know_columns(storage: PostgresEventLogStorage) -> None:
    """Let it ask once for each column of its table of assets: a day's run asked 33 times, 0.2 s."""
    ask, known = storage._has_asset_key_col_on_connection, set[str]()

    def is_there(connection: Connection, column: str) -> bool:
        # One that is missing may come by a migration.
        if column not in known and ask(connection, column):
            known.add(column)
        return column in known

    storage._has_asset_key_col_on_connection = is_there  # type: ignore[method-assign, assignment]
