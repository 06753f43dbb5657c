"""Staged loads: their staging tables, owned by a session, to be published or discarded."""

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
_NOT_NOW = (psycopg.errors.LockNotAvailable, psycopg.errors.InsufficientPrivilege)


def claim_load(session: Session) -> str:
    """A new load id that counts as alive as long as `session` is open."""
    load_id = secrets.token_hex(_ID_BYTES)
    # The owner waits while others copy, for hours if need be. For ever would be too long: in a
    # process that stays, a step that died may keep it open, and with it its tables.
    session.execute("set idle_session_timeout = '1d'")
    session.execute("select pg_advisory_lock(%s)", (advisory_key("load", load_id),))
    ensure_namespace(session, STAGING)
    return load_id


def drop_leftovers(session: Session) -> None:
    """Drop the staging tables of loads whose owner is gone."""
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
    """Drop staging tables, but for those in use and those of another user's.

    A killed client's server process notices at its next word to the client: until then it may
    still hold a table, and a later load drops that one.
    """
    try:
        _drop(session, tables)
    except _NOT_NOW:
        for table in tables:
            with suppress(*_NOT_NOW):
                _drop(session, [table])


def drop_with_publication(session: Session, tables: Sequence[str]) -> None:
    """Drop staging tables in the transaction that publishes their rows.

    A commit that drops files waits for the disk, whatever is set: so there is one, and not two.
    Tables that somebody still holds are left to a later load.
    """
    with suppress(*_NOT_NOW), session.transaction():
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
        month: First day of the month whose rows it has; None for a table without partitions.
        rows: Rows in it.
        is_partition: Whether it can become the month's partition as it is.
        renames: Names of its indexes, now and then.
    """

    name: str
    month: date | None
    rows: int
    is_partition: bool = False
    renames: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class StagedLoad:
    """Rows that wait to be judged and published, or discarded.

    Attributes:
        table: Where they go.
        days: The days they replace; a day without rows becomes empty.
        columns: Columns of the staging tables: the published table's, then new ones.
        parts: The staging tables.
        rows_by_day: Rows of each day that has any; empty for a table without partitions.
        seconds: Time spent: `copy` and `index` summed over both sessions, `stage` by the clock.
        owner: The session that keeps the staging tables from being taken for leftovers.
        gone: Keys of rows that went, where `parts` are changes; None where they are all rows.
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
        """Staged rows, as a table expression for an audit's `from`: of all parts, or of some."""
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
        """The keys that went, as a table for `from`."""
        return sql.Identifier(STAGING, self.deletes.name if self.deletes else "")

    @property
    def table_names(self) -> tuple[str, ...]:
        """Its staging tables."""
        gone = (self.deletes,) if self.deletes else ()
        return tuple(part.name for part in (*self.parts, *gone))

    def discard(self) -> None:
        """Drop the staging tables that are left, and close the session that owned them."""
        if self.owner.closed:
            return
        try:
            drop_staged(self.owner, self.table_names)
        except psycopg.Error:
            # The owner is lost: the tables are leftovers now, and the next load drops them.
            pass
        finally:
            self.owner.close()
