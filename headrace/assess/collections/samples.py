"""Collections of a MongoDB as a source that can be assessed: their first documents."""

from collections.abc import Collection as AnyCollection
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, time, timedelta
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

import pyarrow as pa

from headrace import progress
from headrace.assess.apis.list_shape import member_source
from headrace.assess.files.fields import field_names, snake_case
from headrace.assess.files.json_records import member_columns
from headrace.assess.sample_source import (
    POSITION,
    Catalog,
    FoundEntity,
    SourceField,
    TableStatistics,
    with_place,
)
from headrace.config.sources.mongodb_source import CollectionEntity, MongoSource
from headrace.errors import ConfigError, HeadraceError
from headrace.sources.connections import Connection
from headrace.sources.documents.json_paths import MISSING, walk
from headrace.sources.mongodb.collection import Collection
from headrace.sources.mongodb.session import CODEC, Client, client_of, map_errors
from headrace.sources.mongodb.values import type_name
from headrace.sources.tables.database import Selection

# Reads of an assessment must not burden the database for long.
_LONGEST = timedelta(minutes=2)
_MOST_NAME = 40
# Documents by which fields and their types are found.
_LOOKED_AT = 2000
# The server does not say which writes are still to come.
_OVERLAP = "10m"
# Types of BSON that a field has, and as which type it is read.
_TYPES = (
    ({"int"}, "int"),
    ({"int", "long"}, "bigint"),
    ({"int", "long", "double"}, "double"),
    ({"int", "long", "decimal"}, "string"),
    ({"bool"}, "boolean"),
)


class CollectionSamples:
    """The collections and views of a connection."""

    def __init__(self, connection: Connection, wanted: Sequence[str] = ()) -> None:
        """Connects to nothing yet.

        Args:
            connection: The database.
            wanted: Names of collections, `*` for any text; none: all.
        """
        self._connection = replace(
            connection, statement_timeout=min(connection.statement_timeout, _LONGEST)
        )
        self._wanted = wanted
        self._rows: dict[str, int] = {}
        self._problems: dict[str, list[str]] = {}
        self.connector = "mongodb"
        self.title = f"connection {connection.name} (MongoDB)"
        self.description = f"Collections of the MongoDB database {connection.name}."
        self.options: Mapping[str, Any] = {"connection": connection.name}
        self.notes: tuple[str, ...] = ()

    def list_entities(self) -> tuple[FoundEntity, ...]:
        """See SampleSource.

        Raises:
            ConfigError: There is no collection that the user may read.
        """
        progress.report("catalog", 0, 1)
        with (
            client_of(self._connection) as client,
            map_errors(self.title, client, self._connection),
        ):
            database = client.get_default_database()
            names = sorted(database.list_collection_names(authorizedCollections=True))
            names = [name for name in names if not name.startswith("system.")]
            if self._wanted:
                names = [n for n in names if any(fnmatchcase(n, want) for want in self._wanted)]
            entities = field_names([snake_case(name, "rows", _MOST_NAME) for name in names])
            found = [
                self._found(client, name, entity)
                for name, entity in zip(names, entities, strict=True)
            ]
        progress.report("catalog", 1, 1)
        self.notes = tuple(
            f"{name} is left out: it has no document"
            for name, one in zip(names, found, strict=True)
            if one is None
        )
        if not any(found):
            raise ConfigError(
                f"{self.title}: there is no collection with documents that the user may read",
                fix="check the database of the URL; grant the role read on it",
            )
        return tuple(one for one in found if one is not None)

    def sample_rows(self, entity: FoundEntity, max_rows: int) -> Iterator[pa.RecordBatch]:
        """See SampleSource: the first documents, as a capture reads them."""
        names = tuple(field.name for field in entity.fields)
        left = max_rows
        reading = Collection(self._typed(entity), self._connection).read(Selection(names))
        try:
            with closing(reading):  # type: ignore[type-var]
                for batch in reading:
                    some = batch.slice(0, left)
                    left -= some.num_rows
                    yield with_place(some, entity.extract["collection"], None)
                    if not left:
                        return
        except HeadraceError as error:
            self._problems[entity.name].append(f"no sample could be read: {error}; {error.fix}")

    def problems_of(self, entity: FoundEntity) -> tuple[str, ...]:
        """What was met while it was sampled."""
        return tuple(self._problems[entity.name])

    def statistics(self, entity: FoundEntity) -> TableStatistics:
        """See SampleSource: the server's count of documents."""
        return TableStatistics(self._rows[entity.name], None)

    def _found(self, client: Client, collection: str, name: str) -> FoundEntity | None:
        there = client.get_default_database()[collection]
        documents = [*islice(there.with_options(CODEC).find(limit=_LOOKED_AT), _LOOKED_AT)]
        if not documents:
            return None
        count = self._rows[name] = there.estimated_document_count()
        self._problems[name] = []
        columns, left_out = member_columns(documents)
        names = field_names(["_".join(steps) for steps, _ in columns])
        fields = tuple(
            _field(own, steps, share, [walk(one, steps) for one in documents])
            for own, (steps, share) in zip(names, columns, strict=True)
        )
        own = {steps: each for each, (steps, _) in zip(names, columns, strict=True)}
        keys = [index["key"][0][0] for index in there.index_information().values()]
        evidence = [f"collection, about {count:,} documents"]
        extract: dict[str, Any] = {"mode": "full", "collection": collection}
        if left_out or count > len(documents):
            extract["extra_columns"] = "ignore"
            evidence.append("other documents may have further fields, which are ignored")
        return FoundEntity(
            name=name,
            extract=extract,
            fields=fields,
            is_typed=True,
            evidence=tuple(evidence),
            problems=(*left_out, *_arrays(columns, documents)),
            catalog=Catalog(
                key=(own["_id",],) if ("_id",) in own else (),
                key_kind="_id",
                indexed=tuple(own[at] for key in keys if (at := tuple(key.split("."))) in own),
                rows=count,
                least_overlap=_OVERLAP,
            ),
        )

    def _typed(self, entity: FoundEntity) -> CollectionEntity:
        columns = [
            {"name": f.name, "from": f.source_name, "type": f.type, "optional": True}
            for f in entity.fields
        ]
        document = {
            "name": entity.name,
            "extract": {**entity.extract, "extra_columns": "ignore"},
            "key": [POSITION],
            "columns": columns,
        }
        source = {"name": "assessed", "connector": "mongodb", **self.options}
        return MongoSource.model_validate({**source, "entities": [document]}).entities[0]


