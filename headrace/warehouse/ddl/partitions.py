"""Month partitions of a fact table: create, attach, and drop those older than the retention."""

from collections.abc import Iterable
from datetime import UTC, date, datetime

import psycopg
from psycopg import sql

from headrace.warehouse.ddl.schema import PostgresColumn, definition, look_up
from headrace.warehouse.loading.staged_loads import STAGING, StagingTable
from headrace.warehouse.sessions import (
    Connect,
    Session,
    advisory_key,
    ensure_namespace,
    map_errors,
)
from headrace.warehouse.tables import WarehouseTable, next_month

# Shorter than Postgres's deadlock_timeout (1 s), so that a deadlock with readers cancels the load.
_ATTACH_LOCK_TIMEOUT = "300ms"
_DROP_LOCK_TIMEOUT = "3s"
_MONTHS_PER_YEAR = 12


def create_table(
    session: Session, table: WarehouseTable, columns: Iterable[PostgresColumn]
) -> None:
    """Create the table, without indexes or primary key, and its namespace."""
    ensure_namespace(session, table.namespace)
    statement = sql.SQL("create table {} ({})").format(
        table.identifier, sql.SQL(", ").join(map(definition, columns))
    )
    if table.partition_column:
        statement += sql.SQL(" partition by range ({})").format(
            sql.Identifier(table.partition_column)
        )
    else:
        # Free space on each page lets the end of a version be a HOT update, without index writes.
        statement += sql.SQL(" with (fillfactor = 90)")
    session.execute(statement)


def lock_readers_out(session: Session, table: WarehouseTable) -> bool:
    """Lock the table exclusively until the transaction ends; False if a query reads it."""
    try:
        with session.transaction():
            set_lock_timeout(session, _ATTACH_LOCK_TIMEOUT)
            session.execute(
                sql.SQL("lock table only {} in access exclusive mode").format(table.identifier)
            )
    except psycopg.errors.LockNotAvailable:
        return False
    set_lock_timeout(session, "0")
    return True


def attach_month(session: Session, table: WarehouseTable, part: StagingTable, month: date) -> None:
    """Attach a staging table as the partition of its month; it has the indexes already."""
    name = table.month_table(month)
    partition = sql.Identifier(table.namespace, name)
    rename = sql.SQL("alter {} {} rename to {}")
    statements = [
        sql.SQL("alter table {} set schema {}").format(
            sql.Identifier(STAGING, part.name), sql.Identifier(table.namespace)
        ),
        rename.format(
            sql.SQL("table"),
            sql.Identifier(table.namespace, part.name),
            sql.Identifier(name),
        ),
        *(
            rename.format(
                sql.SQL("index"), sql.Identifier(table.namespace, before), sql.Identifier(after)
            )
            for before, after in part.renames
        ),
        _attachment(table, month),
        sql.SQL("alter table {} drop constraint month").format(partition),
    ]
    # One round trip: thirteen months with five indexes each are a hundred statements.
    session.execute(sql.SQL("; ").join(statements))


def create_month(session: Session, table: WarehouseTable, month: date) -> None:
    """Create the empty partition of a month.

    ATTACH PARTITION is used because PARTITION OF blocks readers.
    """
    partition = sql.Identifier(table.namespace, table.month_table(month))
    session.execute(
        sql.SQL("create table {} (like {}); {}").format(
            partition, table.identifier, _attachment(table, month)
        )
    )


def create_months(session: Session, table: WarehouseTable, months: Iterable[date]) -> None:
    """Create the missing partitions of some months, empty, in one transaction.

    Args:
        session: Not the session of a load: readers see the partitions at once.
        table: The published table.
        months: First days of the months.
    """
    with session.transaction():
        session.execute("select pg_advisory_xact_lock(%s)", (advisory_key("table", table.label),))
        for month in months:
            name = sql.Identifier(table.namespace, table.month_table(month)).as_string()
            found = session.execute("select to_regclass(%s)", (name,)).fetchone()
            if found is None or found[0] is None:
                create_month(session, table, month)


