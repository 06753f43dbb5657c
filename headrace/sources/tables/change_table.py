"""The connector of tables whose changes triggers write to a change table.

The first capture of a partition reads its rows from the table itself; later ones read the changes
that are committed since, each exactly once (decisions/0049).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, date
from typing import Protocol

import pyarrow as pa

from headrace.config.sources.table_source import TableEntity
from headrace.errors import HeadraceError
from headrace.grain import Grain
from headrace.schema import Column
from headrace.sources.base import (
    CapturePlan,
    CaptureRun,
    CaptureState,
    ReadUnit,
    SourceObject,
    short_id,
)
from headrace.sources.reference_data import day_of_state
from headrace.sources.tables.change_log import SeenChanges
from headrace.sources.tables.database import Database, Days, Pending, Selection, ranges_of
from headrace.sources.tables.partition_days import PartitionDays

OTHER_LOG = (
    "the change table is another one than before: the table is read whole, and rows that were "
    "deleted in between stay; headrace reconcile finds them"
)
_OTHER_DAYS = "rows changed in partitions that this run does not capture"


@dataclass(frozen=True)
class ChangeSelection(Selection):
    """Changes of rows, or the rows of a table.

    Attributes:
        until: The snapshot up to which changes are read.
        seen: Changes that are visible in this snapshot are left out; None: rows of the table.
    """

    until: str = ""
    seen: str | None = None


class ChangeSnapshot(Protocol):
    """A look at a change table: every answer is of one moment."""

    def identity(self) -> str:
        """Stands for the server, the change table and the trigger that fills it."""
        ...

    def position(self) -> str:
        """The moment, as a snapshot."""
        ...

    def pending(
        self, seen: str | None, days: tuple[Days, ...] | None, *, with_undated: bool
    ) -> Mapping[date | None, Pending]:
        """Changes that are not visible in `seen`, by day; of None, rows of the table.

        Without `partition_by`, all of them have no day.
        """
        ...


class ChangeDatabase(Database, Protocol):
    """A table of a database and its change table; see Database."""

    def look_at_changes(self) -> AbstractContextManager[ChangeSnapshot]:
        """Look at the change table; ends the session afterwards.

        Raises:
            SourceRejectedError: The table has no trigger that fills it.
        """
        ...

    def read_changes(self, selection: ChangeSelection) -> Iterator[pa.RecordBatch]:
        """Rows as `Connector.read` gives them, with `_operation`, in the order of the changes."""
        ...


@dataclass(frozen=True)
class ChangeTableConnector:
    """One table and its change table. See Connector.

    Attributes:
        kind: Its name in YAML.
        entity: What is declared of it.
        database: The product's part.
    """

    kind: str
    entity: TableEntity
    database: ChangeDatabase

    @property
    def columns(self) -> tuple[Column, ...]:
        """See Connector."""
        return self.entity.captured_columns()

    def plan(self, partitions: Sequence[date], state: CaptureState, run: CaptureRun) -> CapturePlan:
        """See Connector."""
        self.database.check()
        days = sorted(set(partitions))
        look = self._look(state, run)
        wanted = [day for day in days if day in look.pending]
        order = look.known.next_order(run.captured_at)
        left = {*look.pending} - {*wanted} - look.future
        is_other = bool(look.was) and look.was != look.known.identity
        notices = {
            OTHER_LOG: (self.database.label,) if is_other else (),
            _OTHER_DAYS: tuple(self.entity.grain.label(day) for day in sorted(left)),
        }
        return CapturePlan(
            units=tuple(self._units(wanted, look, order, run)),
            unchanged=tuple(day for day in days if day not in look.pending),
            notices={text: names for text, names in notices.items() if names},
            memo=_Memo(look, frozenset(wanted), order),
        )

    def read(
        self,
        source_object: SourceObject,
        partition: date | None = None,  # noqa: ARG002
        columns: Collection[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """See Connector."""
        selection: ChangeSelection = source_object.locator
        if columns is not None:
            chosen = tuple(name for name in selection.columns if name in columns)
            selection = replace(selection, columns=chosen)
        yield from self.database.read_changes(selection)

    def state_after(
        self,
        plan: CapturePlan,
        state: CaptureState,  # noqa: ARG002  # the plan knows it
        failed: Collection[date],
    ) -> Mapping[str, str]:
        """See Connector."""
        memo: _Memo = plan.memo
        look, captured = memo.look, memo.wanted - {*failed}
        after = look.known.after(look.position, look.pending, captured, memo.order)
        return after.dump(self.reading())

    def pending_partitions(self, state: CaptureState, run: CaptureRun) -> Mapping[date, str]:
        """See Connector."""
        if SeenChanges.load(state.stored, self.reading()).order == "":
            return {}
        self.database.check()
        look = self._look(state, run)
        days = sorted({*look.pending} - look.future)
        return {day: look.pending[day].digest for day in days}

    def sparse_partitions(self, state: CaptureState, run: CaptureRun) -> set[date]:
        """The day to which changes that are captured now belong, and those of earlier ones."""
        held = {day for day, versions in state.captured.items() if versions}
        return held | {day_of_state(self.entity.grain, state, run)}

    def whole(self, run: CaptureRun) -> SourceObject:
        """See TableConnector."""
        names = tuple(column.name for column in self.entity.columns)
        order = run.captured_at.astimezone(UTC).isoformat(timespec="microseconds")
        return self._object(ChangeSelection(names, with_undated=True), order, run)

    def order_after(self, state: CaptureState, run: CaptureRun) -> str:
        """See TableConnector."""
        return SeenChanges.load(state.stored, self.reading()).next_order(run.captured_at)

    def after_repair(self, state: CaptureState, order: str) -> Mapping[str, str]:
        """See TableConnector."""
        known = SeenChanges.load(state.stored, self.reading())
        return replace(known, order=order).dump(self.reading())

    def waiting(self, state: CaptureState, run: CaptureRun) -> Iterator[pa.RecordBatch]:
        """Rows and changes of all partitions that no capture has read yet."""
        look = self._look(state, run)
        days = sorted({*look.pending} - look.future)
        for unit in self._units(days, look, look.known.next_order(run.captured_at), run):
            for one in unit.objects:
                yield from self.read(one)

    def faults(self, found: Mapping[str, str]) -> Iterator[tuple[str, HeadraceError]]:
        """See TableConnector."""
        yield from self.database.faults(found)
        try:
            with self.database.look_at_changes():
                pass
        except HeadraceError as error:
            yield "extract.changes", error

    def _look(self, state: CaptureState, run: CaptureRun) -> "_Look":
        known = SeenChanges.load(state.stored, self.reading())
        days = PartitionDays(self.entity.grain, run.partitions)
        with self.database.look_at_changes() as snapshot:
            was, known = known.identity, known.of_log(snapshot.identity())
            found: dict[date, Pending] = {}
            future: set[date] = set()
            of_seen = {some.seen: self._ranges(known, some.seen, days) for some in known.behind}
            for seen, ranges in {known.low: (None, True), **of_seen}.items():
                by_day = snapshot.pending(seen, ranges[0], with_undated=ranges[1])
                parts = days.partitions_of(by_day)
                for day, rows in parts.pending.items():
                    partition = self._partition_of(day, state, run)
                    if known.seen_of(partition) == seen:
                        found[partition] = rows
                        future |= {partition} if day in parts.future else set()
            return _Look(known, snapshot.position(), found, frozenset(future), days, was)

    def _ranges(
        self, known: SeenChanges, seen: str | None, days: PartitionDays
    ) -> tuple[tuple[Days, ...] | None, bool]:
        """The days of partitions that are captured up to `seen`, and whether undated rows are."""
        if self._says_no_day or self.entity.grain == Grain.NONE or seen == known.low:
            return None, True
        some = [one for one in known.behind if one.seen == seen]
        ranges = tuple((one.first, self.entity.grain.end_of(one.last)) for one in some)
        return ranges, any(one.first <= days.first <= one.last for one in some)

    @property
    def _says_no_day(self) -> bool:
        return self.entity.extract.partition_by is None

    def _partition_of(self, day: date, state: CaptureState, run: CaptureRun) -> date:
        """The partition of a day of `PartitionDays`, whose future days are not partitions."""
        if self._says_no_day:
            return day_of_state(self.entity.grain, state, run)
        return self.entity.grain.start_of(day)

    def _units(
        self, wanted: Sequence[date], look: "_Look", order: str, run: CaptureRun
    ) -> Iterator[ReadUnit]:
        groups: dict[str | None, list[date]] = {}
        for day in wanted:
            groups.setdefault(look.known.seen_of(day), []).append(day)
        for seen, days in groups.items():
            read = self._object(self._selection(days, look, seen), order, run)
            by = self.entity.extract.partition_by
            yield ReadUnit(tuple(days), (read,), by, is_log=True)

    def _selection(self, days: Sequence[date], look: "_Look", seen: str | None) -> ChangeSelection:
        names = tuple(column.name for column in self.entity.columns)
        some = ChangeSelection(
            names, with_undated=True, is_sorted=seen is None, until=look.position, seen=seen
        )
        if self._says_no_day or self.entity.grain == Grain.NONE:
            return some
        ranges = ranges_of(days, {day: self.entity.grain.end_of(day) for day in days})
        return replace(some, days=ranges, with_undated=look.days.first in days)

    def _object(self, selection: ChangeSelection, order: str, run: CaptureRun) -> SourceObject:
        label = self.database.label
        # The rows of a partition are one object, whose last version counts; each capture's changes
        # are an object of their own.
        identity = "" if selection.seen is None else order
        return SourceObject(
            name=label,
            version=order,
            order=order,
            object_id=short_id(label, identity, selection.seen or ""),
            read_id=short_id(self.reading(), order),
            modified_at=run.captured_at.astimezone(UTC),
            locator=selection,
        )

    def reading(self) -> str:
        """Stands for what is read and how: rows that were captured otherwise are captured again."""
        extract = self.entity.extract
        columns = [
            f"{column.name}={column.source_name} {self.entity.captured_type(column)}"
            for column in self.entity.columns
        ]
        how = [str(extract.table), str(extract.partition_by), str(self.entity.timezone)]
        return short_id(*how, *columns)


@dataclass(frozen=True)
class _Look:
    """What a look at the change table found.

    Attributes:
        known: What was captured before.
        position: The look's snapshot.
        pending: Rows and changes that are not captured, by partition.
        future: Those of the partitions that do not exist yet.
        was: Identity of the change table at the capture before.
    """

    known: SeenChanges
    position: str
    pending: Mapping[date, Pending]
    future: frozenset[date]
    days: PartitionDays
    was: str = ""


@dataclass(frozen=True)
class _Memo:
    """What a plan knows for `state_after`."""

    look: _Look
    wanted: frozenset[date]
    order: str
