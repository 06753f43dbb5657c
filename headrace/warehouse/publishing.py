"""Publication: staged loads become visible together, in one transaction.

Belongs here: the transaction, and what each mode does in it.
Elsewhere: staging (headrace.warehouse.staging), partitions (…months), new columns (…schema).

What readers see. Rows are deleted, inserted and updated, never truncated, and no table that has
rows is swapped: a query's snapshot decides, old or new. A new month is the exception: its table is
attached whole. A query that was planned before and takes its snapshot after would miss it, so the
parent is locked for the instant of the commit; while a long query keeps us from that, the month is
made empty first, and its rows inserted. What remains: a REPEATABLE READ transaction that began
between staging and publication, and reads the table only afterwards, already sees a new month.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from psycopg import sql

from headrace.warehouse import indexing, months
from headrace.warehouse.differences import differing_days
from headrace.warehouse.leftovers import STAGING
from headrace.warehouse.schema import apply_change, look_up, plan_change
from headrace.warehouse.sessions import Connect, Session, advisory_key, translated
from headrace.warehouse.staging import StagedLoad, StagedPart
from headrace.warehouse.statistics import analyze_changed
from headrace.warehouse.tables import WarehouseTable, by_month

_CHANGE_TIMEOUT = "10s"


@dataclass(frozen=True)
class Publication:
    """What one load changed.

    Attributes:
        table: namespace.name.
        rows_inserted: Rows of attached months included.
        rows_updated: For `upsert`.
        rows_deleted: For the replaced days, rows there were before.
        seconds: The transaction's time, the same for all loads published in it.
    """

    table: str
    rows_inserted: int
    rows_updated: int
    rows_deleted: int
    seconds: float

    def metadata(self) -> dict[str, str | int | float]:
        """As an orchestrator shows it."""
        return {
            "table": self.table,
            "rows_inserted": self.rows_inserted,
            "rows_updated": self.rows_updated,
            "rows_deleted": self.rows_deleted,
            "publish_seconds": round(self.seconds, 3),
        }


def publish(
    connect: Connect,
    loads: Sequence[StagedLoad],
    *,
    before_commit: Callable[[Session], None] | None = None,
) -> tuple[Publication, ...]:
    """Make `loads` visible, all of them or none.

    The staging tables are gone afterwards, whatever happens.

    Args:
        connect: Opens sessions with the warehouse.
        loads: Of different tables, staged there.
        before_commit: Called with the session once everything is in place: what it writes is
            committed with the loads, and what it raises undoes them.

    Raises:
        CommitConflictError: Another transaction kept a lock for too long; nothing changed.
        IncompatibleSchemaError: The table changed since it was staged.
        WarehouseUnavailableError: The connection was lost.
    """
    if not loads:
        return ()
    began = time.monotonic()
    session = loads[0].owner
    transactions = [_Publishing(connect, session, load) for load in loads]
    names = ", ".join(load.table.label for load in loads)
    try:
        with translated(f"publishing {names}"):
            with session.transaction():
                _lock_tables(session, [load.table for load in loads])
                for transaction in transactions:
                    transaction.change_rows()
                for transaction in transactions:
                    transaction.add_months()
                if before_commit:
                    before_commit(session)
            seconds = time.monotonic() - began
            for transaction in transactions:
                transaction.analyze()
    finally:
        for load in loads:
            load.discard()
    return tuple(transaction.publication(seconds) for transaction in transactions)


def _lock_tables(session: Session, tables: Iterable[WarehouseTable]) -> None:
    """Let one publication at a time change a table; in one order, so that none waits in a ring."""
    for label in sorted({table.label for table in tables}):
        session.execute("select pg_advisory_xact_lock(%s)", (advisory_key("table", label),))


class _Publishing:
    """One load within the transaction."""

    def __init__(self, connect: Connect, session: Session, load: StagedLoad) -> None:
        self._connect = connect
        self._session = session
        self._load = load
        self._table = load.table
        self._rows: Counter[str] = Counter()  # inserted, updated, deleted
        self._changed: Counter[str] = Counter()  # by table or month table
        self._new_months: dict[date, StagedPart] = {}
        self._has_columns_of_load = True
        self._changed_definition = False

    def change_rows(self) -> None:
        """Bring the table into shape, and change rows of what exists."""
        table = self._table
        published = look_up(self._session, table.namespace, table.name)
        change = plan_change(table, published)
        self._has_columns_of_load = change.columns == self._load.columns
        self._changed_definition = published is None or change.is_needed
        if published is None:
            months.create_table(self._session, table, change.columns)
        elif change.is_needed:
            months.set_lock_timeout(self._session, _CHANGE_TIMEOUT)
            apply_change(self._session, table, change)
            months.set_lock_timeout(self._session, "0")
        if table.mode == "partition_replace":
            self._replace_days(published.month_tables if published else frozenset())
        elif table.mode == "upsert" and published is not None:
            self._upsert()
        else:
            self._replace_all()
        if indexing.ensure(self._session, table, is_new=published is None):
            self._changed_definition = True

    def add_months(self) -> None:
        """Attach the months that the table does not have yet."""
        if not self._new_months:
            return
        is_locked = months.lock_readers_out(self._session, self._table)
        for month, part in self._new_months.items():
            if is_locked and part.is_partition and self._has_columns_of_load:
                months.attach_month(self._session, self._table, part, month)
                self._rows["inserted"] += part.rows
                continue
            if is_locked or self._changed_definition:
                months.create_month(self._session, self._table, month)
            else:
                # Visible before its rows are: queries planned from now on will find them.
                with self._connect() as other:
                    months.create_month(other, self._table, month)
            self._insert(self._table.month_table(month), part)

    def analyze(self) -> None:
        """Refresh the planner's statistics; attached months bring their own."""
        analyze_changed(self._session, self._table, self._changed)

    def publication(self, seconds: float) -> Publication:
        """The result."""
        return Publication(
            table=self._table.label,
            rows_inserted=self._rows["inserted"],
            rows_updated=self._rows["updated"],
            rows_deleted=self._rows["deleted"],
            seconds=seconds,
        )

    def _replace_days(self, month_tables: frozenset[str]) -> None:
        parts = {part.month: part for part in self._load.parts}
        for month, days in by_month(self._load.days).items():
            name = self._table.month_table(month)
            part = parts.get(month)
            if name in month_tables:
                self._replace_days_of_month(name, days, part)
            elif part:
                self._new_months[month] = part

    def _replace_days_of_month(
        self, month_table: str, days: Iterable[date], part: StagedPart | None
    ) -> None:
        table = self._table
        relation = sql.Identifier(table.namespace, month_table)
        day = sql.Identifier(table.partition_column or "")
        values = [table.partition_value(each) for each in sorted(days)]
        if part:
            values = differing_days(
                self._session,
                relation,
                sql.Identifier(STAGING, part.name),
                [column.name for column in self._load.columns],
                (day, values),
            )
        if not values:
            return
        delete = sql.SQL("delete from {} where {} = any(%s)").format(relation, day)
        self._write("deleted", month_table, delete, values)
        if part:
            self._insert(month_table, part, sql.SQL(" where {} = any(%s)").format(day), values)

    def _insert(
        self,
        table_name: str,
        part: StagedPart,
        where: sql.Composed | None = None,
        values: list[date | int] | None = None,
    ) -> None:
        columns = _listed(column.name for column in self._load.columns)
        statement = sql.SQL("insert into {} ({}) select {} from {}{}").format(
            sql.Identifier(self._table.namespace, table_name),
            columns,
            columns,
            sql.Identifier(STAGING, part.name),
            where or sql.SQL(""),
        )
        self._write("inserted", table_name, statement, values)

    def _replace_all(self) -> None:
        name = self._table.name
        self._write("deleted", name, sql.SQL("delete from {}").format(self._table.identifier))
        for part in self._load.parts:
            self._insert(name, part)

    def _upsert(self) -> None:
        """Make the rows equal to the staged ones, writing those only that differ."""
        table, key = self._table, self._table.primary_key
        names = table.schema.names
        target, staged = table.identifier, self._load.relation()
        pairs = [sql.SQL("t.{0} = s.{0}").format(sql.Identifier(name)) for name in key]
        matches = sql.SQL(" and ").join(pairs)
        delete = sql.SQL("delete from {} as t where not exists (select from {} as s where {})")
        self._write("deleted", table.name, delete.format(target, staged, matches))
        if values := [name for name in names if name not in key]:
            update = sql.SQL(
                "update {} as t set {} from {} as s where {} and ({}) is distinct from ({})"
            )
            setters = [sql.SQL("{0} = s.{0}").format(sql.Identifier(name)) for name in values]
            statement = update.format(
                target,
                sql.SQL(", ").join(setters),
                staged,
                matches,
                _listed(values, "t."),
                _listed(values, "s."),
            )
            self._write("updated", table.name, statement)
        insert = sql.SQL(
            "insert into {} ({}) select {} from {} as s"
            " where not exists (select from {} as t where {})"
        )
        statement = insert.format(
            target, _listed(names), _listed(names, "s."), staged, target, matches
        )
        self._write("inserted", table.name, statement)

    def _write(
        self,
        change: str,
        table_name: str,
        statement: sql.Composed,
        days: Sequence[date | int] | None = None,
    ) -> None:
        written = self._session.execute(statement, None if days is None else (days,)).rowcount
        self._rows[change] += written
        self._changed[table_name] += written


def _listed(columns: Iterable[str], prefix: str = "") -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(prefix) + sql.Identifier(name) for name in columns)
