"""Retention: months that are older than a fact is kept, detached and dropped."""

from datetime import UTC, date, datetime

import psycopg
from psycopg import sql

from headrace.warehouse.ddl.schema import look_up
from headrace.warehouse.sessions import Connect, Session, advisory_key, map_errors
from headrace.warehouse.tables import WarehouseTable

_MONTHS_A_YEAR = 12
_LOCK_TIMEOUT = "3s"
_CONCURRENTLY_SINCE = 140_000


def first_kept_month(keep_months: int | None, today: date | None = None) -> date:
    """First day of the oldest month that is kept; the first of all days where all are.

    Args:
        keep_months: Months that are kept, the one of `today` among them.
        today: UTC; now without it.
    """
    if keep_months is None:
        return date.min
    now = today or datetime.now(UTC).date()
    number = now.year * _MONTHS_A_YEAR + now.month - keep_months
    return date(number // _MONTHS_A_YEAR, number % _MONTHS_A_YEAR + 1, 1)


def drop_months(connect: Connect, table: WarehouseTable, kept_from: date) -> list[date]:
    """Drop the months before `kept_from`; the months dropped, oldest first.

    Each is detached and then dropped, in transactions of their own; what an earlier call began and
    did not end is ended. Queries that run go on to the end of what they see.

    Raises:
        CommitConflictError: A query reads a month for long; the months before it are gone.
    """
    with map_errors(f"dropping months of {table.label}"), connect() as session:
        # Together with a load, one of both would wait for locks that the other holds.
        key = advisory_key("table", table.label)
        session.execute("select pg_advisory_lock(%s)", (key,))
        session.execute(sql.SQL("set lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT)))
        dropped = []
        for month, name in sorted(_months(session, table).items()):
            if month < kept_from:
                _detach(session, table, name)
                session.execute(
                    sql.SQL("drop table {}").format(sql.Identifier(table.namespace, name))
                )
                dropped.append(month)
        return dropped


def _months(session: Session, table: WarehouseTable) -> dict[date, str]:
    """Tables of months, attached or left over from a drop that did not come to its end."""
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
    if session.info.server_version < _CONCURRENTLY_SINCE:
        session.execute(detach)
        return
    if not _is_pending(session, table.namespace, name):
        try:
            session.execute(detach + sql.SQL(" concurrently"))
        except psycopg.errors.LockNotAvailable:
            # It is marked as going by now: the next call only has to end it.
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
