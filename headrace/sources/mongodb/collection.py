"""A collection of MongoDB as the connector of tables reads it."""

import math
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo

import bson
import pyarrow as pa
import pyarrow.compute as pc
from bson.datetime_ms import DatetimeMS
from pymongo.errors import ConfigurationError, OperationFailure

from headrace.config.loader import Project
from headrace.config.sources.mongodb_source import CollectionEntity, MongoSource
from headrace.config.sources.table_source import CursorExtract
from headrace.errors import ConfigError, HeadraceError, SourceRejectedError
from headrace.sources.connections import Connection, connection_of, retried
from headrace.sources.documents.json_paths import walk
from headrace.sources.documents.rows import RowReader, RowShape, column_path
from headrace.sources.mongodb.queries import (
    filter_of,
    projection_of,
    zone_of,
)
from headrace.sources.mongodb.session import CODEC, Client, client_of, map_errors
from headrace.sources.mongodb.values import instant_of, rows_of
from headrace.sources.tables.connector import TableConnector
from headrace.sources.tables.database import HeldSnapshot, Horizon, Pending, Position, Selection
from headrace.sources.tables.watermark import BEFORE_ALL

# Documents that are decoded at once; one may be longer. In Python they take ten times as much.
_CHUNK_BYTES = 2**20
# Documents of one answer, which the server bounds by 16 MiB.
_BATCH_DOCUMENTS = 10_000


def mongodb_connector(project: Project, name: str) -> TableConnector:
    """The connector of the entity `name` (`source.entity`) of a project."""
    source, entity = project.entities()[name]
    if not isinstance(source, MongoSource) or not isinstance(entity, CollectionEntity):
        raise TypeError(f"{name} is no collection")
    collection = Collection(entity, connection_of(project, source.connection))
    return TableConnector("mongodb", entity, collection)


