"""Capture of one read unit: read its objects, and store the versions that are new to raw."""

import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import structlog

from headrace.config.entities.entity import EntityConfig
from headrace.config.settings import PartitionSettings
from headrace.errors import (
    HeadraceError,
    SourceRejectedError,
    StorageRejectedError,
    StorageUnavailableError,
)
from headrace.raw.lineage_columns import (
    ObjectStamp,
    marker_row,
    rows_by_day,
    rows_of_day,
    stored_schema,
    with_days,
)
from headrace.raw.manifest import file_name, footer_of
from headrace.raw.repeated_rows import LatestRows, read_latest_rows, without_repeated
from headrace.raw.writer import DataFolder, ObjectWriter, PartitionWriter
from headrace.schema import TableSchema
from headrace.sources.base import (
    Captured,
    CapturedVersion,
    CaptureRun,
    Connector,
    ReadUnit,
    SourceObject,
    current_versions,
)
from headrace.staged import StagedFile

log = structlog.get_logger(__name__)

_TICK = timedelta(microseconds=1)
_NO_ROWS = "0" * 16
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def _pass(_: int) -> None:
    pass


@dataclass(frozen=True)
class DuplicateObject:
    """An object with the same rows as another one of its partition; both count (decisions/0022)."""

    partition: date
    name: str


@dataclass(frozen=True)
class UnitOutcome:
    """The result for each partition of one unit; see CapturedWindow."""

    staged: Mapping[date, Sequence[StagedFile]] = field(default_factory=dict)
    rows: Mapping[date, int] = field(default_factory=dict)
    failed: Mapping[date, HeadraceError] = field(default_factory=dict)
    duplicates: Sequence[DuplicateObject] = ()
    unplaced: Mapping[str, int] = field(default_factory=dict)
    outside: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class UnitCapture:
    """Captures units, on any thread: it has no state of its own.

    Attributes:
        rows_read: Called with the number of rows of each batch, on the thread of its unit.
    """

    connector: Connector
    entity: EntityConfig
    folder: DataFolder
    captured: Captured
    schema: TableSchema
    run: CaptureRun
    rows_read: Callable[[int], None] = _pass

    def read(self, unit: ReadUnit) -> UnitOutcome:
        """Read the objects of a unit in their order.

        An object that cannot be read fails the partitions that its rows may belong to.

        Raises:
            StorageUnavailableError, StorageRejectedError: The rows could not be stored; no single
                partition caused it.
        """
        staging = _UnitStaging(self, unit)
        try:
            for source_object in unit.objects:
                self._read_into(staging, source_object)
        except BaseException:
            staging.clear()
            raise
        return staging.outcome()

    def _read_into(self, staging: "_UnitStaging", source_object: SourceObject) -> None:
        try:
            staging.add(source_object)
        except (StorageUnavailableError, StorageRejectedError):
            raise
        except HeadraceError as error:
            staging.fail(self._partitions_of(staging, source_object), error)
        except Exception as error:  # noqa: BLE001  # any error of a reader fails this object alone
            # The text of an unexpected error may quote a row; frames quote code only.
            frames = "".join(traceback.format_tb(error.__traceback__))
            kind, name = type(error).__name__, source_object.name
            log.error("file_unreadable", file=name, error=kind, frames=frames)  # noqa: TRY400
            staging.fail(self._partitions_of(staging, source_object), _unexpected(name, kind))

    def _partitions_of(
        self, staging: "_UnitStaging", source_object: SourceObject
    ) -> frozenset[date]:
        """The partitions that an unreadable object fails; all of the unit if unknown."""
        if staging.unit.split_by is None:
            return frozenset(staging.partitions)
        try:
            named = partitions_of_rows(
                self.connector, source_object, self.entity, self.run.partitions
            )
        except Exception:  # noqa: BLE001  # the first error is reported
            return frozenset(staging.partitions)
        earlier = partitions_with_object(self.captured, source_object.object_id, with_rows=False)
        return (named | earlier) & {*staging.partitions}


def partitions_of_rows(
    connector: Connector,
    source_object: SourceObject,
    entity: EntityConfig,
    partitions: PartitionSettings,
) -> frozenset[date]:
    """The partitions of an object's rows, by `partition_by`; unreadable days count as the first.

    Reads that column of the object from beginning to end, with the memory of one batch.

    Raises:
        SourceRejectedError: The object cannot be read as declared.
        SourceUnavailableError: It changed since it was listed, or the connection was lost.
    """
    found: set[date] = set()
    for batch in connector.read(source_object, columns=[str(entity.extract.partition_by)]):
        days = with_days(batch, entity, partitions).days
        found.update(np.unique(days[~np.isnat(days)]).astype(object))
    return frozenset(found)


def partitions_with_object(
    captured: Captured, object_id: str, *, with_rows: bool = True
) -> frozenset[date]:
    """The partitions with an earlier version of an object; a new version may have no rows there.

    Args:
        captured: By partition, every version that raw holds.
        object_id: The object.
        with_rows: Only partitions in which the earlier version has rows.
    """
    current = {day: current_versions(held).get(object_id) for day, held in captured.items()}
    return frozenset(day for day, v in current.items() if v and (v.rows or not with_rows))


