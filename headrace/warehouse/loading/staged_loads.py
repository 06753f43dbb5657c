"""Staged loads: staging tables that a session owns until they are published or discarded."""

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date

import psycopg
from psycopg import sql

from headrace.warehouse.ddl.schema import PostgresColumn
from headrace.warehouse.sessions import Session, advisory_key, ensure_namespace
from headrace.warehouse.tables import WarehouseTable

STAGING = "staging"
_ID_BYTES = 6
_NOT_DROPPABLE = (psycopg.errors.LockNotAvailable, psycopg.errors.InsufficientPrivilege)


def claim_load(session: Session) -> str:
    """A new load id; the load counts as running while `session` is open."""
    load_id = secrets.token_hex(_ID_BYTES)
    # The owner is idle while other sessions copy, possibly for hours. The limit ends the owners of
    # failed steps whose process continues, so that their staging tables become orphans.
    session.execute("set idle_session_timeout = '1d'")
    session.execute("select pg_advisory_lock(%s)", (advisory_key("load", load_id),))
    ensure_namespace(session, STAGING)
    return load_id


def drop_orphans(session: Session) -> None:
    """Drop the staging tables of loads whose owner session has ended."""
    found = session.execute(
        """
        select left(c.relname, %s), array_agg(c.relname::text)
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = %s and c.relkind = 'r' and c.relname ~ '^[0-9a-f]{12}_'
        group by 1
        """,
        (2 * _ID_BYTES, STAGING),
    ).fetchall()
    for load_id, tables in found:
        key = advisory_key("load", load_id)
        row = session.execute("select pg_try_advisory_lock(%s)", (key,)).fetchone()
        if row and row[0]:
            drop_staged(session, tables)
            session.execute("select pg_advisory_unlock(%s)", (key,))


def drop_staged(session: Session, tables: Sequence[str]) -> None:
    """Drop staging tables, except tables in use and tables of other users.

    The server process of a killed client ends only when it next writes to the client. Until then it
    may lock a table; a later load drops that table.
    """
    try:
        _drop(session, tables)
    except _NOT_DROPPABLE:
        for table in tables:
            with suppress(*_NOT_DROPPABLE):
                _drop(session, [table])


def drop_with_publication(session: Session, tables: Sequence[str]) -> None:
    """Drop staging tables in the transaction that publishes their rows.

    A commit that drops files waits for the disk even with `synchronous_commit = off`; dropping them
    in this transaction saves a second such commit. A later load drops the tables that are locked.
    """
    with suppress(*_NOT_DROPPABLE), session.transaction():
        session.execute("set local lock_timeout = '1s'")
        _drop_tables(session, tables)


def _drop(session: Session, tables: Sequence[str]) -> None:
    with session.transaction():
        session.execute("set local lock_timeout = '1s'; set local synchronous_commit = off")
        _drop_tables(session, tables)


def _drop_tables(session: Session, tables: Sequence[str]) -> None:
    if tables:
        names = sql.SQL(", ").join(sql.Identifier(STAGING, table) for table in tables)
        session.execute(sql.SQL("drop table if exists {}").format(names))


@dataclass(frozen=True)
class StagingTable:
    """One staging table.

    Attributes:
        name: In the namespace `staging`.
        month: First day of its month; None for a table without partitions.
        rows: Number of rows.
        is_partition: Whether it can be attached as the partition of its month.
        renames: For each index, its name now and its name in the partition.
    """

    name: str
    month: date | None
    rows: int
    is_partition: bool = False
    renames: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class StagedLoad:
    """Staged rows, to be audited and then published or discarded.

    Attributes:
        table: The target.
        days: The days to replace; a day without rows becomes empty.
        columns: Columns of the staging tables: the published table's, then new ones.
        parts: The staging tables.
        rows_by_day: Rows by day, without empty days; empty for a table without partitions.
        seconds: `copy` and `index` are summed over all sessions, `stage` is elapsed time.
        owner: The session whose end makes the staging tables orphans.
        deletes: Keys of rows to delete, if `parts` has changed rows only; None if it has all rows.
    """

    table: WarehouseTable
    days: frozenset[date]
    columns: tuple[PostgresColumn, ...]
    parts: tuple[StagingTable, ...]
    rows_by_day: Mapping[date, int] = field(repr=False)
    seconds: Mapping[str, float]
    owner: Session = field(repr=False, compare=False)
    deletes: StagingTable | None = None

    @property
    def rows(self) -> int:
        """Rows in all parts."""
        return sum(part.rows for part in self.parts)

    def relation(self, parts: Sequence[StagingTable] | None = None) -> sql.Composed:
        """A table expression of the staged rows of all parts, or of some, for an audit's `from`."""
        names = sql.SQL(", ").join(sql.Identifier(c.name) for c in self.columns)
        selects = [
            sql.SQL("select {} from {}").format(names, sql.Identifier(STAGING, part.name))
            for part in (self.parts if parts is None else parts)
        ]
        if not selects:
            nulls = [
                sql.SQL("null::{} as {}").format(sql.SQL(c.type), sql.Identifier(c.name))
                for c in self.columns
            ]
            selects = [sql.SQL("select {} limit 0").format(sql.SQL(", ").join(nulls))]
        return sql.SQL("({})").format(sql.SQL(" union all ").join(selects))

    def deletes_relation(self) -> sql.Composable:
        """The table of the keys to delete, for `from`."""
        return sql.Identifier(STAGING, self.deletes.name if self.deletes else "")

    @property
    def table_names(self) -> tuple[str, ...]:
        """Names of its staging tables."""
        deletes = (self.deletes,) if self.deletes else ()
        return tuple(part.name for part in (*self.parts, *deletes))

    def discard(self) -> None:
        """Drop the remaining staging tables and close the owner session."""
        if self.owner.closed:
            return
        try:
            drop_staged(self.owner, self.table_names)
        except psycopg.Error:
            # Without the owner the tables are orphans, which the next load drops.
            pass
        finally:
            self.owner.close()