@dataclass(frozen=True)
class Collection:
    """See Database."""

    entity: CollectionEntity
    connection: Connection
    batch_documents: int = field(default=_BATCH_DOCUMENTS, compare=False)

    @property
    def label(self) -> str:
        """See Database."""
        extract = self.entity.extract
        return (
            f"{extract.database}.{extract.collection}" if extract.database else extract.collection
        )

    def check(self) -> None:
        """See Database. Documents have no declared columns: only the collection is looked for."""
        retried(self._require)

    def columns(self) -> Mapping[str, str]:
        """See Database. None: each document has its own fields."""
        self._require()
        return {}

    def faults(self, found: Mapping[str, str]) -> Iterator[tuple[str, HeadraceError]]:  # noqa: ARG002
        """See Database."""
        yield from ()

    def relations(self) -> list[str]:
        """See Database."""
        with self._client() as client:
            names: list[str] = self._database(client).list_collection_names(
                authorizedCollections=True
            )
        return names

    @contextmanager
    def look(self) -> Iterator["CollectionSnapshot"]:
        """See Database."""
        with self._client() as client:
            yield CollectionSnapshot(self, client, _clock(client))

    @property
    def sessions(self) -> int:
        """See Database."""
        return self.connection.sessions

    def hold(self) -> HeldSnapshot:
        """See Database. A snapshot of MongoDB is too short for a long read."""
        return HeldSnapshot(None, lambda: None)

    def read(self, selection: Selection) -> Iterator[pa.RecordBatch]:
        """See Database."""
        entity, extract = self.entity, self.entity.extract
        columns = tuple(entity.column(name) for name in selection.columns)
        is_whole = len(columns) == len(entity.columns)
        extra = extract.extra_columns if is_whole else "ignore"
        shape = RowShape(columns, extract.children, extra, ("_id", *extract.ignored), "document")
        types = {column.name: entity.captured_type(column) for column in columns}
        reader, kept = RowReader(shape, self.label), [*entity.extract.time_columns.values()]
        is_open = extra == "fail" and extract.children is None
        fields = None if is_open else projection_of(entity, selection.columns)
        with self._client() as client:
            for documents in self.documents(client, selection, fields):
                position = reader.count
                values = reader.read(self.label, documents)
                if values:
                    yield rows_of(values, types, position, kept)
            if not reader.count:
                # MongoDB reads a collection that was dropped as an empty one.
                self._require_collection(client)
        if is_whole and selection.since is None:
            reader.check_columns()
            reader.check_children(self.label)

    def indexed_paths(self, client: Client) -> set[str]:
        """Paths that begin an index; none of a view, or where the user may not see them."""
        try:
            found = self._collection(client).index_information()
        except OperationFailure:
            return set()
        return {str(index["key"][0][0]) for index in found.values()}

    def documents(
        self, client: Client, selection: Selection, fields: Mapping[str, int] | None
    ) -> Iterator[list[dict[str, Any]]]:
        """Documents of a selection, some at a time."""
        for chunk in self.chunks(client, selection, fields):
            yield bson.decode_all(chunk, CODEC)

    def chunks(
        self, client: Client, selection: Selection, fields: Mapping[str, int] | None
    ) -> Iterator[bytes]:
        """BSON of documents of a selection, some at a time."""
        cursor = self._collection(client).find_raw_batches(
            filter_of(self.entity, selection),
            fields,
            # The index of `_id` gives the order, or the server sorts on its disk.
            sort=[("_id", 1)] if selection.is_sorted else None,
            allow_disk_use=True if selection.is_sorted and selection.days else None,
            batch_size=self.batch_documents,
            max_time_ms=int(self.connection.statement_timeout.total_seconds() * 1000),
        )
        with closing(cursor):
            for batch in cursor:
                yield from _chunks(batch)

    @contextmanager
    def _client(self) -> Iterator[Client]:
        with (
            client_of(self.connection) as client,
            map_errors(self.label, client, self.connection),
        ):
            yield client

    def _require(self) -> None:
        with self._client() as client:
            self._require_collection(client)

    def _require_collection(self, client: Client) -> None:
        """Check that the collection is there: one that is not reads as an empty one."""
        extract = self.entity.extract
        found = self._database(client).list_collection_names(
            filter={"name": extract.collection}, authorizedCollections=True
        )
        if extract.collection not in found:
            raise SourceRejectedError(
                f"{self.label}: there is no such collection, or the user may not read it",
                fix="correct extract.collection and the database of the URL, or grant the role "
                "read on the database to the connection's user",
            )

    def _database(self, client: Client) -> Any:
        name = self.entity.extract.database
        try:
            return client[name] if name else client.get_default_database()
        except ConfigurationError:
            raise ConfigError(
                f"connection '{self.connection.name}': the URL in {self.connection.variable} names "
                "no database",
                fix="add it (mongodb://host/database), or declare extract.database",
            ) from None

    def _collection(self, client: Client) -> Any:
        return self._database(client)[self.entity.extract.collection]


@dataclass(frozen=True)
class CollectionSnapshot:
    """See Snapshot. A look is no snapshot of the server: what it misses, the overlap covers."""

    collection: Collection
    client: Client
    now: datetime

    def horizon(self) -> Horizon:
        """See Snapshot.

        MongoDB does not tell which writes are still to come. The declared overlap bounds them: of a
        time it is subtracted from the cursor, of an integer it is the age of the oldest write.
        """
        entity = self.collection.entity
        extract = entity.extract
        if not isinstance(extract, CursorExtract):
            return Horizon(self.now)
        is_time = extract.is_time(entity.captured_type(entity.column(extract.cursor)))
        return Horizon(self.now, None if is_time else self.now - extract.overlap_time)

    def later(self) -> datetime:
        """See Snapshot."""
        return _clock(self.client)

    def is_indexed(self, column: str) -> bool:
        """See Snapshot."""
        paths = self.collection.entity.column(column).source_names
        return not self.collection.indexed_paths(self.client).isdisjoint(paths)

    def counted(self, selection: Selection) -> Mapping[date | None, Pending]:
        """See Snapshot. Of each document only one field is read."""
        entity = self.collection.entity
        column = str(entity.extract.partition_by)
        zone, counts = zone_of(entity, column), Counter[date | None]()
        fields = projection_of(entity, (column,))
        for documents in self.collection.documents(self.client, selection, fields):
            counts.update(_days(_values(entity, column, documents), zone))
        return {day: Pending(count, None, f"{count}") for day, count in counts.items()}

    def pending(self, since: Position | None) -> Mapping[date | None, Pending]:
        """See Snapshot.

        Documents are counted here: the server's aggregation has no digest of documents. Of the
        first capture only two fields are read, and its digests never repeat.
        """
        entity = self.collection.entity
        extract = entity.extract
        if not isinstance(extract, CursorExtract):
            raise TypeError("only a cursor tells pending documents")
        columns = (str(extract.partition_by), extract.cursor)
        fields = projection_of(entity, columns) if since is None else None
        selection = Selection(columns, since=since)
        zone = zone_of(entity, columns[0])
        salt = secrets.token_bytes(8) if since is None else b""
        groups: dict[date | None, _Group] = {}
        for chunk in self.collection.chunks(self.client, selection, fields):
            documents = bson.decode_all(chunk, CODEC)
            texts = _split(chunk)
            days = _days(_values(entity, columns[0], documents), zone)
            cursors = map(position_of, _values(entity, columns[1], documents))
            for day, cursor, text in zip(days, cursors, texts, strict=True):
                groups.setdefault(day, _Group()).add(cursor, text)
        return {day: group.pending(salt) for day, group in groups.items()}


