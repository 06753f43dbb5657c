"""One capture: reads some partitions through a connector and writes data files to publish."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date

from headrace import progress
from headrace.config.entities.entity import EntityConfig
from headrace.errors import HeadraceError
from headrace.lineage_schema import (
    CAPTURED_AT,
    DELIVERY_ORDER,
    LINEAGE,
    OPERATION,
    POSITION,
    SOURCE_OBJECT,
)
from headrace.raw.manifest import CaptureRecord
from headrace.raw.units import DuplicateObject, UnitCapture, UnitOutcome
from headrace.raw.writer import DataFolder
from headrace.schema import PARTITION_COLUMN, Column, TableSchema
from headrace.sources.base import (
    Captured,
    CapturePlan,
    CaptureRun,
    CaptureState,
    Connector,
    ReadUnit,
    current_versions,
)
from headrace.sources.corrupt_rows import CORRUPT_REASON, CORRUPT_RECORD
from headrace.staged import StagedPartition

_NAMED = 5
# How long a first load may go on until what it has read is committed.
COMMIT_SECONDS = 60.0

_LINEAGE = (
    Column(CORRUPT_RECORD, "string", description="Text of a row that has no columns."),
    Column(CORRUPT_REASON, "string", description="Why it has none."),
    Column(POSITION, "bigint", nullable=False, description="Line, row, offset or LSN; 0 no row."),
    replace(LINEAGE.column(SOURCE_OBJECT), nullable=False),
    LINEAGE.column(OPERATION),
    LINEAGE.column(DELIVERY_ORDER),
    Column(
        "_object_version", "string", nullable=False, description="Times and size, ETag, snapshot."
    ),
    Column("_source", "string", nullable=False, description="Source and entity."),
    LINEAGE.column(CAPTURED_AT),
    Column("_batch_id", "string", nullable=False, description="Capture that read it."),
    Column("_row_hash", "bigint", nullable=False, description="Hash of the row's text."),
    Column(PARTITION_COLUMN, "date", nullable=False, description="Day of the row, UTC."),
)


@dataclass(frozen=True)
class CapturedWindow:
    """The result of a capture; each of its partitions is in `staged`, `failed` or `held`.

    Attributes:
        staged: By partition, the data files to append to raw; often none.
        failed: Why a partition could not be captured; the others are not affected.
        rows: By partition in `staged`, the rows of all current versions, earlier captures' too.
        held: Partitions that wait for a delivery, with what they wait for.
        overdue: Partitions in `staged` whose delivery did not arrive in time.
        duplicates: New objects with the rows of another object of their partition; both count.
        unplaced: By object, how many rows without a readable day were left out, because they
            belong to the first partition and this capture does not include it.
        outside: By object, how many rows are of days outside the partitions.
        notices: See `CapturePlan.notices`.
        remarks: See `CapturePlan.remarks`.
        state: What the connector stores in the commit.
    """

    staged: Mapping[date, StagedPartition]
    failed: Mapping[date, HeadraceError]
    rows: Mapping[date, int]
    held: Mapping[date, str] = field(default_factory=dict)
    overdue: tuple[date, ...] = ()
    duplicates: tuple[DuplicateObject, ...] = ()
    unplaced: Mapping[str, int] = field(default_factory=dict)
    outside: Mapping[str, int] = field(default_factory=dict)
    notices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    state: Mapping[str, str] = field(default_factory=dict)

    def warnings(self) -> list[str]:
        """One line for each thing that a person should look at although no partition fails."""
        rows, unplaced = sum(self.outside.values()), sum(self.unplaced.values())
        named: dict[str, Iterable[str]] = {
            f"{rows} rows are of days outside the partitions and are left out": self.outside,
            f"{unplaced} rows have no readable day and belong to the first partition, which this "
            "run does not capture": self.unplaced,
            "the file did not arrive in time, and the day counts as empty": [
                day.isoformat() for day in self.overdue
            ],
            "files hold the same rows as another file of their day, and all count": [
                f"{one.name} of {one.partition}" for one in self.duplicates
            ],
            **self.notices,
        }
        return [f"{text}: {_named([*names])}" for text, names in named.items() if names]

    def record(self, connector: Connector, run: CaptureRun) -> CaptureRecord:
        """What the commit of the window records of the capture."""
        files = [file for some in self.staged.values() for file in some.files]
        return CaptureRecord(
            connector=connector.kind,
            batch_id=run.batch_id,
            captured_at=run.captured_at.isoformat(),
            partitions=sum(bool(some.files) for some in self.staged.values()),
            files=len(files),
            rows=sum(file.rows for file in files),
            state=self.state,
        )


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def raw_schema(entity: EntityConfig) -> TableSchema:
    """Columns of an entity's raw table: those that its connector captures, then lineage."""
    return TableSchema((*entity.captured_columns(), *_LINEAGE))


def capture(
    connector: Connector,
    entity: EntityConfig,
    folder: DataFolder,
    state: CaptureState,
    partitions: Sequence[date],
    run: CaptureRun,
) -> CapturedWindow:
    """Read new versions of objects for `partitions`, and write them to unpublished data files.

    See `Capture`.
    """
    return Capture(connector, entity, folder, run).read(partitions, state)


