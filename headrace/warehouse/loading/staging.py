"""Staging tables: rows copied and indexed before they are audited and published."""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from itertools import groupby
from operator import itemgetter
from threading import Lock
from types import MappingProxyType

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from headrace.warehouse.ddl import indexes
from headrace.warehouse.ddl.schema import (
    PostgresColumn,
    definition,
    look_up,
    plan_change,
    schema_of,
)
from headrace.warehouse.identifiers import staged_index_name, staging_table_name
from headrace.warehouse.loading import copy
from headrace.warehouse.loading.staged_loads import (
    STAGING,
    StagedLoad,
    StagingTable,
    claim_load,
    drop_leftovers,
    drop_staged,
)
from headrace.warehouse.loading.workers import Workers
from headrace.warehouse.sessions import Connect, RowsRefusedError, Session, map_errors
from headrace.warehouse.tables import WarehouseTable, by_month, month_of, next_month

_NONE: Mapping[date, int] = MappingProxyType({})
_NAMED_AT_MOST = 5

# Some days and a stream of their rows, in any order. Slices of whole months load fastest.
Slice = tuple[Collection[date], pa.RecordBatchReader]


def stage(
    connect: Connect,
    table: WarehouseTable,
    days: Collection[date],
    slices: Iterable[Slice],
    *,
    deletes: pa.RecordBatchReader | None = None,
    sessions: int = 2,
) -> StagedLoad:
    """Copy rows to staging tables, on several sessions at a time.

    Args:
        connect: Opens sessions with the warehouse.
        table: Where the rows will go.
        days: The days that the rows replace; for a table without partitions, empty.
        slices: Taken one by one, as sessions become free, each read in one thread.
        deletes: For `upsert`: primary keys of rows to delete. Given, `slices` holds changed rows
            only; None if `slices` holds all rows. A key that is in both stays.
        sessions: How many copy and index at a time.

    Raises:
        IncompatibleSchemaError: The published table cannot take these columns.
        RowsRefusedError: A row does not fit, or has a day that is not in `days`.
        WarehouseUnavailableError: The connection was lost. Nothing visible has changed, ever.
    """
    began = time.monotonic()
    owner = connect()
    try:
        with map_errors(f"staging {table.label}"):
            load_id = claim_load(owner)
            drop_leftovers(owner)
            stager = _Stager(owner, table, frozenset(days), load_id)
            workers = Workers(connect, sessions, owner)
            try:
                workers.run(slices, lambda session, item: stager.copy_slice(session, item, workers))
                workers.run(stager.unfinished(), stager.finish)
                if deletes is not None:
                    workers.run(
                        [deletes], lambda session, it: stager.copy_deletes(session, it, workers)
                    )
            except BaseException:
                # With the owner lost, the tables are leftovers, and the next load drops them.
                with suppress(psycopg.OperationalError):
                    drop_staged(owner, stager.names)
                raise
    except BaseException:
        owner.close()
        raise
    return stager.load(owner, time.monotonic() - began)


def month_slices(
    table: WarehouseTable, days: Collection[date], rows: pa.Table
) -> Iterator[tuple[Collection[date], pa.RecordBatchReader]]:
    """Rows that are in memory, cut so that each month can be copied and indexed by itself.

    Rows of no day in `days` come last, for the load to refuse them.
    """
    if table.partition_column is None or table.partition_column not in rows.column_names:
        yield (), rows.to_reader()
        return
    column = rows[table.partition_column]
    for some in by_month(days).values():
        values = pa.array([table.partition_value(day) for day in some], column.type)
        yield some, rows.filter(pc.is_in(column, values)).to_reader()
    every = pa.array([table.partition_value(day) for day in days], column.type)
    strangers = rows.filter(pc.invert(pc.is_in(column, every)))
    if strangers.num_rows:
        yield (), strangers.to_reader()


