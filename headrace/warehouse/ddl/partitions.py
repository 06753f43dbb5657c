"""Month partitions of a fact table: creating, attaching, detaching."""

from collections.abc import Iterable
from datetime import date

import psycopg
from psycopg import sql

from headrace.warehouse.ddl.schema import PostgresColumn, definition
from headrace.warehouse.loading.staged_loads import STAGING, StagedPart
from headrace.warehouse.sessions import Session, advisory_key, ensure_namespace
from headrace.warehouse.tables import WarehouseTable, next_month

# Shorter than Postgres's deadlock_timeout (1 s): when readers and we wait for each other, it is
# we who give way.
_LOCK_TIMEOUT = "300ms"


def create_table(
    session: Session, table: WarehouseTable, columns: Iterable[PostgresColumn]
) -> None:
    """Make the table, without indexes or key; its namespace too."""
    ensure_namespace(session, table.namespace)
    statement = sql.SQL("create table {} ({})").format(
        table.identifier, sql.SQL(", ").join(map(definition, columns))
    )
    if table.partition_column:
        statement += sql.SQL(" partition by range ({})").format(
            sql.Identifier(table.partition_column)
        )
    else:
        # Room for the end of a version on its own page: no index then hears of it.
        statement += sql.SQL(" with (fillfactor = 90)")
    session.execute(statement)


def lock_readers_out(session: Session, table: WarehouseTable) -> bool:
    """Lock the table until the transaction ends; False if a query keeps us from that."""
    try:
        with session.transaction():
            set_lock_timeout(session, _LOCK_TIMEOUT)
            session.execute(
                sql.SQL("lock table only {} in access exclusive mode").format(table.identifier)
            )
    except psycopg.errors.LockNotAvailable:
        return False
    set_lock_timeout(session, "0")
    return True


def attach_month(session: Session, table: WarehouseTable, part: StagedPart, month: date) -> None:
    """Make a staged table the partition of its month; it has all indexes the table has."""
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
                sql.SQL("index"), sql.Identifier(table.namespace, now), sql.Identifier(then)
            )
            for now, then in part.renames
        ),
        _attachment(table, month),
        sql.SQL("alter table {} drop constraint month").format(partition),
    ]
    # One message: thirteen months with five indexes each are a hundred statements.
    session.execute(sql.SQL("; ").join(statements))


def create_month(session: Session, table: WarehouseTable, month: date) -> None:
    """Make the month's empty partition.

    Not by PARTITION OF, which locks readers out.
    """
    partition = sql.Identifier(table.namespace, table.month_table(month))
    session.execute(
        sql.SQL("create table {} (like {}); {}").format(
            partition, table.identifier, _attachment(table, month)
        )
    )


def create_months(session: Session, table: WarehouseTable, months: Iterable[date]) -> None:
    """Make months empty, all or none; one that is there by now is left alone.

    For a session of its own: readers find the months at once.
    """
    with session.transaction():
        session.execute("select pg_advisory_xact_lock(%s)", (advisory_key("table", table.label),))
        for month in months:
            name = sql.Identifier(table.namespace, table.month_table(month)).as_string()
            found = session.execute("select to_regclass(%s)", (name,)).fetchone()
            if found is None or found[0] is None:
                create_month(session, table, month)


def set_lock_timeout(session: Session, timeout: str) -> None:
    """Until the transaction ends; "0" waits for ever."""
    session.execute(sql.SQL("set local lock_timeout = {}").format(sql.Literal(timeout)))


def _attachment(table: WarehouseTable, month: date) -> sql.Composed:
    return sql.SQL("alter table {} attach partition {} for values from ({}) to ({})").format(
        table.identifier,
        sql.Identifier(table.namespace, table.month_table(month)),
        sql.Literal(table.partition_value(month)),
        sql.Literal(table.partition_value(next_month(month))),
    )
