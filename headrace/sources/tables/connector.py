"""The connector of tables, views and queries of any database."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

import pyarrow as pa

from headrace.config.sources.table_source import CursorExtract, DatabaseEntity
from headrace.errors import HeadraceError, SourceRejectedError
from headrace.grain import Grain
from headrace.schema import Column
from headrace.sources.base import (
    CapturedVersion,
    CapturePlan,
    CaptureRun,
    CaptureState,
    Overlap,
    ReadUnit,
    SourceObject,
    short_id,
)
from headrace.sources.reference_data import day_of_state, latest_state
from headrace.sources.tables.database import (
    Database,
    Days,
    Horizon,
    Pending,
    Position,
    Selection,
    Snapshot,
    ranges_of,
)
from headrace.sources.tables.partition_days import FoundPartitions, PartitionDays
from headrace.sources.tables.watermark import (
    Watermark,
    advanced,
    backlog_of,
    lowest,
    lowest_id,
    next_marks,
)

OTHER_DAYS = "rows changed in partitions that this run does not capture"
HELD_BACK = "a prepared transaction is open: rows are captured, but read again by each capture"
# A unit of fewer rows is not worth a session of its own. Without an index on `partition_by` each
# unit scans the table, and there are as many as sessions.
_ROWS_OF_A_UNIT = 200_000
_MOST_UNITS = 16
# From so many on, rows may be read by a process of its own.
_MANY_ROWS = 20_000
_NAMED = 5


@dataclass(frozen=True)
class TableConnector:
    """One table, view or query. See Connector.

    Attributes:
        kind: Its name in YAML.
        entity: What is declared of it.
        database: The product's part.
    """

    kind: str
    entity: DatabaseEntity
    database: Database

    @property
    def columns(self) -> tuple[Column, ...]:
        """See Connector."""
        return self.entity.captured_columns()

    def plan(self, partitions: Sequence[date], state: CaptureState, run: CaptureRun) -> CapturePlan:
        """See Connector."""
        self.database.check()
        days = sorted(set(partitions))
        if isinstance(self.entity.extract, CursorExtract):
            return self._plan_watermark(self.entity.extract, days, state, run)
        if self.entity.extract.partition_by is None:
            return self._plan_whole(days, state, run)
        return self._plan_full(days, run)

    def read(
        self,
        source_object: SourceObject,
        partition: date | None = None,  # noqa: ARG002
        columns: Collection[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """See Connector."""
        selection: Selection = source_object.locator
        if columns is not None:
            chosen = tuple(name for name in selection.columns if name in columns)
            selection = replace(selection, columns=chosen, is_sorted=False)
        yield from self.database.read(selection)

    def state_after(
        self,
        plan: CapturePlan,
        state: CaptureState,  # noqa: ARG002  # the plan knows it
        failed: Collection[date],
    ) -> Mapping[str, str]:
        """See Connector."""
        memo = plan.memo
        if not isinstance(memo, _WatermarkMemo):
            return {}
        return memo.after({*failed}).dump(self.reading())

    def pending_partitions(self, state: CaptureState, run: CaptureRun) -> Mapping[date, str]:
        """See Connector. Only a watermark tells."""
        known = Watermark.load(state.stored, self.reading())
        if not isinstance(self.entity.extract, CursorExtract) or known.order == "":
            return {}
        self.database.check()
        calendar = PartitionDays(self.entity.grain, run.partitions)
        with self.database.look() as snapshot:
            found = calendar.partitions_of(snapshot.pending(known.low))
            behind = self._in_backlog(snapshot, calendar, known.backlog)
        unseen = {day: found.pending[day] for day in known.unseen(found.pending) - found.future}
        unseen |= {day: behind.pending[day] for day in {*behind.pending} - behind.future}
        return {day: unseen[day].digest for day in sorted(unseen)}

    def sparse_partitions(self, state: CaptureState, run: CaptureRun) -> set[date]:
        """The day to which the table's present state would belong, and those of earlier states."""
        held = {day for day, versions in state.captured.items() if versions}
        return held | {day_of_state(self.entity.grain, state, run)}

    def whole(self, run: CaptureRun) -> SourceObject:
        """All rows, for a comparison with raw."""
        selection = Selection(self._names(), None, with_undated=True, is_large=True)
        return self.source_object(selection, run, _order(run.captured_at), "whole")

    def order_after(self, state: CaptureState, run: CaptureRun) -> str:
        """A `_delivery_order` after that of all captures."""
        return Watermark.load(state.stored, self.reading()).next_order(run.captured_at)

    def after_repair(self, state: CaptureState, order: str) -> Mapping[str, str]:
        """The stored state after a capture of some rows; rows since the watermark are read again.

        A row whose delete was captured may come again, and the table is then as it was seen before.
        """
        known = Watermark.load(state.stored, self.reading())
        seen = known.seen if known.low is None else {}
        return replace(known, order=order, seen=seen).dump(self.reading())

    def faults(self, found: Mapping[str, str]) -> Iterator[tuple[str, HeadraceError]]:
        """What a capture would stumble over: the path below the entity, and the error.

        Args:
            found: `Database.columns`.
        """
        extract, broken = self.entity.extract, False
        for fault in self.database.faults(found):
            broken = True
            yield fault
        if broken or not isinstance(extract, CursorExtract):
            return
        try:
            with self.database.look() as snapshot:
                self._trusted(snapshot.horizon(), extract)
        except HeadraceError as error:
            yield "extract.overlap", error

    def _plan_whole(
        self, days: Sequence[date], state: CaptureState, run: CaptureRun
    ) -> CapturePlan:
        """A table without days: one object, whose versions lie on the days of their captures."""
        day = day_of_state(self.entity.grain, state, run)
        others = tuple(one for one in days if one != day)
        if day not in days:
            return CapturePlan((), unchanged=others)
        selection = Selection(self._names(), is_sorted=True, is_large=True)
        before = latest_state(state)
        read = self.source_object(selection, run, _order(run.captured_at), "", before)
        return CapturePlan((ReadUnit((day,), (read,)),), unchanged=others)

    def _plan_full(self, days: Sequence[date], run: CaptureRun) -> CapturePlan:
        """Whole partitions: each capture replaces what they held."""
        calendar = PartitionDays(self.entity.grain, run.partitions)
        selection = replace(self.selection(days, calendar, None, is_sorted=True), is_large=True)
        read = self.source_object(selection, run, _order(run.captured_at), "")
        # One unit, so one snapshot: of two, a row that moves between days could be in neither.
        unit = ReadUnit(tuple(days), (read,), self.entity.extract.partition_by)
        return CapturePlan((unit,) if days else ())

    def _plan_watermark(
        self,
        extract: CursorExtract,
        days: Sequence[date],
        state: CaptureState,
        run: CaptureRun,
    ) -> CapturePlan:
        known = Watermark.load(state.stored, self.reading())
        calendar = PartitionDays(self.entity.grain, run.partitions)
        look = self._look(extract, days, known, calendar)
        found, behind = look.found.pending, look.behind.pending
        memo = _WatermarkMemo(
            known,
            known.next_order(run.captured_at),
            look.low,
            found,
            look.later.pending,
            look.left,
            look.marks,
            behind=frozenset(behind),
            unread=frozenset(behind) - {*days},
            grain=self.entity.grain,
        )
        sessions = self.database.sessions
        units = _Units(self, extract, calendar, (memo.order, run))
        units.add([day for day in days if day in look.unseen], found, known.low, sessions)
        most = _MOST_UNITS if look.is_indexed else sessions
        units.add([day for day in days if day in behind], behind, None, most)
        return self._read_together(
            CapturePlan(
                units=tuple(units.made),
                unchanged=tuple(day for day in days if day not in look.unseen | {*behind}),
                notices=self._notices(look, memo.unread),
                memo=memo,
                threads=sessions,
                is_first_load=len(behind) > len(memo.unread),
            )
        )

    def _look(
        self,
        extract: CursorExtract,
        days: Sequence[date],
        known: Watermark,
        calendar: PartitionDays,
    ) -> "_Look":
        """What one snapshot shows of the rows to capture, and the next watermark."""
        is_time = extract.is_time(self.entity.captured_type(self.entity.column(extract.cursor)))
        with self.database.look() as snapshot:
            horizon = self._trusted(snapshot.horizon(), extract)
            bound: Position | None
            if is_time:
                bound = lowest(horizon, extract.overlap_time)
            else:
                bound = lowest_id(horizon, extract.overlap_ids, known.marks)
            if known.is_new and bound is not None:
                found = FoundPartitions({}, frozenset(), 0)
                behind = calendar.partitions_of(snapshot.counted(Selection(())))
            else:
                found = calendar.partitions_of(snapshot.pending(known.low))
                behind = self._in_backlog(snapshot, calendar, known.backlog)
            unseen = known.unseen(found.pending) - {*behind.pending}
            left = unseen - {*days}
            low = advanced(known.low, bound, found.pending, left)
            later = found
            if low != known.low:
                later = calendar.partitions_of(snapshot.pending(low))
            return _Look(
                horizon,
                found,
                behind,
                later,
                low,
                () if is_time else _marks(known, found, snapshot),
                frozenset(unseen),
                frozenset(left),
                is_indexed=bool(behind.pending) and snapshot.is_indexed(str(extract.partition_by)),
            )

    def _in_backlog(
        self, snapshot: Snapshot, calendar: PartitionDays, backlog: tuple[Days, ...]
    ) -> FoundPartitions:
        """The rows of a backlog, by partition."""
        if not backlog:
            return FoundPartitions({}, frozenset(), 0)
        is_first = any(start <= calendar.first < end for start, end in backlog)
        selection = Selection((), backlog, with_undated=is_first)
        return calendar.partitions_of(snapshot.counted(selection))

    def _read_together(self, plan: CapturePlan) -> CapturePlan:
        """The plan, with its units read from one snapshot where the database has such a thing."""
        if len(plan.units) == 1 or not plan.units:
            return plan
        held = self.database.hold()
        units = [
            replace(
                unit,
                objects=tuple(
                    replace(one, locator=replace(one.locator, snapshot=held.id))
                    for one in unit.objects
                ),
            )
            for unit in plan.units
        ]
        return replace(plan, units=tuple(units), release=held.release)

    def _trusted(self, horizon: Horizon, extract: CursorExtract) -> Horizon:
        if not horizon.sees_all and "overlap" not in extract.model_fields_set:
            raise SourceRejectedError(
                f"{self.database.label}: the user does not see the transactions of others, so a "
                "late commit could be missed",
                fix=f"{horizon.remedy}, or declare `overlap`: longer than any transaction that "
                "writes the table",
            )
        return horizon

    def _notices(self, look: "_Look", unread: Collection[date]) -> dict[str, tuple[str, ...]]:
        found, behind = look.found, look.behind
        missing = {*look.left, *unread} - found.future - behind.future
        other = [self.entity.grain.label(day) for day in sorted(missing)]
        count = found.outside + behind.outside
        outside = (f"{count} rows",) if count else ()
        notices = {
            OTHER_DAYS: tuple(other),
            "rows are of days outside the partitions and are passed over": outside,
            HELD_BACK: (self.database.label,) if look.horizon.is_held else (),
        }
        return {text: names for text, names in notices.items() if names}

    def selection(
        self,
        partitions: Sequence[date],
        calendar: PartitionDays,
        since: Position | None,
        *,
        is_sorted: bool,
    ) -> Selection:
        """Rows of some partitions, at or after `since`."""
        if self.entity.grain == Grain.NONE:
            return Selection(
                self._names(), None, with_undated=True, since=since, is_sorted=is_sorted
            )
        ends = {day: self.entity.grain.end_of(day) for day in partitions}
        return Selection(
            self._names(),
            ranges_of(partitions, ends),
            with_undated=calendar.first in partitions,
            since=since,
            is_sorted=is_sorted,
        )

    def source_object(
        self,
        selection: Selection,
        run: CaptureRun,
        order: str,
        identity: str,
        replaces: CapturedVersion | None = None,
    ) -> SourceObject:
        """What a capture reads as one; `identity` tells it from others of the relation."""
        label = self.database.label
        return SourceObject(
            name=label,
            version=order,
            order=order,
            object_id=short_id(label, identity),
            read_id=short_id(self.reading(), order),
            modified_at=run.captured_at,
            locator=selection,
            replaces=replaces,
        )

    def _names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.entity.columns)

    def reading(self) -> str:
        """Stands for what is read and how: rows that were captured otherwise are captured again."""
        extract = self.entity.extract
        columns = [
            f"{column.name}={column.source_name} {self.entity.captured_type(column)}"
            for column in self.entity.columns
        ]
        cursor = extract.cursor if isinstance(extract, CursorExtract) else ""
        how = [*extract.object_names, cursor, str(extract.partition_by)]
        return short_id(*how, str(self.entity.timezone), *self.entity.key, *columns)


