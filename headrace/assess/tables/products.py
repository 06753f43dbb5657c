"""What differs between databases when their tables are assessed: catalog, relations, samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from psycopg import sql

from headrace.config.sources.table_source import TableEntity
from headrace.errors import ConfigError
from headrace.sources.connections import Connection
from headrace.sources.mysql import catalog as mysql_catalog
from headrace.sources.mysql import session as mysql_session
from headrace.sources.mysql.database import MysqlRelation
from headrace.sources.mysql.statements import quoted
from headrace.sources.postgres import catalog as postgres_catalog
from headrace.sources.postgres import session as postgres_session
from headrace.sources.postgres.database import PostgresRelation
from headrace.sources.tables.database import Database
from headrace.sources.tables.relations import FoundRelation

# Of a table of which no row count is known, so many bytes are read.
_SAMPLED_BYTES = 2**25
# Pages are chosen at random: some more rows than wanted, so that hardly a sample has fewer.
_MARGIN = 1.3


@dataclass(frozen=True)
class Product:
    """A kind of database.

    Attributes:
        connector: Its name in YAML.
        name: Its name.
        discover: Its relations; of MySQL those of the URL's database.
        relation: A relation as the connector reads it.
        sample: A query of some rows of a relation: columns, and the most rows.
    """

    connector: str
    name: str
    discover: Callable[[Connection], list[FoundRelation]]
    relation: Callable[[TableEntity, Connection], Database]
    sample: Callable[[FoundRelation, Sequence[str], int], str]


def product_of(connection: Connection) -> Product:
    """The product that a connection's URL names.

    Raises:
        ConfigError: The URL's variable is not set, or the URL names none.
    """
    scheme = connection.url().partition("://")[0].lower()
    for product, schemes in _PRODUCTS.items():
        if scheme in schemes:
            return product
    raise ConfigError(
        f"connection '{connection.name}': the URL in {connection.variable} begins with neither "
        "postgresql:// nor mysql:// nor mongodb://",
        fix="write postgresql://user:password@host:5432/database, mysql://… or mongodb://…",
    )


def _discover_postgres(connection: Connection) -> list[FoundRelation]:
    session = postgres_session.connect(connection)
    try:
        return postgres_catalog.discover(session)
    finally:
        session.close()


def _discover_mysql(connection: Connection) -> list[FoundRelation]:
    session = mysql_session.connect(connection)
    try:
        ((database,),) = mysql_session.fetch(session, "select database()")
        return mysql_catalog.discover(session, database)
    finally:
        mysql_session.close(session)


def _postgres_sample(found: FoundRelation, columns: Sequence[str], rows: int) -> str:
    """Rows of pages chosen at random, the same at each call; of a small table or a view the first.

    Pages of a large table are read as far as they are chosen, and no index is needed.
    """
    share = _share(found, rows)
    pages: sql.Composable = sql.SQL("")
    if found.has_pages and share < 1:
        pages = sql.SQL(" tablesample system ({}) repeatable (1)").format(
            sql.Literal(round(100 * share, 4))
        )
    return (
        sql.SQL("select {} from {}{} limit {}")
        .format(
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.Identifier(*found.place),
            pages,
            sql.Literal(rows),
        )
        .as_string(None)
    )


def _share(found: FoundRelation, rows: int) -> float:
    """Which share of the pages has about so many rows."""
    if found.rows:
        return _MARGIN * rows / found.rows
    return _SAMPLED_BYTES / found.size_bytes if found.size_bytes else 1.0


def _mysql_sample(found: FoundRelation, columns: Sequence[str], rows: int) -> str:
    """The newest rows by the key, or the first ones where there is none or few rows."""
    names = ", ".join(map(quoted, columns))
    table = ".".join(map(quoted, found.place))
    order = ""
    if found.key and (found.rows or 0) > rows:
        order = f" order by {', '.join(f'{quoted(name)} desc' for name in found.key)}"
    return f"select {names} from {table}{order} limit {rows}"  # noqa: S608


_PRODUCTS = {
    Product("postgres", "PostgreSQL", _discover_postgres, PostgresRelation, _postgres_sample): (
        "postgresql",
        "postgres",
    ),
    Product("mysql", "MySQL", _discover_mysql, MysqlRelation, _mysql_sample): ("mysql", "mariadb"),
}
