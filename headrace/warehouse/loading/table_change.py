"""Applies one staged load to its table, within the transaction that publishes it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date

import psycopg
import structlog
from psycopg import sql

from headrace.errors import CommitConflictError, IncompatibleSchemaError
from headrace.warehouse.ddl import foreign_keys, indexes, partitions
from headrace.warehouse.ddl.dependent_views import Dependents, without_dependents
from headrace.warehouse.ddl.schema import (
    PublishedTable,
    SchemaChange,
    apply_change,
    look_up,
    plan_change,
)
from headrace.warehouse.loading.merge import TableMerge
from headrace.warehouse.loading.partition_replace import replace_days
from headrace.warehouse.loading.staged_loads import STAGING, StagedLoad, StagingTable
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import WarehouseTable, by_month, month_of

_CHANGE_TIMEOUT = "10s"
# Autovacuum's own threshold.
_ANALYZE_SHARE = 0.1

log = structlog.get_logger(__name__)


class AttachBlockedError(Exception):
    """A query reads the table, which prevents attaching months with their rows.

    Attributes:
        table: The table.
        months: First days of its missing months.
    """

    def __init__(self, table: WarehouseTable, missing: Iterable[date]) -> None:
        super().__init__(table.label)
        self.table = table
        self.months = tuple(missing)


class TableChange:
    """One load within the transaction.

    Attributes:
        rows: Rows inserted, updated, deleted, referenced and restated; see `LoadResult`.
        changed_days: Rows written, by day; empty for a table without partitions.
        dependents: Dependent objects of a table that was dropped, to be restored.
    """

    def __init__(self, session: Session, load: StagedLoad) -> None:
        self.label = load.table.label
        self.rows: Counter[str] = Counter()
        self.changed_days: Counter[date] = Counter()
        self.dependents: Dependents | None = None
        self._session = session
        self._load = load
        self._table = load.table
        self._changed: Counter[str] = Counter()  # rows, by table or month table
        self._new_months: dict[date, StagingTable] = {}
        self._has_columns_of_load = True
        self._existed = False

    def change_rows(self) -> None:
        """Create or alter the table, and change the rows of existing months."""
        table = self._table
        published = self._published()
        change = plan_change(table, published)
        self._has_columns_of_load = change.columns == self._load.columns
        self._existed = published is not None
        if published is None and self._load.deletes is not None:
            raise CommitConflictError(
                f"{self.label} was dropped after its changes were staged", fix="load it again"
            )
        if published is None:
            partitions.create_table(self._session, table, change.columns)
        else:
            self._alter(change)
        if table.mode == "partition_replace":
            self._replace_days(published.month_tables if published else frozenset())
        elif published is None or not table.primary_key:
            self._replace_all()
        elif table.mode == "upsert":
            self._upsert()
        else:
            self._count(*TableMerge(self._session, self._load).replace())
        indexes.ensure(self._session, self._load, is_new=published is None)
        if table.references:
            partitions.set_lock_timeout(self._session, _CHANGE_TIMEOUT)
            foreign_keys.declare(self._session, table)
            partitions.set_lock_timeout(self._session, "0")

    def _published(self) -> PublishedTable | None:
        """The published table; None if it does not exist, or a rebuild has dropped it."""
        table = self._table
        published = look_up(self._session, table.namespace, table.name)
        if published is not None and table.rebuild:
            self._drop_for_rebuild()
            return None
        return published

    def _drop_for_rebuild(self) -> None:
        """Drop the published table, in the transaction that creates the new one.

        Raises:
            IncompatibleSchemaError: It has rows of days that are not in the load.
        """
        table = self._table
        if table.column_of_days is not None:
            values = [table.partition_value(day) for day in self._load.days]
            other = self._session.execute(
                sql.SQL("select {day} from {table} where not ({day} = any(%s)) limit 1").format(
                    day=sql.Identifier(table.column_of_days), table=table.identifier
                ),
                (values,),
            ).fetchone()
            if other is not None:
                raise IncompatibleSchemaError(
                    f"{self.label} holds rows of {other[0]}, which is not in the rebuild; nothing "
                    "changed",
                    fix="run headrace status to see why the day fails, correct it, rebuild again",
                )
        partitions.set_lock_timeout(self._session, _CHANGE_TIMEOUT)
        # CASCADE drops dependent objects, which the end of the transaction restores.
        self.dependents = Dependents.of(self._session, table)
        self._session.execute(sql.SQL("drop table {} cascade").format(table.identifier))
        partitions.set_lock_timeout(self._session, "0")

    def delete_absent(self) -> None:
        """Delete the rows that the load lacks, after the changes of all tables.

        Only in an existing table with a primary key; other modes delete rows in `change_rows`.
        """
        if self._existed and self._table.primary_key and self._table.partition_column is None:
            rows = TableMerge(self._session, self._load)
            deleted, referenced = rows.delete_absent()
            self._count(deleted)
            self.rows["referenced"] += referenced
            self.changed_days.update(rows.changed_days)

    def add_months(self) -> None:
        """Attach the missing months.

        Raises:
            AttachBlockedError: A query reads the table.
        """
        if not self._new_months:
            return
        if not partitions.lock_readers_out(self._session, self._table):
            raise AttachBlockedError(self._table, self._new_months)
        for month, part in self._new_months.items():
            if part.is_partition and self._has_columns_of_load:
                partitions.attach_month(self._session, self._table, part, month)
            else:
                partitions.create_month(self._session, self._table, month)
                self._insert(self._table.month_table(month), part)
            self.rows["inserted"] += part.rows
        for day, rows in self._load.rows_by_day.items():
            if month_of(day) in self._new_months:
                self.changed_days[day] += rows

    def analyze(self) -> None:
        """Update the planner's statistics; those of attached months exist already."""
        _analyze_changed(self._session, self._table, self._changed)

    def _alter(self, change: SchemaChange) -> None:
        if change.is_needed:
            partitions.set_lock_timeout(self._session, _CHANGE_TIMEOUT)
            widened = [column.name for column in change.widened]
            with without_dependents(self._session, self._table, widened):
                apply_change(self._session, self._table, change)
            partitions.set_lock_timeout(self._session, "0")
        indexes.drop_exceeded(self._session, self._load)

    def _replace_days(self, month_tables: frozenset[str]) -> None:
        parts = {part.month: part for part in self._load.parts}
        for month, days in by_month(self._load.days).items():
            name, part = self._table.month_table(month), parts.get(month)
            if name not in month_tables:
                if part:
                    self._new_months[month] = part
                continue
            for day, rows in replace_days(self._session, self._load, name, days, part).items():
                updated = min(rows.inserted, rows.deleted)
                self.rows["updated"] += updated
                self.rows["inserted"] += rows.inserted - updated
                self.rows["deleted"] += rows.deleted - updated
                self.changed_days[day] += max(rows.inserted, rows.deleted)
                self._changed[name] += rows.inserted + rows.deleted

    def _replace_all(self) -> None:
        name = self._table.name
        delete = sql.SQL("delete from {}").format(self._table.identifier)
        deleted = self._session.execute(delete).rowcount
        inserted = sum(self._insert(name, part) for part in self._load.parts)
        self._count(deleted, inserted)
        if self._table.day_column:
            self.changed_days.update(self._load.rows_by_day)

    def _upsert(self) -> None:
        rows = TableMerge(self._session, self._load)
        updated, inserted, restated = rows.merge()
        self.changed_days.update(rows.changed_days)
        self.rows["updated"] += updated
        self._changed[self._table.name] += updated
        self._count(0, inserted, restated)

    def _insert(self, table_name: str, part: StagingTable) -> int:
        columns = sql.SQL(", ").join(sql.Identifier(c.name) for c in self._load.columns)
        statement = sql.SQL("insert into {} ({}) select {} from {}").format(
            sql.Identifier(self._table.namespace, table_name),
            columns,
            columns,
            sql.Identifier(STAGING, part.name),
        )
        return self._session.execute(statement).rowcount

    def _count(self, deleted: int, inserted: int = 0, restated: int = 0) -> None:
        self.rows["deleted"] += deleted
        self.rows["inserted"] += inserted
        self.rows["restated"] += restated
        self._changed[self._table.name] += deleted + inserted


