"""Reconciliation of raw with tables of databases: finds rows that differ, and captures them again.

Rows that the next capture reads anyway do not count: those behind the watermark, and changes that
triggers wrote since the last capture.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace import progress
from headrace.config.loader import Project
from headrace.config.sources.table_source import (
    ChangeTableExtract,
    CursorExtract,
    DatabaseEntity,
    TimeCursorExtract,
)
from headrace.errors import ConfigError, HeadraceError, SourceRejectedError
from headrace.lake.table import LakeTable
from headrace.ledger import liveness
from headrace.ledger.build_plan import AssetLineage
from headrace.ledger.records import PartitionRecord
from headrace.operations.row_repair import AnyTableConnector, RepairConnector
from headrace.pipeline.raw import RawStep
from headrace.project.connections import lake_of, ledger_of, postgres_url
from headrace.project.lineage import RAW, raw_lineage, table_of
from headrace.quality.report import AuditedOutput
from headrace.raw.capture import raw_schema
from headrace.raw.comparison import (
    Comparison,
    IsDue,
    RowIdentity,
    compared,
    raw_batches,
    sorted_rows,
    without,
)
from headrace.raw.manifest import CAPTURE_RECORD, CaptureRecord, captured_versions
from headrace.raw.repeated_rows import cursor_value
from headrace.raw.row_digests import Digests, DigestStore
from headrace.raw.writer import DataFolder
from headrace.sources.base import (
    CaptureRun,
    CaptureState,
    Connector,
)
from headrace.sources.landing.landing_zone import Landing
from headrace.sources.registry import connector_of
from headrace.sources.tables.change_table import ChangeTableConnector
from headrace.sources.tables.connector import TableConnector
from headrace.sources.tables.database import Days
from headrace.sources.tables.watermark import Watermark
from headrace.warehouse.sessions import connection_factory, locked

_RANGES = 20


@dataclass(frozen=True)
class DifferingRange:
    """Rows of one partition, or of a range of keys, that differ.

    Attributes:
        partition: First day of the partition; None where rows are not kept by partition.
        first: The least first column of their keys; None where that is no integer.
        last: The greatest one.
        missing: Rows that raw lacks.
        changed: Rows that raw has with other values.
        extra: Rows that the source lacks.
    """

    partition: date | None
    first: int | None
    last: int | None
    missing: int
    changed: int
    extra: int


@dataclass(frozen=True)
class Reconciliation:
    """What a comparison of one entity with its table found.

    Attributes:
        entity: `source.entity`.
        rows: Rows of the table, in partitions that exist.
        missing: Rows that raw lacks.
        changed: Rows that raw has with other values.
        extra: Rows that the table lacks.
        waiting: Rows that differ and that the next capture reads anyway.
        repeated: Rows whose key the table repeats; they are not compared.
        ranges: Where the rows that differ are.
        repaired: Partitions that were captured again.
        is_captured: False if raw has nothing of the entity yet.
        error: Why it could not be compared or repaired.
    """

    entity: str
    rows: int = 0
    missing: int = 0
    changed: int = 0
    extra: int = 0
    waiting: int = 0
    repeated: int = 0
    ranges: tuple[DifferingRange, ...] = ()
    repaired: tuple[date, ...] = ()
    is_captured: bool = True
    error: str | None = None

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return not (self.missing or self.changed or self.extra)

    @property
    def is_good(self) -> bool:
        """Whether nothing differs, or all that differed is repaired."""
        return self.error is None and (self.is_equal or bool(self.repaired))


def reconcile(project: Project, names: Collection[str], *, repair: bool) -> list[Reconciliation]:
    """Compare entities with their tables, and repair raw where that is wanted.

    Args:
        project: The configuration.
        names: Entities, as `source.entity`.
        repair: Whether to capture again what differs.

    Raises:
        ConfigError: None of them is a table of a database.
    """
    chosen = [name for name in names if is_table(project, name)]
    if not chosen:
        raise ConfigError(
            f"{', '.join(names)}: no table of a database",
            fix="files and APIs are compared by each capture of their partitions: run a backfill",
        )
    lake = lake_of(project)
    return [_one(project, name, lake.table(RAW, table_of(name)), repair=repair) for name in chosen]


def is_table(project: Project, name: str) -> bool:
    """Whether `source.entity` is a table, view or query of a database."""
    return isinstance(project.entities()[name][1], DatabaseEntity)


def _one(project: Project, name: str, table: LakeTable, *, repair: bool) -> Reconciliation:
    try:
        entity = _of_project(project, name, table)
        found = entity.compare()
        if found is None:
            return Reconciliation(name, is_captured=False)
        result = entity.result(found)
        if not repair or found.is_equal:
            return result
        result = replace(result, repaired=tuple(sorted(entity.repair(found))))
        if found.is_whole:
            return result
        return replace(result, error="more rows differ than are repaired at a time: run it again")
    except HeadraceError as error:
        return Reconciliation(name, error=f"{error} ({error.fix})")


def _of_project(project: Project, name: str, table: LakeTable) -> "EntityReconciliation":
    connector = connector_of(project, name, _no_landing)
    if not isinstance(connector, TableConnector | ChangeTableConnector):
        raise TypeError(f"{name} is no table of a database")
    run = CaptureRun(
        name,
        f"reconcile-{uuid4()}",
        datetime.now(UTC),
        project.settings.partitions,
        f"{RAW}/{table_of(name)}",
    )
    raw = _RawTable(project, table, run)
    return EntityReconciliation(connector, raw.folder, run, raw.state, raw.capture)


@dataclass(frozen=True)
class EntityReconciliation:
    """Compares one entity with its table.

    Attributes:
        connector: Reads the table.
        folder: Raw's data files.
        run: Id and time of the comparison.
        state: Reads what raw holds.
        capture: Captures partitions by a connector, and publishes them; returns those that it did.
    """

    connector: AnyTableConnector
    folder: DataFolder
    run: CaptureRun
    state: Callable[[], CaptureState]
    capture: Callable[[Connector, Sequence[date]], Collection[date]]

    @property
    def name(self) -> str:
        """`source.entity`."""
        return self.run.source

    @property
    def entity(self) -> DatabaseEntity:
        """What is declared of the table."""
        return self.connector.entity

    @property
    def identity(self) -> RowIdentity:
        """What says which row of the table a row of raw is."""
        entity, extract = self.entity, self.entity.extract
        of_change = {*entity.change_columns}
        key = tuple(n for n in entity.key if not n.startswith("_") and n not in of_change)
        # A row whose cursor is its day moves to another partition by each change.
        moves = isinstance(extract, TimeCursorExtract) and extract.partition_by == extract.cursor
        return RowIdentity(
            entity,
            self.run.partitions,
            key or tuple(entity.key),
            by_partition=extract.partition_by is not None and not moves,
            ignored=entity.change_columns,
        )

    def compare(self) -> Comparison | None:
        """Read both sides once; None if nothing was captured yet."""
        state = self.state()
        if state.is_empty:
            return None
        with DigestStore() as ours, DigestStore() as theirs:
            for batch in self.raw_batches(state):
                theirs.add(self.identity.of_raw(batch))
                self._report(theirs.count, theirs.count, 0)
            is_due, backlog = self._is_due(state), self._backlog(state)
            for batch in self.connector.read(self.connector.whole(self.run)):
                digests = self.identity.of_source(batch, is_due)[1]
                for start, end in backlog:
                    days = digests["day"].astype("datetime64[D]")
                    digests["is_due"] &= (days < np.datetime64(start)) | (
                        days >= np.datetime64(end)
                    )
                ours.add(digests)
                self._report(theirs.count, theirs.count, ours.count)
            self._report(theirs.count, theirs.count, max(ours.count, theirs.count))
            found = compared(ours, theirs)
        return without(found, self._waiting(state))

    def result(self, found: Comparison) -> Reconciliation:
        """What is said of a comparison."""
        missing, changed, extra = found.counts
        return Reconciliation(
            self.name,
            rows=found.rows,
            missing=missing,
            changed=changed,
            extra=extra,
            waiting=found.waiting,
            repeated=found.repeated,
            ranges=tuple(self._ranges(found)),
        )

    def repair(self, found: Comparison) -> Collection[date]:
        """Capture again the rows that differ; the partitions that were published."""
        state = self.state()
        if not self._is_state:
            again = RepairConnector(
                self.connector,
                self.identity,
                self.run,
                state,
                found,
                lambda: self.raw_batches(state, newest_first=True),
            )
            return self.capture(again, again.partitions())
        if self.entity.extract.partition_by is None:
            return self.capture(
                self.connector, sorted(self.connector.sparse_partitions(state, self.run))[-1:]
            )
        return self.capture(self.connector, sorted(found.days))

    def raw_batches(
        self, state: CaptureState, *, newest_first: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """Rows of raw that are the table's latest state, or were before it."""
        captured = state.captured
        if self.entity.extract.partition_by is None and self._is_state:
            latest = max(day for day, versions in captured.items() if versions)
            captured = {latest: captured[latest]}
        schema = raw_schema(self.entity)
        yield from raw_batches(self.folder, captured, schema, newest_first=newest_first)

    @property
    def _is_state(self) -> bool:
        """Whether each capture of a partition is its whole state."""
        return not isinstance(self.entity.extract, CursorExtract | ChangeTableExtract)

    def _is_due(self, state: CaptureState) -> IsDue:
        """Which rows of the table must be in raw: those before the watermark."""
        extract = self.entity.extract
        if not isinstance(extract, CursorExtract):
            return lambda _: None
        low = Watermark.load(state.stored, self.connector.reading()).low
        kind = raw_schema(self.entity).arrow().field(extract.cursor).type

        def is_due(batch: pa.RecordBatch) -> npt.NDArray[np.bool_] | None:
            if low is None:
                return np.zeros(len(batch), dtype=bool)
            if pa.types.is_string(kind):
                return None  # Its order is not that of times.
            bound = pa.scalar(cursor_value(low, kind, self.entity.timezone), kind)
            before = pc.less(batch.column(extract.cursor), bound).fill_null(False)  # noqa: FBT003
            return np.asarray(before.to_numpy(zero_copy_only=False))

        return is_due

    def _backlog(self, state: CaptureState) -> tuple[Days, ...]:
        """Days whose rows before the watermark no capture has read yet."""
        if not isinstance(self.entity.extract, CursorExtract):
            return ()
        return Watermark.load(state.stored, self.connector.reading()).backlog

    def _waiting(self, state: CaptureState) -> npt.NDArray[np.int64]:
        """Rows that triggers have logged changes of, and that are not captured yet."""
        if not isinstance(self.connector, ChangeTableConnector):
            return sorted_rows([])
        batches = self.connector.waiting(state, self.run)
        return sorted_rows(self.identity.of_source(batch, lambda _: None)[1] for batch in batches)

    def _ranges(self, found: Comparison) -> Iterator[DifferingRange]:
        by_partition = self.identity.by_partition
        has_numbers = self.identity.number is not None
        parts = [found.missing, found.changed, found.extra]
        whole = np.concatenate(parts)
        if not len(whole):
            return
        width = _width(whole["at"])
        groups = [_group(part, width, by_partition=by_partition) for part in parts]
        for group in np.unique(np.concatenate(groups)).tolist():
            chosen = [part[of == group] for part, of in zip(parts, groups, strict=True)]
            keys = np.concatenate(chosen)["at"]
            day = date(1970, 1, 1) + timedelta(days=group) if by_partition else None
            missing, changed, extra = map(len, chosen)
            yield DifferingRange(
                day,
                int(keys.min()) if has_numbers else None,
                int(keys.max()) if has_numbers else None,
                missing,
                changed,
                extra,
            )

    def _report(self, raw_rows: int, known: int, source_rows: int) -> None:
        # The table's size is not known before it is read: it is taken to be that of raw.
        total = known + max(known, source_rows)
        progress.report(f"reconcile {self.name}", raw_rows + source_rows, total)