class _UnitStaging:
    """Stages the new versions of the objects of one unit."""

    def __init__(self, capture: UnitCapture, unit: ReadUnit) -> None:
        self.unit = unit
        self._capture = capture
        self._schema = stored_schema(capture.schema)
        self._current = {
            day: current_versions(capture.captured.get(day, ())) for day in unit.partitions
        }
        self._staged: dict[date, list[StagedFile]] = {day: [] for day in unit.partitions}
        self._duplicates: list[DuplicateObject] = []
        self._unplaced: dict[str, int] = {}
        self._outside: dict[str, int] = {}
        self._latest: dict[date, LatestRows] = {}
        self._failed: dict[date, HeadraceError] = {}

    @property
    def partitions(self) -> tuple[date, ...]:
        """The partitions that have not failed."""
        return tuple(self._current)

    def add(self, source_object: SourceObject) -> None:
        """Read an object and store the versions of it that are new."""
        stamp = self._stamp(source_object)
        overlap = self.unit.overlap
        writer = ObjectWriter(self._schema, (overlap.column,) if overlap else ())
        try:
            self._read(source_object, stamp, writer)
            for day in self._current:
                self._store_if_new(day, writer.by_partition.get(day), stamp)
        finally:
            writer.discard()

    def fail(self, partitions: Collection[date], error: HeadraceError) -> None:
        """Fail partitions, and delete what was stored for them."""
        for day in partitions:
            self._capture.folder.delete(self._staged.pop(day))
            del self._current[day]
            self._failed[day] = error

    def clear(self) -> None:
        """Delete what was stored."""
        self._capture.folder.delete([file for some in self._staged.values() for file in some])

    def outcome(self) -> UnitOutcome:
        """The result for each partition."""
        counts = {day: sum(v.rows for v in c.values()) for day, c in self._current.items()}
        equal = [one for one in self._duplicates if one.partition in self._staged]
        return UnitOutcome(self._staged, counts, self._failed, equal, self._unplaced, self._outside)

    def _stamp(self, source_object: SourceObject) -> ObjectStamp:
        run, object_id = self._capture.run, source_object.object_id
        # Even after the clock was set back, a newer version must have a later time.
        known = [held[object_id] for held in self._current.values() if object_id in held]
        at = max([run.captured_at, *(version.captured_at + _TICK for version in known)])
        return ObjectStamp(source_object, run.source, run.batch_id, at)

    def _read(self, source_object: SourceObject, stamp: ObjectStamp, writer: ObjectWriter) -> None:
        entity, wanted, name = self._capture.entity, self._current.keys(), source_object.name
        exist = self._capture.run.partitions
        only = next(iter(wanted)) if self.unit.split_by is None else None
        for batch in self._capture.connector.read(source_object, only):
            if only is not None:
                writer.add(only, rows_of_day(batch, only, stamp, self._schema))
                continue
            dated = with_days(batch, entity, exist)
            if dated.without_day and entity.grain.start_of(exist.start) not in wanted:
                _add(self._unplaced, name, dated.without_day)
            _add(self._outside, name, dated.outside)
            for day, part in rows_by_day(dated, wanted, stamp, self._schema):
                writer.add(day, self._new_of(day, part))
            self._capture.rows_read(len(batch))
        writer.finish()

    def _new_of(self, day: date, part: pa.RecordBatch) -> pa.RecordBatch:
        """The rows without those that the partition holds already, of a unit with an overlap."""
        if self.unit.overlap is None:
            return part
        capture = self._capture
        if day not in self._latest:
            self._latest[day] = read_latest_rows(
                capture.folder,
                day,
                capture.captured.get(day, ()),
                capture.entity,
                capture.schema,
                self.unit.overlap,
            )
        return without_repeated(part, self._latest[day], capture.entity)

    def _version(self, written: PartitionWriter | None, stamp: ObjectStamp) -> CapturedVersion:
        return CapturedVersion(
            captured_at=stamp.captured_at,
            object_id=stamp.source_object.object_id,
            content_id=written.content_id if written else _NO_ROWS,
            read_id=stamp.source_object.read_id,
            rows=written.rows if written else 0,
            modified_at=stamp.source_object.modified_at,
        )

    def _store_if_new(self, day: date, written: PartitionWriter | None, stamp: ObjectStamp) -> None:
        version = self._version(written, stamp)
        others = dict(self._current[day])
        before = others.pop(version.object_id, None) or stamp.source_object.replaces
        with_rows = [other for other in others.values() if other.rows]
        if before is not None and _is_unchanged(version, before, alone=not with_rows):
            return
        if not version.rows and not (before and before.rows):
            return  # The object never had rows in the partition.
        # With an overlap, an object with equal rows is no second delivery: values may return to
        # what they were.
        is_once = self.unit.overlap is None and not self.unit.is_log
        if is_once and version.rows and any(v.content_id == version.content_id for v in with_rows):
            self._duplicates.append(DuplicateObject(day, stamp.source_object.name))
        if written is None or not version.rows:
            written = PartitionWriter(self._schema)
            written.write([marker_row(day, stamp, self._schema)])
        name = f"_pd={day}/{file_name(version)}"
        footer = footer_of(version, stamp.constants())
        self._staged[day].append(written.store(self._capture.folder, name, footer))
        self._current[day][version.object_id] = version


def _add(counts: dict[str, int], path: str, more: int) -> None:
    if more:
        counts[path] = counts.get(path, 0) + more


def _unexpected(name: str, kind: str) -> SourceRejectedError:
    return SourceRejectedError(
        f"{name} cannot be read: {kind}",
        fix="the run's log shows where; correct the file or its `format`, or report the error",
    )


def _is_unchanged(version: CapturedVersion, before: CapturedVersion, *, alone: bool) -> bool:
    """Whether a version has the same rows as the previous one.

    The modification time matters only beside other objects of the partition: it orders their rows.
    """
    if (version.content_id, version.rows) != (before.content_id, before.rows):
        return False
    if not version.rows or version.modified_at == before.modified_at:
        return True
    # Objects are read in the order of their times. An object that is the first of its partition
    # with rows still precedes those that follow, even if its time is later than it was.
    return alone and (before.modified_at or _LONG_AGO) < (version.modified_at or _LONG_AGO)