@dataclass(frozen=True)
class Capture:
    """One capture.

    Attributes:
        connector: Reads the entity's source.
        entity: The entity; says how rows are split by partition.
        folder: The folder of raw's data files.
        run: Id and time of the capture.
        commit: Publishes a part of a first load, so that it is not read again if the process is
            killed. None: all is published at the end.
    """

    connector: Connector
    entity: EntityConfig
    folder: DataFolder
    run: CaptureRun
    commit: Callable[[CapturedWindow], None] | None = None

    def read(self, partitions: Sequence[date], state: CaptureState) -> CapturedWindow:
        """Read new versions of objects for `partitions`, and write them to unpublished data files.

        Args:
            partitions: By their first days.
            state: What raw holds.

        Returns:
            A result for each partition, without the files that `commit` published. A partition
            that failed leaves no data files behind.

        Raises:
            SourceUnavailableError: The source itself does not answer.
            StorageUnavailableError: A data file could not be written.
            StorageRejectedError: We lack the right to write it.
        """
        plan = self.connector.plan(partitions, state, self.run)
        try:
            window = self._read(plan, len({*partitions}), state)
        finally:
            plan.release()
        return replace(
            window,
            held=plan.held,
            overdue=plan.overdue,
            notices=plan.notices,
            remarks=plan.remarks,
            state=self._state_after(plan, state, window),
        )

    def _read(self, plan: CapturePlan, partitions: int, state: CaptureState) -> CapturedWindow:
        schema = TableSchema((*self.connector.columns, *_LINEAGE))
        shown = _Progress.of(plan, self.run.asset, partitions)
        units = UnitCapture(
            self.connector,
            self.entity,
            self.folder,
            state.captured,
            schema,
            self.run,
            shown.rows_read,
        )
        outcomes = [_known(plan, state.captured)]
        committed_at = time.monotonic()
        with ThreadPoolExecutor(plan.threads) as pool:
            for number, outcome in enumerate(pool.map(units.read, plan.units)):
                outcomes.append(outcome)
                shown.unit_read(plan.units[number])
                is_due = time.monotonic() - committed_at >= COMMIT_SECONDS
                rest = plan.units[number + 1 :]
                if self.commit is not None and plan.is_first_load and rest and is_due:
                    window = _window(outcomes)
                    state_now = self._state_after(plan, state, window, rest)
                    self.commit(replace(window, state=state_now))
                    outcomes = [_published(one) for one in outcomes]
                    committed_at = time.monotonic()
        shown.end()
        return _window(outcomes)

    def _state_after(
        self,
        plan: CapturePlan,
        state: CaptureState,
        window: CapturedWindow,
        rest: Sequence[ReadUnit] = (),
    ) -> Mapping[str, str]:
        unread = {day for unit in rest for day in unit.partitions}
        return self.connector.state_after(plan, state, {*window.failed, *plan.held, *unread})


def _published(outcome: UnitOutcome) -> UnitOutcome:
    """An outcome whose files are published."""
    return replace(outcome, staged=dict.fromkeys(outcome.staged, ()))


class _Progress:
    """What is shown of a capture: partitions, or the rows of a first load."""

    def __init__(self, asset: str, done: int, total: int, *, are_rows: bool) -> None:
        self._asset, self._done, self._total, self._are_rows = asset, done, total, are_rows
        self._lock = threading.Lock()
        progress.report(asset, done, total)

    @classmethod
    def of(cls, plan: CapturePlan, asset: str, partitions: int) -> "_Progress":
        rows = sum(unit.rows or 0 for unit in plan.units)
        if plan.is_first_load and rows:
            return cls(f"rows of {asset}", 0, rows, are_rows=True)
        known = len(plan.unchanged) + len(plan.failed) + len(plan.held)
        return cls(asset, known, partitions, are_rows=False)

    def rows_read(self, count: int) -> None:
        if self._are_rows:
            with self._lock:
                # What was written since the plan is read, too.
                self._done = min(self._done + count, self._total - 1)
                progress.report(self._asset, self._done, self._total)

    def unit_read(self, unit: ReadUnit) -> None:
        if not self._are_rows:
            self._done += len(unit.partitions)
            progress.report(self._asset, self._done, self._total)

    def end(self) -> None:
        if self._are_rows:
            progress.report(self._asset, self._total, self._total)


def _known(plan: CapturePlan, captured: Captured) -> UnitOutcome:
    """The partitions of a plan from which nothing is read: unchanged and failed ones."""
    current = {day: current_versions(captured.get(day, ())) for day in plan.unchanged}
    rows = {day: sum(v.rows for v in versions.values()) for day, versions in current.items()}
    return UnitOutcome(dict.fromkeys(current, ()), rows, plan.failed)


def _window(outcomes: Iterable[UnitOutcome]) -> CapturedWindow:
    staged: dict[date, StagedPartition] = {}
    rows: dict[date, int] = {}
    failed: dict[date, HeadraceError] = {}
    duplicates: list[DuplicateObject] = []
    unplaced: dict[str, int] = {}
    outside: dict[str, int] = {}
    for outcome in outcomes:
        staged |= {day: StagedPartition(day, tuple(f)) for day, f in outcome.staged.items()}
        rows |= outcome.rows
        failed |= outcome.failed
        duplicates += outcome.duplicates
        unplaced |= outcome.unplaced
        outside |= outcome.outside
    return CapturedWindow(
        staged=dict(sorted(staged.items())),
        failed=dict(sorted(failed.items())),
        rows=dict(sorted(rows.items())),
        duplicates=tuple(sorted(duplicates, key=lambda d: (d.partition, d.name))),
        unplaced=unplaced,
        outside=outside,
    )
