"""Dagster's events of partitions, written to its tables in one statement an asset.

In a run over a range, Dagster marks every partition of the range as materialized when the step
succeeds, and stores check evaluations one by one (docs/decisions/0041-events-by-sql.md).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
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

# The server fills a template: whole events of a year are 25 MB of text, and the client needs longer
# to serialize them than the server to store them. Ids are drawn first, because
# asset_check_executions stores them, too.
_DRAWN = """
with drawn as materialized (
    select
        nextval(pg_get_serial_sequence('event_logs', 'id')) as id,
        replace(
            replace(
                replace(
                    replace(
                        replace(replace(:text, :partition_mark, as_json), :metadata_mark, metadata),
                        :tags_mark, tags
                    ),
                    :success_mark, success
                ),
                :description_mark, description
            ),
            :time_mark, as_time
        ) as event,
        to_timestamp(cast(as_time as double precision)) at time zone 'utc' as at,
        partition,
        success
    from unnest(
        cast(:partitions as text []), cast(:as_json as text []), cast(:metadata as text []),
        cast(:tags as text []), cast(:success as text []), cast(:description as text []),
        cast(:times as text [])
    ) as filled (partition, as_json, metadata, tags, success, description, as_time)
),

stored as (
    insert into event_logs (
        id, run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition
    )
    select
        id, :run_id, event, :dagster_event_type, at, :step_key, :asset_key, partition
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
    case success when 'true' then :succeeded else :failed end, event, at, id
from drawn
"""  # noqa: S608  # of constants alone

# `started`: the step's start event; the step read what was published before it. `last_at`: time of
# the asset's last event of the type.
_LOG_STATE = """
select
    (
        select max(id) from event_logs
        where run_id = :run_id and step_key = :step_key
        and dagster_event_type in ('STEP_START', 'STEP_RESTARTED')
    ) as started,
    (select max(id) from event_logs) as latest,
    (
        select extract(epoch from max(timestamp) at time zone 'utc') from event_logs
        where run_id = :run_id and asset_key = :asset_key
        and dagster_event_type = :dagster_event_type
    ) as last_at
"""
# Of several events with the same millisecond, the UI shows one.
_MIN_GAP_SECONDS = 0.001


def defer_asset_events(step: Step) -> None:
    """Prevent Dagster from logging a run's asset events by itself; idempotent.

    Dagster would mark the whole range of the run as materialized. A tag of the run prevents this.
    Runs from the UI and the daemon lack the tag, and tags of a stored run cannot change. Dagster
    reads the tags of the run in memory, so the tag is set there.

    Dagster has also planned a result of each check. The UI would show a planned check as failed or
    skipped if the run does not reach it. The planned results are deleted, so that such a check
    keeps its last result.
    """
    run = step.dagster_run
    if EXTERNALLY_MANAGED_ASSETS_TAG in run.tags:
        return
    run.tags[EXTERNALLY_MANAGED_ASSETS_TAG] = "true"  # type: ignore[index]
    keys = step.job_def.asset_layer.asset_graph.asset_check_keys
    table = AssetCheckExecutionsTable
    # Filtered by asset and name, which the table's index covers.
    planned = [
        table.delete().where(
            (table.c.asset_key == key.asset_key.to_string())
            & (table.c.check_name == key.name)
            & (table.c.run_id == step.run_id)
            & (table.c.execution_status == _CheckStatus.PLANNED.value)
        )
        for key in keys
    ]
    if planned:
        with _storage(step).index_connection() as connection:
            for statement in planned:
                connection.execute(statement)


@dataclass(frozen=True)
class Materialization:
    """The materialization of one partition.

    Attributes:
        metadata: Counts and texts that the UI shows.
        data_version: Content version of the rows; None: a new one.
        inputs: By name of an input, the content version that was read.
    """

    metadata: Mapping[str, int | float | str] = field(default_factory=dict)
    data_version: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)


def log_materializations(
    step: Step, key: dg.AssetKey, materialized: Mapping[str | None, Materialization]
) -> None:
    """Log a materialization of each partition; the key None stands for an unpartitioned asset."""
    if not materialized:
        return
    kind = DagsterEventType.ASSET_MATERIALIZATION
    storage = _storage(step)
    with storage.index_connection() as connection:
        before = _LogState.of(connection, step, key, kind)
        tags = _VersionTags.of(step, key, before)
        event = StepMaterializationData(dg.AssetMaterialization(key))
        template = _Template.of(_entry(step, kind, event))
        filled = [
            _EventValues(
                partition,
                at,
                [_metadata_entry(*value) for value in _metadata(one.metadata).items()],
                tags=tags.of_partition(one),
            )
            for (partition, one), at in zip(
                materialized.items(), before.times(len(materialized)), strict=True
            )
        ]
        stored = connection.execute(text(_STORE), template.parameters(storage, filled))
        last_id = int(stored.scalar_one())
        storage.store_asset_event(template.filled(filled[-1]), last_id)


def log_planned(step: Step, key: dg.AssetKey, partitions: Sequence[str | None]) -> None:
    """Log a planned materialization of each partition that failed.

    Dagster shows a partition as failed if it was planned and not materialized when the run fails.
    The run itself plans its range as one event (DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS),
    which does not have that effect.
    """
    for partition in partitions:
        event = DagsterEvent.build_asset_materialization_planned_event(
            step.job_name, step.step.key, AssetMaterializationPlannedData(key, partition=partition)
        )
        step.instance.report_dagster_event(event, run_id=step.run_id)


@dataclass(frozen=True)
class CheckEvaluation:
    """The evaluation of one check of a partition, or of a whole asset.

    Dagster's own class takes 40 µs to construct; a year has ten thousand.
    """

    key: dg.AssetKey
    name: str
    passed: bool
    partition: str | None = None
    metadata: Mapping[str, int | float | str] = field(default_factory=dict)
    description: str | None = None

    def evaluation(self) -> dg.AssetCheckEvaluation:
        """The evaluation in Dagster's form. All checks block the publication of their partition."""
        return dg.AssetCheckEvaluation(
            asset_key=self.key,
            check_name=self.name,
            passed=self.passed,
            partition=self.partition,
            metadata=self.metadata,
            description=self.description,
            blocking=True,
        )


def log_checks(step: Step, evaluations: Iterable[CheckEvaluation]) -> None:
    """Store check evaluations, each with its partition, in place of the planned ones."""
    by_check: dict[tuple[dg.AssetKey, str], list[CheckEvaluation]] = {}
    for one in evaluations:
        by_check.setdefault((one.key, one.name), []).append(one)
    storage, table, status = _storage(step), AssetCheckExecutionsTable, _CheckStatus
    kind = DagsterEventType.ASSET_CHECK_EVALUATION
    with storage.index_connection() as connection:
        keys = {key for key, _ in by_check}
        before = {key: _LogState.of(connection, step, key, kind) for key in keys}
        for (key, name), some in by_check.items():
            # The UI shows the last evaluation of a check, so failures are logged last.
            some.sort(key=lambda one: not one.passed)
            is_planned = (
                (table.c.asset_key == key.to_string())
                & (table.c.check_name == name)
                & (table.c.run_id == step.run_id)
                & (table.c.execution_status == status.PLANNED.value)
            )
            connection.execute(table.delete().where(is_planned))
            times = before[key].times(len(some))
            template = _Template.of(_entry(step, kind, some[0].evaluation()))
            filled = [
                _EventValues(
                    c.partition, at, _metadata(c.metadata), c.description, success=c.passed
                )
                for c, at in zip(some, times, strict=True)
            ]
            more = {
                "checked_key": key.to_string(),
                "check_name": name,
                "succeeded": status.SUCCEEDED.value,
                "failed": status.FAILED.value,
            }
            parameters = template.parameters(storage, filled) | more
            connection.execute(text(_STORE_EVALUATIONS), parameters)


@dataclass(frozen=True)
class _LogState:
    """State of the event log before an asset's events of one type are stored.

    Attributes:
        started: Id of the step's start event.
        latest: Id of the last event.
        last_at: Time of the run's last event of that type and asset, in seconds since 1970.
    """

    started: int
    latest: int
    last_at: float

    @classmethod
    def of(
        cls, connection: Connection, step: Step, key: dg.AssetKey, kind: DagsterEventType
    ) -> "_LogState":
        """Read from the event log."""
        of_events = {
            "run_id": step.run_id,
            "step_key": step.step.key,
            "asset_key": key.to_string(),
            "dagster_event_type": kind.value,
        }
        found = connection.execute(text(_LOG_STATE), of_events).one()
        return cls(found.started or 0, found.latest or 0, float(found.last_at or 0))

    def times(self, count: int) -> list[float]:
        """Distinct ascending times of `count` events, ending now if possible."""
        now = datetime.now(UTC).timestamp()
        first = max(now - (count - 1) * _MIN_GAP_SECONDS, self.last_at + _MIN_GAP_SECONDS)
        return [first + number * _MIN_GAP_SECONDS for number in range(count)]


@dataclass(frozen=True)
class _VersionTags:
    """The tags by which the UI finds stale partitions.

    The UI shows a partition as stale if the data version of an input differs from the one in the
    partition's tags.

    Attributes:
        run_id: Data version of rows and inputs that have no content version.
        constant: Tags that all partitions of a step share: the code version and, for each input,
            the id of the last event before it was read.
        inputs: Name of an input to the name of its tag.
    """

    run_id: str
    constant: Mapping[str, str]
    inputs: Mapping[str, str]

    @classmethod
    def of(cls, step: Step, key: dg.AssetKey, before: _LogState) -> "_VersionTags":
        """The tags of an asset.

        A step reads inputs of other steps as of its start, and inputs that it builds itself as of
        their events, which were logged just before.
        """
        layer = step.job_def.asset_layer
        if not layer.has(key):
            # The benchmark's job stores events of assets that are not its own.
            return cls(step.run_id, {}, {})
        own, together = layer.get(key), layer.get_selected_entity_keys_for_node(step.node_handle)
        tags = {CODE_VERSION_TAG: own.code_version} if own.code_version else {}
        for parent in own.parent_keys:
            read_at = before.latest if parent in together else before.started
            tags[get_input_event_pointer_tag(parent)] = str(read_at)
        names = {parent.to_user_string(): parent for parent in own.parent_keys}
        inputs = {name: get_input_data_version_tag(parent) for name, parent in names.items()}
        return cls(step.run_id, tags, inputs)

    def of_partition(self, one: Materialization) -> dict[str, str]:
        """All tags of one event."""
        read = {tag: one.inputs.get(name, self.run_id) for name, tag in self.inputs.items()}
        return {DATA_VERSION_TAG: one.data_version or self.run_id, **self.constant, **read}


@dataclass(frozen=True)
class _EventValues:
    """The values in which the events of one type and asset differ."""

    partition: str | None
    at: float
    metadata: object
    description: str | None = None
    success: bool = True
    tags: Mapping[str, str] = field(default_factory=dict)


_PLACEHOLDERS = ("partition", "metadata", "tags", "success", "description", "time")


@dataclass(frozen=True)
class _Template:
    """A serialized event with placeholders for the values of an `_EventValues`.

    Dagster takes 90 µs to serialize an event; a year has nineteen thousand that differ in little.
    """

    entry: EventLogEntry
    text: str
    mark: str

    @classmethod
    def of(cls, entry: EventLogEntry) -> "_Template":
        """The template of a materialization or of a check evaluation."""
        mark = uuid4().hex
        document = json.loads(serialize_value(entry))
        document["timestamp"] = f"{mark}-time"
        data = document["dagster_event"]["event_specific_data"]
        if "materialization" in data:
            data = data["materialization"]
            data |= {"metadata_entries": f"{mark}-metadata", "tags": f"{mark}-tags"}
        else:
            data |= {"metadata": f"{mark}-metadata", "success": f"{mark}-success"}
            data["description"] = f"{mark}-description"
        data["partition"] = f"{mark}-partition"
        return cls(entry, json.dumps(document), mark)

    def filled(self, values: _EventValues) -> EventLogEntry:
        """The event that the server writes for these values."""
        found = self.text
        for name, value in zip(_PLACEHOLDERS, _as_json(values), strict=True):
            found = found.replace(self._marked(name), value)
        return deserialize_value(found, EventLogEntry)

    def parameters(
        self, storage: PostgresEventLogStorage, rows: Sequence[_EventValues]
    ) -> dict[str, object]:
        """Bind parameters of `_STORE` and `_STORE_EVALUATIONS`."""
        texts = dict(zip(_PLACEHOLDERS, zip(*map(_as_json, rows), strict=True), strict=True))
        return {
            **storage._event_to_row(self.entry),
            "text": self.text,
            **{f"{name}_mark": self._marked(name) for name in _PLACEHOLDERS},
            "partitions": [values.partition for values in rows],
            "as_json": [*texts["partition"]],
            "metadata": [*texts["metadata"]],
            "tags": [*texts["tags"]],
            "success": [*texts["success"]],
            "description": [*texts["description"]],
            "times": [*texts["time"]],
        }

    def _marked(self, name: str) -> str:
        return json.dumps(f"{self.mark}-{name}")


def _as_json(values: _EventValues) -> tuple[str, ...]:
    """The values as JSON, in the order of _PLACEHOLDERS."""
    in_order = (
        values.partition,
        values.metadata,
        values.tags,
        values.success,
        values.description,
        values.at,
    )
    return tuple(map(json.dumps, in_order))


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