class _Stager:
    """State that the workers share; every change to it happens under its lock."""

    def __init__(
        self, session: Session, table: WarehouseTable, days: frozenset[date], load_id: str
    ) -> None:
        published = None if table.rebuild else look_up(session, table.namespace, table.name)
        self._table = table
        self._days = days
        self._by_month = by_month(days)
        self._load_id = load_id
        self._months_there = published.month_tables if published else frozenset()
        self._columns = plan_change(table, published).columns
        # Binary COPY takes no narrower type than the column's.
        loaded = {column.name: column for column in self._columns}
        self._schema = schema_of(table.label, [loaded[name] for name in table.schema.names])
        self._rows_by_day: Counter[date] = Counter()
        self._lock = Lock()
        self._parts: dict[str, StagingTable] = {}
        self._seconds = {"copy": 0.0, "index": 0.0}
        self._deletes: StagingTable | None = None
        self.names: list[str] = []

    def copy_slice(self, session: Session, item: Slice, workers: Workers) -> None:
        """Copy one slice, and index the months that it completes."""
        slice_days, reader = item
        began = time.monotonic()
        batches = copy.fitted(self._table.label, self._schema, reader)
        router = _Router(self._table, self._days)
        staged: dict[date | None, StagingTable] = {}
        with session.transaction():
            for month, pairs in groupby(router.route(batches), key=itemgetter(0)):
                part = staged.get(month) or StagingTable(self._create(session, month), month, 0)
                rows = copy.copy(
                    session,
                    sql.Identifier(STAGING, part.name),
                    self._schema.names,
                    (batch for _, batch in pairs),
                    workers.check,
                )
                staged[month] = StagingTable(part.name, month, part.rows + rows)
            self._add("copy", began, staged.values(), router.rows_by_day)
            # A slice of several months leaves the indexing to both sessions.
            for month, part in staged.items():
                workers.check()
                if month and len(staged) == 1 and self._by_month[month] <= {*slice_days}:
                    self.finish(session, [part])

    def unfinished(self) -> list[list[StagingTable]]:
        """Parts that came from several slices, or from one that may not be all of its month."""
        groups: dict[date | None, list[StagingTable]] = {}
        for part in self._parts.values():
            groups.setdefault(part.month, []).append(part)
        return [
            parts
            for month, parts in groups.items()
            if len(parts) > 1
            or (self._becomes_partition(month) and not parts[0].is_partition)
            or self._table.mode == "upsert"
        ]

    def finish(self, session: Session, parts: list[StagingTable]) -> None:
        """Bring the parts of a month together, and index the one that is left."""
        began = time.monotonic()
        first, *others = parts
        with session.transaction():
            for other in others:
                self._move(session, other, first)
            finished = self._index(session, first, sum(part.rows for part in parts))
        with self._lock:
            for other in others:
                del self._parts[other.name]
        self._add("index", began, [finished])

    def copy_deletes(
        self, session: Session, reader: pa.RecordBatchReader, workers: Workers
    ) -> None:
        """Copy the keys of rows that went, and let the planner know how few they are."""
        key = self._table.primary_key
        keys = [column for column in self._columns if column.name in key]
        schema = schema_of(self._table.label, keys)
        with session.transaction():
            name = self._create(session, None, keys)
            batches = copy.fitted(self._table.label, schema, reader)
            relation = sql.Identifier(STAGING, name)
            rows = copy.copy(session, relation, schema.names, batches, workers.check)
            for part in (name, *self._parts):
                session.execute(sql.SQL("analyze {}").format(sql.Identifier(STAGING, part)))
        self._deletes = StagingTable(name, None, rows)

    def load(self, owner: Session, seconds: float) -> StagedLoad:
        """The result, once all slices are copied."""
        return StagedLoad(
            table=self._table,
            days=self._days,
            columns=self._columns,
            parts=tuple(sorted(self._parts.values(), key=lambda part: part.name)),
            rows_by_day=MappingProxyType(dict(self._rows_by_day)),
            seconds=MappingProxyType({**self._seconds, "stage": seconds}),
            owner=owner,
            deletes=self._deletes,
        )

    def _becomes_partition(self, month: date | None) -> bool:
        return month is not None and self._table.month_table(month) not in self._months_there

    def _create(
        self,
        session: Session,
        month: date | None,
        columns: Sequence[PostgresColumn] | None = None,
    ) -> str:
        with self._lock:
            name = staging_table_name(self._load_id, len(self.names), self._table.name)
            self.names.append(name)
        # Rows that will be copied on from here need no log: they are gone after a crash, like
        # the load itself.
        kind = sql.SQL("table" if self._becomes_partition(month) else "unlogged table")
        defined = sql.SQL(", ").join(map(definition, columns or self._columns))
        session.execute(
            sql.SQL("create {} {} ({}) with (autovacuum_enabled = off)").format(
                kind, sql.Identifier(STAGING, name), defined
            )
        )
        return name

    def _move(self, session: Session, source: StagingTable, target: StagingTable) -> None:
        names = [sql.Identifier(STAGING, part.name) for part in (target, source)]
        session.execute(sql.SQL("insert into {} select * from {}").format(*names))
        session.execute(sql.SQL("drop table {}").format(names[1]))

    def _index(self, session: Session, part: StagingTable, rows: int) -> StagingTable:
        relation = sql.Identifier(STAGING, part.name)
        if self._table.mode == "upsert":
            indexes.add_key(
                session, relation, staged_index_name(part.name), self._table.primary_key
            )
        if part.month is None or not self._becomes_partition(part.month):
            return StagingTable(part.name, part.month, rows)
        table = self._table
        renames = indexes.index_staged(session, table, part.name, table.month_table(part.month))
        # Attaching believes this constraint, and reads the whole table without it.
        session.execute(
            sql.SQL("alter table {} add constraint month check ({} >= {} and {} < {})").format(
                relation,
                sql.Identifier(table.partition_column or ""),
                sql.Literal(table.partition_value(part.month)),
                sql.Identifier(table.partition_column or ""),
                sql.Literal(table.partition_value(next_month(part.month))),
            )
        )
        session.execute(sql.SQL("alter table {} reset (autovacuum_enabled)").format(relation))
        session.execute(sql.SQL("analyze {}").format(relation))
        return StagingTable(part.name, part.month, rows, is_partition=True, renames=renames)

    def _add(
        self,
        step: str,
        began: float,
        parts: Iterable[StagingTable],
        rows_by_day: Mapping[date, int] = _NONE,
    ) -> None:
        with self._lock:
            self._seconds[step] += time.monotonic() - began
            self._rows_by_day.update(rows_by_day)
            self._parts.update({part.name: part for part in parts})


