"""Comments on columns, which BI tools show as descriptions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psycopg
import structlog
from psycopg import sql

from headrace.warehouse.sessions import Connect, Session
from headrace.warehouse.tables import WarehouseTable

_LOCK_TIMEOUT = "5s"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ColumnComments:
    """The comments of the columns of a table or view.

    Attributes:
        namespace: Postgres's schema.
        name: The table or view.
        columns: Comment by column; columns that do not exist are ignored.
    """

    namespace: str
    name: str
    columns: Mapping[str, str]

    @classmethod
    def of(cls, table: WarehouseTable) -> "ColumnComments":
        """The descriptions of a table's schema."""
        descriptions = {c.name: c.description for c in table.schema if c.description}
        return cls(table.namespace, table.name, descriptions)


def apply_comments(connect: Connect, tables: Iterable[ColumnComments]) -> int:
    """Set the comments that differ; an error is logged only, because the rows are published.

    Returns:
        Number of comments set.
    """
    with connect() as session:
        session.execute(sql.SQL("set lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT)))
        return sum(_apply(session, table) for table in tables)


def _apply(session: Session, table: ColumnComments) -> int:
    relation = sql.Identifier(table.namespace, table.name)
    found = session.execute(
        """
        select attname::text, coalesce(col_description(attrelid, attnum), '')
        from pg_attribute
        where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped
        """,
        (relation.as_string(),),
    ).fetchall()
    differing = [name for name, text in found if table.columns.get(name, text) != text]
    try:
        with session.transaction():
            for name in differing:
                column = sql.Identifier(table.namespace, table.name, name)
                comment = sql.Literal(table.columns[name])
                session.execute(sql.SQL("comment on column {} is {}").format(column, comment))
    except psycopg.Error as error:
        label = f"{table.namespace}.{table.name}"
        log.warning("comments_not_set", table=label, error=type(error).__name__)
        return 0
    return len(differing)
