"""A table of a real MariaDB as a source, for tests of connectors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from headrace.config.sources.table_source import TableEntity
from headrace.sources.connections import Connection
from headrace.sources.mysql.database import MysqlRelation
from headrace.sources.tables.connector import TableConnector
from tests import mariadb_server, servers
from tests.contract.tables import EXIST, Table

_CREATE = "create table {} (id bigint, name text, amount int, sold_on date)"


def require_mariadb() -> mariadb_server.MariaDB:
    """The server of this process; skips the test where MariaDB is not installed."""
    servers.require("mariadb", mariadb_server.missing())
    return servers.mariadb()


class MysqlTable(Table):
    """See Table; a database of its own."""

    product = "mysql"
    instant = "timestamp(6) null"
    undated = "0000-00-00"

    def __init__(
        self,
        folder: Path,
        create: str = _CREATE,
        server: mariadb_server.MariaDB | None = None,
        **declared: Any,
    ) -> None:
        self.server = server or require_mariadb()
        self.url = self.server.url()
        self.schema = f"t{uuid4().hex[:12]}"
        self.name = f"{self.schema}.orders"
        self.data = folder / "raw"
        self.files = {}
        self.stored = {}
        self.runs = 0
        self.partitions = EXIST
        self.write(f"create database {self.schema} character set utf8mb4")
        self.write(create.format(self.name))
        self.entity = self.declare(**declared)

    @property
    def connector(self) -> TableConnector:
        return mysql_connector_of(self.entity, self.url)

    def retype(self, column: str, kind: str) -> None:
        self.write(f"alter table {{table}} modify {column} {kind}")

    @contextmanager
    def open(self) -> Iterator[Any]:
        with self.server.connect() as session:
            session.begin()
            with session.cursor() as cursor:
                yield cursor
            session.commit()

    def load(self, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        places = ", ".join(["%s"] * len(columns))
        into = f"insert into {self.name} ({', '.join(columns)}) values ({places})"
        with self.server.connect() as session, session.cursor() as cursor:
            cursor.executemany(into, rows)

    @contextmanager
    def transactions(self) -> Iterator[Any]:
        with self.server.connect() as session:
            session.autocommit(False)  # noqa: FBT003
            # Rows of others are not locked by the gaps before them.
            session.cursor().execute("set session transaction isolation level read committed")
            yield session

    def write(self, statement: str, *values: Any) -> None:
        self.fetch(statement, *values)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return self.fetch(statement)

    def fetch(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.server.connect() as session, session.cursor() as cursor:
            cursor.execute(statement.replace("{table}", self.name), values or None)
            return [*cursor.fetchall()]


def mysql_connector_of(entity: TableEntity, url: str, **settings: Any) -> TableConnector:
    connection = Connection("shop", "SHOP_URL", lambda: url, **settings)
    return TableConnector("mysql", entity, MysqlRelation(entity, connection))