class _Router:
    """Sends rows to months, and remembers how many rows each day has."""

    def __init__(self, table: WarehouseTable, days: Collection[date]) -> None:
        self._table = table
        self._days = {table.partition_value(day): day for day in days}
        self.rows_by_day: Counter[date] = Counter()

    def route(
        self, batches: Iterable[pa.RecordBatch]
    ) -> Iterator[tuple[date | None, pa.RecordBatch]]:
        """Each batch with the month it belongs to, cut where it has rows of several.

        A table that is not cut into months has the month None only.

        Raises:
            RowsRefusedError: A row has no day, or one that the load does not replace.
        """
        for batch in batches:
            if self._table.column_of_days is None:
                yield None, batch
                continue
            column = batch.column(self._table.column_of_days)
            counted = Counter(
                {c["values"]: c["counts"] for c in pc.value_counts(column).to_pylist()}
            )
            self._check(counted)
            rows = {self._days[value]: count for value, count in counted.items()}
            self.rows_by_day.update(rows)
            if self._table.partition_column is None:
                yield None, batch
                continue
            yield from self._cut(batch, column, sorted({month_of(day) for day in rows}))

    def _cut(
        self, batch: pa.RecordBatch, column: pa.Array, months: list[date]
    ) -> Iterator[tuple[date, pa.RecordBatch]]:
        if len(months) == 1:
            yield months[0], batch
            return
        for month in months:
            values = [value for value, day in self._days.items() if month_of(day) == month]
            chosen = pc.is_in(column, pa.array(values, column.type))
            yield month, batch.filter(chosen)

    def _check(self, counted: Counter[date | int | None]) -> None:
        strangers = sorted(str(value) for value in counted if value not in self._days)
        if strangers:
            shown = ", ".join(strangers[:_NAMED_AT_MOST])
            more = len(strangers) - _NAMED_AT_MOST
            raise RowsRefusedError(
                f"{self._table.label}: rows of {shown}{f' and {more} more' if more > 0 else ''} in "
                f"column {self._table.column_of_days}, which this load does not replace",
                fix="load the days that the rows have, or filter the rows by the load's days",
            )