@dataclass
class _Group:
    """Documents of one day."""

    count: int = 0
    first: Any = None
    last: int | None = None
    digest: int = 0

    def add(self, cursor: Position | None, text: bytes) -> None:
        self.count += 1
        # A sum does not depend on the order, in which documents may come in any way.
        self.digest += int.from_bytes(blake2b(text, digest_size=8).digest(), "big")
        if cursor is None:
            return
        self.first = cursor if self.first is None else min(self.first, cursor)
        if isinstance(cursor, int):
            self.last = cursor if self.last is None else max(self.last, cursor)

    def pending(self, salt: bytes) -> Pending:
        text = f"{self.count} {self.digest % 2**64}".encode()
        return Pending(
            self.count, self.first, blake2b(text + salt, digest_size=4).hexdigest(), self.last
        )


def _clock(client: Client) -> datetime:
    """Up to when the server has all that a majority has acknowledged, by its own clock."""
    found = client.admin.command("hello")
    return horizon_of(found)


def horizon_of(hello: Mapping[str, Any]) -> datetime:
    """The moment that a server knows: the present, or that of a replica's last write."""
    now: datetime = hello["localTime"]
    last = hello.get("lastWrite", {}).get("majorityWriteDate")
    return min(now, last or now).replace(tzinfo=UTC)


def _chunks(batch: bytes) -> Iterator[bytes]:
    """Parts of whole documents, of about _CHUNK_BYTES."""
    if len(batch) <= _CHUNK_BYTES:
        yield batch
        return
    start = at = 0
    while at < len(batch):
        at += int.from_bytes(batch[at : at + 4], "little")
        if at - start >= _CHUNK_BYTES or at >= len(batch):
            yield batch[start:at]
            start = at


def _split(chunk: bytes) -> list[bytes]:
    """The documents of a chunk."""
    found, at = [], 0
    while at < len(chunk):
        end = at + int.from_bytes(chunk[at : at + 4], "little")
        found.append(chunk[at:end])
        at = end
    return found


def _values(
    entity: CollectionEntity, column: str, documents: Sequence[dict[str, Any]]
) -> list[Any]:
    steps = column_path(entity.column(column).source_name).steps
    return [walk(document, steps) for document in documents]


def position_of(value: Any) -> Position | None:
    """A cursor's value as a position; None: documents with it are read by each capture."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, DatetimeMS) and int(value) < 0:
        return BEFORE_ALL
    return instant_of(value)


def _days(values: Sequence[Any], zone: ZoneInfo) -> list[date | None]:
    dates = [value if isinstance(value, datetime) else None for value in values]
    instants = pa.array(dates, pa.timestamp("us", "UTC"))
    local = pc.local_timestamp(instants.cast(pa.timestamp("us", zone.key)))
    found: list[date | None] = pc.floor_temporal(local, unit="day").cast(pa.date32()).to_pylist()
    return found