def _field(name: str, steps: Sequence[str], share: float, values: Sequence[Any]) -> SourceField:
    there = [value for value in values if value is not MISSING and value is not None]
    kinds = {type_name(value) for value in there}
    kind, fits = _type_of(kinds, there)
    evidence = [] if kinds <= {"string"} else [f"BSON {', '.join(sorted(kinds))}"]
    if share < 1:
        evidence.append(f"{share:.0%} of the documents looked at have it")
    return SourceField(
        name,
        member_source(steps),
        kind,
        {} if share == 1 else {"optional": True},
        "; ".join(evidence),
        # A text may be a number or a date; decimals are text until their digits are known.
        is_declared=not (kinds <= {"string"} or fits),
        fits=fits,
    )


def _type_of(kinds: AnyCollection[str], values: Sequence[Any]) -> tuple[str, tuple[str, ...]]:
    """The type as which values are read, and those that they can be declared as besides."""
    for known, kind in _TYPES:
        if kinds and {*kinds} <= known:
            return kind, ("decimal",) if "decimal" in kinds else ()
    if {*kinds} == {"date"}:
        dates = [value for value in values if isinstance(value, datetime)]
        is_days = len(dates) == len(values) and all(at.time() == time() for at in dates)
        return ("date" if is_days else "timestamptz"), ()
    return "string", ()


def _arrays(
    columns: Sequence[tuple[Sequence[str], float]], documents: Sequence[Any]
) -> Iterator[str]:
    """Remarks on arrays that could be entities of their own."""
    for steps, _ in columns:
        values = (walk(document, steps) for document in documents)
        if any(
            isinstance(value, list) and any(isinstance(v, dict) for v in value) for value in values
        ):
            path = member_source(steps).removeprefix("$.")
            yield (
                f"{path} is an array of objects, read as JSON: for a row of each, declare an "
                f"entity with children: $.{path}[*]"
            )