def set_lock_timeout(session: Session, timeout: str) -> None:
    """Set the lock timeout until the transaction ends; "0" for none."""
    session.execute(sql.SQL("set local lock_timeout = {}").format(sql.Literal(timeout)))


def first_retained_month(keep_months: int | None, today: date | None = None) -> date:
    """First day of the oldest retained month; `date.min` without a limit.

    Args:
        keep_months: Number of retained months, including that of `today`.
        today: UTC date; the current one by default.
    """
    if keep_months is None:
        return date.min
    now = today or datetime.now(UTC).date()
    number = now.year * _MONTHS_PER_YEAR + now.month - keep_months
    return date(number // _MONTHS_PER_YEAR, number % _MONTHS_PER_YEAR + 1, 1)


def drop_months(connect: Connect, table: WarehouseTable, retained_from: date) -> list[date]:
    """Drop the months before `retained_from`; returns their first days, oldest first.

    Each month is detached concurrently and then dropped, in separate transactions; an interrupted
    call is completed by the next one. Running queries are not disturbed.

    Raises:
        CommitConflictError: A long query reads a month; earlier months are dropped.
    """
    with map_errors(f"dropping months of {table.label}"), connect() as session:
        # A load that runs at the same time would deadlock with this.
        key = advisory_key("table", table.label)
        session.execute("select pg_advisory_lock(%s)", (key,))
        session.execute(sql.SQL("set lock_timeout = {}").format(sql.Literal(_DROP_LOCK_TIMEOUT)))
        dropped = []
        for month, name in sorted(_months(session, table).items()):
            if month < retained_from:
                _detach(session, table, name)
                session.execute(
                    sql.SQL("drop table {}").format(sql.Identifier(table.namespace, name))
                )
                dropped.append(month)
        return dropped


def _attachment(table: WarehouseTable, month: date) -> sql.Composed:
    return sql.SQL("alter table {} attach partition {} for values from ({}) to ({})").format(
        table.identifier,
        sql.Identifier(table.namespace, table.month_table(month)),
        sql.Literal(table.partition_value(month)),
        sql.Literal(table.partition_value(next_month(month))),
    )


def _months(session: Session, table: WarehouseTable) -> dict[date, str]:
    """Month tables by month: attached ones, and those of an interrupted drop."""
    found = session.execute(
        """
        select c.relname::text
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = %s and c.relkind = 'r'
            and starts_with(c.relname, %s)
            and substr(c.relname, length(%s) + 1) ~ '^[0-9]{4}_[0-9]{2}$'
        """,
        (table.namespace, f"{table.name}__", f"{table.name}__"),
    ).fetchall()
    return {_month(name): name for (name,) in found}


def _month(name: str) -> date:
    year, month = name[-7:].split("_")
    return date(int(year), int(month), 1)


def _detach(session: Session, table: WarehouseTable, name: str) -> None:
    published = look_up(session, table.namespace, table.name)
    if published is None or name not in published.month_tables:
        return
    detach = sql.SQL("alter table {} detach partition {}").format(
        table.identifier, sql.Identifier(table.namespace, name)
    )
    if not _is_pending(session, table.namespace, name):
        try:
            session.execute(detach + sql.SQL(" concurrently"))
        except psycopg.errors.LockNotAvailable:
            # The detach is pending, and FINALIZE completes it.
            if not _is_pending(session, table.namespace, name):
                raise
        else:
            return
    session.execute(detach + sql.SQL(" finalize"))


def _is_pending(session: Session, namespace: str, name: str) -> bool:
    row = session.execute(
        "select inhdetachpending from pg_inherits where inhrelid = %s::regclass",
        (sql.Identifier(namespace, name).as_string(),),
    ).fetchone()
    return bool(row and row[0])
