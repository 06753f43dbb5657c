"""A table of a real database as a source, and raw as a list of files, for tests of connectors."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from headrace.config.settings import PartitionSettings
from headrace.config.sources.table_source import DatabaseSource, TableEntity
from headrace.raw.capture import CapturedWindow, capture
from headrace.raw.manifest import CaptureRecord, captured_versions, current_files
from headrace.raw.writer import DataFolder
from headrace.sources.base import CaptureRun, CaptureState, Connector
from headrace.sources.connections import Connection
from headrace.sources.postgres.database import PostgresRelation
from headrace.sources.tables.connector import TableConnector
from headrace.staged import StagedFile
from tests import servers

DAY, NEXT = date(2017, 1, 1), date(2017, 1, 2)
EXIST = PartitionSettings(start=DAY)
COLUMNS = [
    {"name": "id", "type": "bigint"},
    {"name": "name", "type": "string"},
    {"name": "amount", "type": "int"},
    {"name": "sold_on", "type": "date"},
]
_CREATE = "create table {} (id bigint, name text, amount int, sold_on date)"


class Table:
    """A table in a namespace of its own, and what raw holds of it.

    Attributes:
        product: Its connector.
        instant: The database's type of an instant.
        undated: A date of the database that is no day.
    """

    product = "postgres"
    instant = "timestamptz"
    undated = "infinity"

    def __init__(self, folder: Path, create: str = _CREATE, **declared: Any) -> None:
        self.url = servers.postgres().uri("warehouse")
        self.name = f"t{uuid4().hex[:12]}.orders"
        self.data = folder / "raw"
        self.files: dict[date, list[StagedFile]] = {}
        self.stored: Mapping[str, str] = {}
        self.runs = 0
        self.partitions = EXIST
        self.write(f"create schema {self.name.partition('.')[0]}")
        self.write(create.format(self.name))
        self.entity = self.declare(**declared)

    def declare(self, **changes: Any) -> Any:
        """An entity of the product's kind of source."""
        extract = {"mode": "full", "table": self.name, "partition_by": "sold_on"}
        document = {
            "name": "orders",
            "key": ["id"],
            "columns": COLUMNS,
            **changes,
            "extract": {**extract, **changes.get("extract", {})},
        }
        source = {"name": "shop", "connector": self.product, "connection": "shop"}
        return DatabaseSource.model_validate({**source, "entities": [document]}).entities[0]

    @property
    def connector(self) -> TableConnector:
        return connector_of(self.entity, self.url)

    def write(self, statement: str, *values: Any) -> None:
        with psycopg.connect(self.url, autocommit=True) as session:
            session.execute(statement.replace("{table}", self.name), values or None)

    def retype(self, column: str, kind: str) -> None:
        self.write(f"alter table {{table}} alter {column} type {kind}")

    @contextmanager
    def open(self) -> Iterator[Any]:
        """A cursor of a transaction that is open, and commits in the end."""
        with psycopg.connect(self.url) as session, session.cursor() as cursor:
            yield cursor

    def load(self, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        into = f"copy {self.name} ({', '.join(columns)}) from stdin"
        with psycopg.connect(self.url) as session, session.cursor().copy(into) as copy:
            for row in rows:
                copy.write_row(row)

    @contextmanager
    def transactions(self) -> Iterator[Any]:
        """A session that commits when it is told to."""
        with psycopg.connect(self.url) as session:
            yield session

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as session:
            return session.execute(statement.replace("{table}", self.name)).fetchall()

    def run(self) -> CaptureRun:
        self.runs += 1
        return CaptureRun("shop.orders", f"batch-{self.runs}", datetime.now(UTC), self.partitions)

    def state(self) -> CaptureState:
        held = {day: captured_versions(files) for day, files in self.files.items()}
        return CaptureState(held, not held, self.stored)

    def folder(self) -> DataFolder:
        return DataFolder(fs.LocalFileSystem(), str(self.data), f"file://{self.data}")

    def capture(
        self, *days: date, publish: bool = True, connector: Connector | None = None
    ) -> CapturedWindow:
        run, reader = self.run(), connector or self.connector
        window = capture(reader, self.entity, self.folder(), self.state(), days or (DAY,), run)
        if publish:
            self.publish(window, run)
        return window

    def publish(self, window: CapturedWindow, run: CaptureRun) -> None:
        """What the commit does: files and state, or neither."""
        record = CaptureRecord.load(window.record(self.connector, run).dump())
        if window.staged:
            self.stored = record.state if record else {}
        for day, staged in window.staged.items():
            self.files.setdefault(day, []).extend(staged.files)

    def pending(self) -> set[date]:
        return {*self.connector.pending_partitions(self.state(), self.run())}

    def rows(self, *days: date) -> list[dict[str, Any]]:
        """Rows that count, of some days or of all."""
        files = [f for day in days or sorted(self.files) for f in current_files(self.files[day])]
        tables = [_read(file) for file in files]
        return pa.concat_tables(tables).to_pylist() if tables else []

    def latest(self) -> dict[Any, dict[str, Any]]:
        """By key the row that counts: that of the last capture."""
        place = ("_delivery_order", "_source_position")
        ordered = sorted(self.rows(), key=lambda row: tuple(row[name] for name in place))
        return {tuple(row[name] for name in self.entity.key): row for row in ordered}


def connector_of(entity: TableEntity, url: str, **settings: Any) -> TableConnector:
    connection = Connection("shop", "SHOP_URL", lambda: url, **settings)
    return TableConnector("postgres", entity, PostgresRelation(entity, connection))


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def _read(file: StagedFile) -> pa.Table:
    with pq.ParquetFile(file.path.removeprefix("file://")) as parquet:
        return parquet.read()
