"""Creates indexes and primary keys, on published and staging tables."""

from collections.abc import Sequence

import structlog
from psycopg import sql

from headrace.warehouse.identifiers import index_name, key_name, longest_texts, staged_index_name
from headrace.warehouse.loading.staged_loads import STAGING, StagedLoad
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import WarehouseTable

_TEXTS = ("string", "list<string>")

log = structlog.get_logger(__name__)


def drop_exceeded(session: Session, load: StagedLoad) -> None:
    """Drop the indexes of the published table that cannot hold the key of some staged row.

    Otherwise the row could not be inserted. `ensure` creates the index again when all keys fit.
    """
    table = load.table
    for columns in table.indexes:
        name = index_name(table.name, columns)
        if _is_exceeded(session, table, columns, load.relation()):
            index = sql.Identifier(table.namespace, name)
            session.execute(sql.SQL("drop index if exists {}").format(index))


def ensure(session: Session, load: StagedLoad, *, is_new: bool) -> None:
    """Create the missing indexes of a published table and its months.

    A new table also gets its primary key. An index that cannot hold the key of some row is skipped,
    with a warning.
    """
    table = load.table
    if is_new and table.primary_key:
        add_key(session, table.identifier, key_name(table.name), table.primary_key)
    # Looked up, because CREATE INDEX IF NOT EXISTS locks the table and all its months before it
    # checks. Not in the view pg_indexes, which takes a new session 5 ms to plan.
    found = session.execute(
        "select c.relname::text from pg_index as i join pg_class as c on c.oid = i.indexrelid"
        " where i.indrelid = to_regclass(%s)",
        (table.identifier.as_string(),),
    ).fetchall()
    declared = {index_name(table.name, columns): columns for columns in table.indexes}
    missing = {name: declared[name] for name in declared if (name,) not in found}
    for name, columns in missing.items():
        # New months are attached later in the transaction: their rows are still staged.
        relations = (table.identifier, load.relation())
        if any(_is_exceeded(session, table, columns, relation) for relation in relations):
            log.warning("index_skipped", table=table.label, index=name)
            continue
        session.execute(
            sql.SQL("create index {} on {} ({})").format(
                sql.Identifier(name), table.identifier, _listed(columns)
            )
        )


def add_key(session: Session, relation: sql.Identifier, name: str, columns: Sequence[str]) -> None:
    """Add the primary key; its index has the same name."""
    session.execute(
        sql.SQL("alter table {} add constraint {} primary key ({})").format(
            relation, sql.Identifier(name), _listed(columns)
        )
    )


def index_staged(
    session: Session, table: WarehouseTable, staged: str, month_table: str
) -> tuple[tuple[str, str], ...]:
    """Create the primary key and the indexes that a staged month needs to be attached.

    Returns:
        For each index, its name now and its name in the partition.
    """
    relation = sql.Identifier(STAGING, staged)
    renames = []
    if table.primary_key:
        renames.append((staged_index_name(staged), key_name(month_table)))
        add_key(session, relation, renames[0][0], table.primary_key)
    for number, columns in enumerate(table.indexes):
        if _is_exceeded(session, table, columns, relation):
            continue
        name = staged_index_name(staged, number)
        session.execute(
            sql.SQL("create index {} on {} ({})").format(
                sql.Identifier(name), relation, _listed(columns)
            )
        )
        renames.append((name, index_name(month_table, columns)))
    return tuple(renames)


def _is_exceeded(
    session: Session, table: WarehouseTable, columns: Sequence[str], relation: sql.Composable
) -> bool:
    """Whether the texts of these columns are too long for an index entry in some row."""
    texts = [name for name in columns if table.schema.column(name).type in _TEXTS]
    if not texts:
        return False
    # octet_length does not read (detoast) long texts.
    lengths = [
        sql.SQL("coalesce(octet_length({}::text), 0)").format(sql.Identifier(name))
        for name in texts
    ]
    query = sql.SQL("select exists (select from {} as r where {} > {})").format(
        relation,
        sql.SQL(" + ").join(lengths),
        sql.Literal(longest_texts(len(columns) - len(texts))),
    )
    row = session.execute(query).fetchone()
    return bool(row and row[0])


def _listed(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
