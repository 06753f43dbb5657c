"""Indexes and primary keys: their names and their making.

Belongs here: one naming for every table, so that making one again is seen as such.
Elsewhere: which a table has (WarehouseTable), when they are made (staging, publishing).
"""

import hashlib
from collections.abc import Sequence

from psycopg import sql

from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import WarehouseTable

_LONGEST_NAME = 63  # bytes; Postgres cuts longer ones silently


def index_name(table: str, columns: Sequence[str]) -> str:
    """Name of an index, the same on every call; unique for its table."""
    name = f"{table}__{'_'.join(columns)}"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    return f"{table}__{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def key_name(table: str) -> str:
    """Name of the primary key's constraint and index."""
    return f"{table}__pk"


def ensure(session: Session, table: WarehouseTable, *, is_new: bool) -> bool:
    """Make what a published table lacks, its months included; a key only while it is new.

    Returns:
        Whether anything was made. Nothing is tried otherwise: CREATE INDEX IF NOT EXISTS locks
        the table and all its months before it looks.
    """
    if is_new and table.primary_key:
        add_key(session, table.identifier, key_name(table.name), table.primary_key)
    # Not from the view pg_indexes: a new session takes 5 ms to plan it.
    found = session.execute(
        "select c.relname::text from pg_index as i join pg_class as c on c.oid = i.indexrelid"
        " where i.indrelid = to_regclass(%s)",
        (table.identifier.as_string(),),
    ).fetchall()
    wanted = {index_name(table.name, columns): columns for columns in table.indexes}
    missing = {name: wanted[name] for name in wanted if (name,) not in found}
    for name, columns in missing.items():
        session.execute(
            sql.SQL("create index {} on {} ({})").format(
                sql.Identifier(name), table.identifier, _listed(columns)
            )
        )
    return bool(missing) or is_new


def add_key(session: Session, relation: sql.Identifier, name: str, columns: Sequence[str]) -> None:
    """Make the primary key; its name is also its index's."""
    session.execute(
        sql.SQL("alter table {} add constraint {} primary key ({})").format(
            relation, sql.Identifier(name), _listed(columns)
        )
    )


def index_staged(
    session: Session, table: WarehouseTable, staged: str, month_table: str
) -> tuple[tuple[str, str], ...]:
    """Give a staged month everything it needs to become a partition.

    Returns:
        (name now, name as a partition) of every index, the primary key's included.
    """
    relation = sql.Identifier("staging", staged)
    renames = []
    if table.primary_key:
        renames.append((f"{staged[:55]}_pk", key_name(month_table)))
        add_key(session, relation, renames[0][0], table.primary_key)
    for number, columns in enumerate(table.indexes):
        now = f"{staged[:55]}_{number}"
        session.execute(
            sql.SQL("create index {} on {} ({})").format(
                sql.Identifier(now), relation, _listed(columns)
            )
        )
        renames.append((now, index_name(month_table, columns)))
    return tuple(renames)


def _listed(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
