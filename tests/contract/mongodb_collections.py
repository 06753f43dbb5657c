"""A collection of a real server as a source, for tests of connectors."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from headrace.config.sources.mongodb_source import CollectionEntity, MongoSource
from headrace.sources.connections import Connection
from headrace.sources.mongodb.collection import Collection
from headrace.sources.tables.connector import TableConnector
from tests import mongodb_server, servers
from tests.contract.tables import COLUMNS, EXIST, Table


def require_mongodb() -> mongodb_server.MongoServer:
    """The server of this process; skips the test where there is none."""
    servers.require("mongodb", mongodb_server.missing())
    return servers.mongodb()


class MongoCollection(Table):
    """See Table; a database of its own."""

    product = "mongodb"

    def __init__(
        self,
        folder: Path,
        server: mongodb_server.MongoServer | None = None,
        **declared: Any,
    ) -> None:
        self.server = server or require_mongodb()
        self.url = self.server.url(f"t{uuid4().hex[:12]}")
        self.name = "orders"
        self.data = folder / "raw"
        self.files = {}
        self.stored = {}
        self.runs = 0
        self.partitions = EXIST
        self.entity = self.declare(**declared)
        self.documents = self.server.client[self.url.rpartition("/")[2].partition("?")[0]][
            self.name
        ]
        self.documents.database.create_collection(self.name)

    def declare(self, **changes: Any) -> Any:
        extract = {"mode": "full", "collection": self.name, "partition_by": "sold_on"}
        return collection_entity(
            {
                "name": "orders",
                "key": ["id"],
                "columns": COLUMNS,
                **changes,
                "extract": {**extract, **changes.get("extract", {})},
            }
        )

    @property
    def connector(self) -> TableConnector:
        return collection_connector(self.entity, self.url)

    def load(self, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        documents = [
            {
                name: as_instant(value) if isinstance(value, date) else value
                for name, value in zip(columns, row, strict=True)
            }
            for row in rows
        ]
        if documents:
            self.documents.insert_many(documents)


def collection_entity(document: dict[str, Any]) -> CollectionEntity:
    source = {"name": "shop", "connector": "mongodb", "connection": "shop"}
    return MongoSource.model_validate({**source, "entities": [document]}).entities[0]


def collection_connector(entity: CollectionEntity, url: str, **settings: Any) -> TableConnector:
    connection = Connection("shop", "SHOP_URL", lambda: url, **settings)
    return TableConnector("mongodb", entity, Collection(entity, connection))


def as_instant(day: date) -> datetime:
    """The midnight that a BSON date has for a day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
