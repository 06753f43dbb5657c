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
    drop_orphans,
    drop_staged,
)
from headrace.warehouse.loading.workers import Workers
from headrace.warehouse.sessions import Connect, RowsRefusedError, Session, map_errors
from headrace.warehouse.tables import WarehouseTable, by_month, month_of, next_month

_NONE: Mapping[date, int] = MappingProxyType({})
_SHOWN = 5

# Days, and their rows in any order. Batches of whole months load fastest.
StagingBatch = tuple[Collection[date], pa.RecordBatchReader]


def stage(
    connect: Connect,
    table: WarehouseTable,
    days: Collection[date],
    batches: Iterable[StagingBatch],
    *,
    deletes: pa.RecordBatchReader | None = None,
    sessions: int = 2,
) -> StagedLoad:
    """Copy rows to staging tables, on several sessions at a time.

    Args:
        connect: Opens sessions with the warehouse.
        table: The target.
        days: The days that the rows replace; empty for a table without partitions.
        batches: Taken one by one, as sessions become free; each is read in one thread.
        deletes: For `upsert`: primary keys of rows to delete. Given, `batches` hold changed rows
            only; None if `batches` hold all rows. A key that is in both stays.
        sessions: Number of sessions that copy and index.

    Raises:
        IncompatibleSchemaError: The published table cannot take these columns.
        RowsRefusedError: A row does not fit the table, or has a day that is not in `days`.
        WarehouseUnavailableError: The connection was lost. Published tables are unchanged.
    """
    began = time.monotonic()
    owner = connect()
    try:
        with map_errors(f"staging {table.label}"):
            load_id = claim_load(owner)
            drop_orphans(owner)
            stager = _Stager(owner, table, frozenset(days), load_id)
            workers = Workers(connect, sessions, owner)
            try:
                workers.run(
                    batches, lambda session, batch: stager.copy_batch(session, batch, workers)
                )
                workers.run(stager.unfinished(), stager.finish)
                if deletes is not None:
                    workers.run(
                        [deletes], lambda session, keys: stager.copy_deletes(session, keys, workers)
                    )
            except BaseException:
                # Without the owner the tables are orphans, which the next load drops.
                with suppress(psycopg.OperationalError):
                    drop_staged(owner, stager.names)
                raise
    except BaseException:
        owner.close()
        raise
    return stager.load(owner, time.monotonic() - began)


def month_batches(
    table: WarehouseTable, days: Collection[date], rows: pa.Table
) -> Iterator[tuple[Collection[date], pa.RecordBatchReader]]:
    """Split an Arrow table by month, so that each month is copied and indexed on its own.

    The last batch has the rows of other days than `days`, which staging refuses.
    """
    if table.partition_column is None or table.partition_column not in rows.column_names:
        yield (), rows.to_reader()
        return
    column = rows[table.partition_column]
    for some in by_month(days).values():
        values = pa.array([table.partition_value(day) for day in some], column.type)
        yield some, rows.filter(pc.is_in(column, values)).to_reader()
    every = pa.array([table.partition_value(day) for day in days], column.type)
    others = rows.filter(pc.invert(pc.is_in(column, every)))
    if others.num_rows:
        yield (), others.to_reader()


class _Stager:
    """The state of one staging, which the workers share and change under a lock."""

    def __init__(
        self, session: Session, table: WarehouseTable, days: frozenset[date], load_id: str
    ) -> None:
        published = None if table.rebuild else look_up(session, table.namespace, table.name)
        self._table = table
        self._days = days
        self._by_month = by_month(days)
        self._load_id = load_id
        self._existing_months = published.month_tables if published else frozenset()
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

    def copy_batch(self, session: Session, batch: StagingBatch, workers: Workers) -> None:
        """Copy one batch; if it is one whole month, index that month, too."""
        batch_days, reader = batch
        began = time.monotonic()
        fitted = copy.fitted(self._table.label, self._schema, reader)
        router = _Router(self._table, self._days)
        staged: dict[date | None, StagingTable] = {}
        with session.transaction():
            for month, pairs in groupby(router.route(fitted), key=itemgetter(0)):
                part = staged.get(month) or StagingTable(self._create(session, month), month, 0)
                count = copy.copy(
                    session,
                    sql.Identifier(STAGING, part.name),
                    self._schema.names,
                    (rows for _, rows in pairs),
                    workers.check,
                )
                staged[month] = StagingTable(part.name, month, part.rows + count)
            self._record("copy", began, staged.values(), router.rows_by_day)
            # The months of a larger batch are indexed by all sessions, in `finish`.
            for month, part in staged.items():
                workers.check()
                if month and len(staged) == 1 and self._by_month[month] <= {*batch_days}:
                    self.finish(session, [part])

    def unfinished(self) -> list[list[StagingTable]]:
        """The parts of each month that `finish` still has to merge or index."""
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
        """Merge the parts of a month into one, and index it."""
        began = time.monotonic()
        first, *others = parts
        with session.transaction():
            for other in others:
                self._move(session, other, first)
            finished = self._index(session, first, sum(part.rows for part in parts))
        with self._lock:
            for other in others:
                del self._parts[other.name]
        self._record("index", began, [finished])

    def copy_deletes(
        self, session: Session, reader: pa.RecordBatchReader, workers: Workers
    ) -> None:
        """Copy the keys of rows to delete, and update the planner's statistics."""
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
        """The result, after all batches are copied."""
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
        return month is not None and self._table.month_table(month) not in self._existing_months

    def _create(
        self,
        session: Session,
        month: date | None,
        columns: Sequence[PostgresColumn] | None = None,
    ) -> str:
        with self._lock:
            name = staging_table_name(self._load_id, len(self.names), self._table.name)
            self.names.append(name)
        # A table that will not be attached needs no write-ahead log: a crash also ends its load.
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
        # With this constraint, ATTACH PARTITION does not scan the table.
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

    def _record(
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
    """Splits record batches by month, and counts the rows of each day."""

    def __init__(self, table: WarehouseTable, days: Collection[date]) -> None:
        self._table = table
        self._days = {table.partition_value(day): day for day in days}
        self.rows_by_day: Counter[date] = Counter()

    def route(
        self, batches: Iterable[pa.RecordBatch]
    ) -> Iterator[tuple[date | None, pa.RecordBatch]]:
        """The batches with their month, split where they have several; None without partitions.

        Raises:
            RowsRefusedError: The day of a row is NULL, or not among the load's days.
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
            yield from self._split(batch, column, sorted({month_of(day) for day in rows}))

    def _split(
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
        others = sorted(str(value) for value in counted if value not in self._days)
        if others:
            shown = ", ".join(others[:_SHOWN])
            more = len(others) - _SHOWN
            raise RowsRefusedError(
                f"{self._table.label}: rows of {shown}{f' and {more} more' if more > 0 else ''} in "
                f"column {self._table.column_of_days}, which this load does not replace",
                fix="load the days that the rows have, or filter the rows by the load's days",
            )
