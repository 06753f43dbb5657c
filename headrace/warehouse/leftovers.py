"""Staging tables and their owners, dead or alive.

Belongs here: claiming the id of a load, dropping what killed loads left.
Elsewhere: the tables themselves (headrace.warehouse.staging).

Staging tables live in the namespace `staging` and begin with the id of their load. The session
that stages holds an advisory lock of that id: where the lock is free, the owner is dead.
"""

import secrets
from collections.abc import Sequence
from contextlib import suppress

import psycopg
from psycopg import sql

from headrace.warehouse.sessions import Session, advisory_key, ensure_namespace

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
