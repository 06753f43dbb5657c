"""Foreign keys, declared NOT ENFORCED so that BI tools know how to join tables."""

from dataclasses import dataclass

from psycopg import sql

from headrace.warehouse.identifiers import foreign_key_name
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import Reference, WarehouseTable


@dataclass(frozen=True)
class ReferencingColumn:
    """A column of another table with a foreign key to this one."""

    table: sql.Identifier
    column: str


def declare(session: Session, table: WarehouseTable) -> None:
    """Declare the missing foreign keys of a table and its months.

    A foreign key is skipped until the referenced table exists with that primary key. A declaration
    does not scan the table, and does not block readers.
    """
    existing = session.execute(
        "select conname::text from pg_constraint where conrelid = %s::regclass and contype = 'f'",
        (_quoted(table.namespace, table.name),),
    ).fetchall()
    missing = [
        each
        for each in table.references
        if (foreign_key_name(table.name, each.column),) not in existing
    ]
    for reference in missing:
        if not _is_key(session, table.namespace, reference):
            continue
        session.execute(
            sql.SQL(
                "alter table {} add constraint {} foreign key ({}) references {} ({}) not enforced"
            ).format(
                table.identifier,
                sql.Identifier(foreign_key_name(table.name, reference.column)),
                sql.Identifier(reference.column),
                sql.Identifier(table.namespace, reference.table),
                sql.Identifier(reference.key),
            )
        )


def referencing_columns(session: Session, table: WarehouseTable) -> list[ReferencingColumn]:
    """The foreign keys that reference a table; of a partitioned table once, not by partition."""
    found = session.execute(
        """
        select n.nspname::text, c.relname::text, a.attname::text
        from pg_constraint as f
        join pg_class as c on c.oid = f.conrelid
        join pg_namespace as n on n.oid = c.relnamespace
        join pg_attribute as a on a.attrelid = f.conrelid and a.attnum = f.conkey[1]
        where f.confrelid = %s::regclass and f.contype = 'f' and f.conparentid = 0
            and cardinality(f.conkey) = 1
        order by 1, 2, 3
        """,
        (_quoted(table.namespace, table.name),),
    ).fetchall()
    return [ReferencingColumn(sql.Identifier(n, name), column) for n, name, column in found]


def _is_key(session: Session, namespace: str, reference: Reference) -> bool:
    row = session.execute(
        """
        select true
        from pg_constraint as k
        join pg_attribute as a on a.attrelid = k.conrelid and a.attnum = k.conkey[1]
        where k.conrelid = to_regclass(%s) and k.contype = 'p' and cardinality(k.conkey) = 1
            and a.attname = %s
        """,
        (_quoted(namespace, reference.table), reference.key),
    ).fetchone()
    return row is not None


def _quoted(namespace: str, name: str) -> str:
    """The quoted name, as to_regclass expects it."""
    return sql.Identifier(namespace, name).as_string()