def _analyze_changed(session: Session, table: WarehouseTable, changed: Mapping[str, int]) -> None:
    """Analyze the table and its months, where more than a tenth of the rows changed.

    Args:
        session: Outside a transaction.
        table: The published table.
        changed: Rows inserted, updated and deleted, by month table, or of the table itself.
    """
    try:
        found = session.execute(
            """
            select
                c.relname::text,
                c.relkind = 'p',
                greatest(c.reltuples, 0)::bigint,
                coalesce((
                    select sum(greatest(p.reltuples, 0))
                    from pg_inherits as i
                    join pg_class as p on p.oid = i.inhrelid
                    where i.inhparent = c.oid
                ), 0)::bigint
            from pg_class as c
            join pg_namespace as n on n.oid = c.relnamespace
            where n.nspname = %s and c.relname = any(%s)
            """,
            (table.namespace, [table.name, *changed]),
        ).fetchall()
        for name, is_partitioned, then, of_months in found:
            # Autovacuum does not analyze a partitioned table: compare its count with its months'.
            difference = abs(of_months - then) if is_partitioned else 0
            if max(difference, changed.get(name, 0)) > _ANALYZE_SHARE * then:
                only = sql.SQL("only " if is_partitioned else "")
                relation = sql.Identifier(table.namespace, name)
                session.execute(sql.SQL("analyze {}{}").format(only, relation))
    except psycopg.Error as error:
        # The load is committed. Without new statistics, queries are slower but correct.
        log.warning("table_not_analyzed", table=table.label, error=type(error).__name__)