@dataclass(frozen=True)
class _RawTable:
    """Raw of one entity of a project, which is published to from outside a run of Dagster."""

    project: Project
    table: LakeTable
    run: CaptureRun

    @property
    def folder(self) -> DataFolder:
        """Its data files."""
        storage, uri = self.table.storage, f"{self.table.location}/data"
        return DataFolder(storage.filesystem, storage.path(uri), uri)

    def state(self) -> CaptureState:
        """What it holds now."""
        if not self.table.exists():
            return CaptureState(is_empty=True)
        # The record first: what is committed in between is then no row that must be there.
        record = CaptureRecord.load(self.table.snapshot_properties().get(CAPTURE_RECORD))
        files = self.table.scan().files_by_day
        captured = {day: captured_versions(some) for day, some in files.items()}
        return CaptureState(captured, not any(captured.values()), record.state if record else {})

    def capture(self, connector: Connector, days: Sequence[date]) -> Collection[date]:
        """Stage and publish partitions, and record them; those that were published.

        If the process is killed, the partitions are stale: the next run captures them.
        """
        name, run_id = self.run.source, self.run.batch_id
        lineage, ledger = raw_lineage(self.project, name), ledger_of(self.project)
        connect = connection_factory(postgres_url(self.project, "warehouse"))
        step = RawStep(
            asset=self.run.asset,
            source=name,
            entity=self.project.entities()[name][1],
            connector=connector,
            table=self.table,
            partitions=self.run.partitions,
            run_id=run_id,
        )
        liveness.acquire(connect, run_id)
        try:
            ledger.begin(lineage.name, days, run_id)
            properties = {"headrace.run-id": run_id, "headrace.code-version": lineage.code_version}
            output = step.stage(days, properties)
            with locked(connect, f"publish {lineage.name}"):
                commit = self.table.append(
                    output.partitions, schema=output.schema, properties=output.properties
                )
                ledger.record(_records(lineage, run_id, output, commit.snapshot_id))
        finally:
            liveness.release(run_id)
        if output.held:
            day, why = min(output.held.items())
            raise SourceRejectedError(
                f"{len(output.held)} partitions were not captured, such as {day}: {why}",
                fix="headrace status --errors says why",
            )
        return [*output.partitions]


def _records(
    lineage: AssetLineage, run_id: str, output: AuditedOutput, snapshot_id: int
) -> Iterator[PartitionRecord]:
    versions = output.versions(output.partitions) if output.versions else {}
    for day, report in output.reports.items():
        is_published = day in output.partitions
        yield PartitionRecord(
            lineage.name,
            day,
            "published" if is_published else "failed",
            run_id,
            snapshot_id=snapshot_id if is_published else None,
            code_version=lineage.code_version,
            rows_in=report.rows_in,
            rows_out=report.rows_out,
            error=report.why() or None,
            data_version=versions.get(day),
            content="new",
            inputs={} if is_published else None,
        )


def _group(part: Digests, width: int, *, by_partition: bool) -> npt.NDArray[np.int64]:
    return part["day"].astype(np.int64) if by_partition else part["at"] // width


def _width(keys: npt.NDArray[np.int64]) -> int:
    """A power of ten that cuts keys into a few ranges."""
    width = 1
    span = int(keys.max()) - int(keys.min())
    while span // width >= _RANGES:
        width *= 10
    return width


def _no_landing() -> Landing:
    raise AssertionError("a database has no landing zone")
