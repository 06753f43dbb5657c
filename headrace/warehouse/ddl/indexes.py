"""Indexes and primary keys: their making."""

from collections.abc import Sequence

import structlog
from psycopg import sql

from headrace.warehouse.identifiers import index_name, key_name, longest_texts, staged_index_name
from headrace.warehouse.loading.staged_loads import StagedLoad
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import WarehouseTable

_TEXTS = ("string", "list<string>")

log = structlog.get_logger(__name__)


def drop_outgrown(session: Session, load: StagedLoad) -> None:
    """Drop indexes of the published table that a staged row is too long for.

    An index serves speed only: rows matter more. `ensure` makes it again once all rows fit.
    """
    table = load.table
    for columns in table.indexes:
        name = index_name(table.name, columns)
        if _is_outgrown(session, table, columns, load.relation()):
            index = sql.Identifier(table.namespace, name)
            session.execute(sql.SQL("drop index if exists {}").format(index))


def ensure(session: Session, load: StagedLoad, *, is_new: bool) -> bool:
    """Make what a published table lacks, its months included; a key only while it is new.

    An index that a row is too long for is left out.

    Returns:
        Whether anything was made. Nothing is tried otherwise: CREATE INDEX IF NOT EXISTS locks
        the table and all its months before it looks.
    """
    table = load.table
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
    made = is_new
    for name, columns in missing.items():
        # Months that are attached later are staged still.
        relations = (table.identifier, load.relation())
        if any(_is_outgrown(session, table, columns, relation) for relation in relations):
            log.warning("index_left_out", table=table.label, index=name)
            continue
        session.execute(
            sql.SQL("create index {} on {} ({})").format(
                sql.Identifier(name), table.identifier, _listed(columns)
            )
        )
        made = True
    return made


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
        renames.append((staged_index_name(staged), key_name(month_table)))
        add_key(session, relation, renames[0][0], table.primary_key)
    for number, columns in enumerate(table.indexes):
        if _is_outgrown(session, table, columns, relation):
            continue
        now = staged_index_name(staged, number)
        session.execute(
            sql.SQL("create index {} on {} ({})").format(
                sql.Identifier(now), relation, _listed(columns)
            )
        )
        renames.append((now, index_name(month_table, columns)))
    return tuple(renames)


def _is_outgrown(
    session: Session, table: WarehouseTable, columns: Sequence[str], relation: sql.Composable
) -> bool:
    """Whether a row has texts in these columns that are too long for an index together."""
    texts = [name for name in columns if table.schema.column(name).type in _TEXTS]
    if not texts:
        return False
    # The length of a long text is known without reading it.
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