@dataclass(frozen=True)
class _Look:
    """What one snapshot shows.

    Attributes:
        horizon: Up to where commits are complete.
        found: Partitions with rows at or after the watermark.
        behind: Partitions with rows in the backlog.
        later: Partitions with rows at or after `low`.
        low: The next watermark, if no partition fails.
        marks: Of a cursor of ids, the next marks.
        unseen: Partitions of `found` with rows that were not captured, without those of `behind`.
        left: Those of them that this capture does not read.
        is_indexed: Whether the backlog's rows are found by an index.
    """

    horizon: Horizon
    found: FoundPartitions
    behind: FoundPartitions
    later: FoundPartitions
    low: Position | None
    marks: Sequence[tuple[str, int]]
    unseen: frozenset[date]
    left: frozenset[date]
    is_indexed: bool


def _marks(
    known: Watermark, found: FoundPartitions, snapshot: Snapshot
) -> Sequence[tuple[str, int]]:
    lasts = [rows.last for rows in found.pending.values() if rows.last is not None]
    if not lasts:
        return known.marks
    return next_marks(known.marks, snapshot.later(), max(lasts), known.low)


@dataclass(frozen=True)
class _WatermarkMemo:
    """What a plan found out about the watermark; `low` holds if no partition fails.

    Attributes:
        behind: Partitions that have rows in the backlog.
        unread: Those of them that the plan does not read.
    """

    known: Watermark
    order: str
    low: Position | None
    pending: Mapping[date, Pending]
    later: Mapping[date, Pending]
    left: frozenset[date]
    marks: Sequence[tuple[str, int]]
    behind: frozenset[date]
    unread: frozenset[date]
    grain: Grain

    def after(self, failed: set[date]) -> Watermark:
        """The watermark once everything is captured but the `failed` partitions."""
        missing = (failed & self.known.unseen(self.pending)) - self.behind
        unread = self.unread | (self.behind & failed)
        low, later = self.low, self.later
        if missing and low is not None:
            low = advanced(self.known.low, low, self.pending, missing)
        if low != self.low:
            later = self.pending if low == self.known.low else {}
        lost = missing | self.left | unread
        seen = {day: rows.digest for day, rows in later.items() if day not in lost}
        backlog = backlog_of(self.known.backlog, self.behind, unread, self.grain)
        return Watermark(low, self.order, seen, self.marks, backlog)


