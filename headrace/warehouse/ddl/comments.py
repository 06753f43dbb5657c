"""Comments on columns: what a column means, where BI tools look for it."""

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
    """A table or view whose columns have meanings.

    Attributes:
        namespace: Postgres's schema.
        name: The table or view.
        columns: Column to meaning; columns that are not there are passed over.
    """

    namespace: str
    name: str
    columns: Mapping[str, str]

    @classmethod
    def of(cls, table: WarehouseTable) -> "ColumnComments":
        """A table by its schema."""
        meanings = {c.name: c.description for c in table.schema if c.description}
        return cls(table.namespace, table.name, meanings)


def apply_comments(connect: Connect, described: Iterable[ColumnComments]) -> int:
    """Set the comments that differ; what fails is logged, since rows are published without them.

    Returns:
        How many comments were set.
    """
    with connect() as session:
        session.execute(sql.SQL("set lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT)))
        return sum(_describe(session, one) for one in described)


def _describe(session: Session, one: ColumnComments) -> int:
    relation = sql.Identifier(one.namespace, one.name)
    found = session.execute(
        """
        select attname::text, coalesce(col_description(attrelid, attnum), '')
        from pg_attribute
        where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped
        """,
        (relation.as_string(),),
    ).fetchall()
    differing = [name for name, text in found if one.columns.get(name, text) != text]
    try:
        with session.transaction():
            for name in differing:
                column = sql.Identifier(one.namespace, one.name, name)
                meaning = sql.Literal(one.columns[name])
                session.execute(sql.SQL("comment on column {} is {}").format(column, meaning))
    except psycopg.Error as error:
        label = f"{one.namespace}.{one.name}"
        log.warning("comments_not_set", table=label, error=type(error).__name__)
        return 0
    return len(differing)