@dataclass(frozen=True)
class _Units:
    """Units of one capture, each of some neighbouring partitions."""

    connector: TableConnector
    extract: CursorExtract
    calendar: PartitionDays
    capture: tuple[str, CaptureRun]
    made: list[ReadUnit] = field(default_factory=list)

    def add(
        self,
        wanted: Sequence[date],
        pending: Mapping[date, Pending],
        since: Position | None,
        most: int,
    ) -> None:
        """Add `most` units that read the `wanted` partitions, rows at or after `since` or all."""
        entity, order, run = self.connector.entity, *self.capture
        # What raw holds of a cursor that it has as text has no order.
        is_time = entity.captured_type(entity.column(self.extract.cursor)) != "string"
        overlap = Overlap(self.extract.cursor, since if is_time else None)
        for some in _groups(wanted, pending, most):
            rows = sum(pending[day].rows for day in some)
            selection = self.connector.selection(some, self.calendar, since, is_sorted=False)
            selection = replace(selection, is_large=rows >= _MANY_ROWS)
            # Of one id the last version counts: each capture's rows are an object of their own.
            read = self.connector.source_object(selection, run, order, f"{order} {len(self.made)}")
            self.made.append(
                ReadUnit(
                    tuple(some), (read,), self.extract.partition_by, overlap=overlap, rows=rows
                )
            )


def _groups(
    days: Sequence[date], pending: Mapping[date, Pending], most: int
) -> Iterator[list[date]]:
    """Neighbouring partitions with about equally many rows."""
    total = sum(pending[day].rows for day in days)
    enough = max(_ROWS_OF_A_UNIT, total / most)
    group: list[date] = []
    rows = 0
    for day in days:
        group.append(day)
        rows += pending[day].rows
        if rows >= enough:
            yield group
            group, rows = [], 0
    if group:
        yield group


def _order(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
