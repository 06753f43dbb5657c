"""Lists of a REST API as a source that can be assessed: their first pages."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from headrace import progress
from headrace.assess.apis.list_shape import ListShape, list_shape, member_source
from headrace.assess.files.fields import field_names, snake_case
from headrace.assess.files.json_records import member_columns
from headrace.assess.sample_source import (
    POSITION,
    FoundEntity,
    SourceField,
    TableStatistics,
    with_place,
)
from headrace.config.sources.rest_connection import RestConnection
from headrace.config.sources.rest_source import RestEntity, RestSource
from headrace.errors import ConfigError, HeadraceError
from headrace.sources.rest.client import RestClient
from headrace.sources.rest.connector import client_of
from headrace.sources.rest.http_session import ReplyOptions
from headrace.sources.rest.paginators import RecordList, RecordPage, read_lists
from headrace.sources.rest.records import RecordShape, read_records

_MOST_NAME, _MOST_PAGES = 40, 5


class ListSamples:
    """Some lists of a connection to an API."""

    def __init__(self, name: str, connection: RestConnection, paths: Sequence[str]) -> None:
        """Connects to nothing yet.

        Args:
            name: The connection's name.
            connection: The API.
            paths: Paths of lists below its URL.

        Raises:
            ConfigError: No path is given.
        """
        if not paths:
            raise ConfigError(
                f"connection '{name}' is an API, which does not say what lists it has",
                fix="name the path of each list: --table transactions --table stores",
            )
        self._name, self._connection, self._paths = name, connection, tuple(paths)
        self._problems: dict[str, list[str]] = {}
        self.connector = "rest"
        self.title = f"connection {name} ({connection.url})"
        self.description = f"Lists of the API {name}."
        self.options: Mapping[str, Any] = {"connection": name}
        self.notes: tuple[str, ...] = ()

    def list_entities(self) -> tuple[FoundEntity, ...]:
        """See SampleSource.

        Raises:
            ConfigError: No list can be read.
        """
        client = client_of(self._name, self._connection)
        found, notes = [], []
        names = field_names([path.strip("/").rpartition("/")[2] or "rows" for path in self._paths])
        for number, (path, name) in enumerate(zip(self._paths, names, strict=True), start=1):
            try:
                shape = _first_page(client, path)
            except HeadraceError as error:
                notes.append(f"{path} is left out: {error}; {error.fix}")
                continue
            finally:
                progress.report("lists", number, len(self._paths))
            if shape is None or not shape.found:
                notes.append(f"{path} is left out: its answer has no record")
                continue
            entity = _found(snake_case(name, "rows", _MOST_NAME), path, shape)
            self._problems[entity.name] = []
            found.append(entity)
        self.notes = tuple(notes)
        if not found:
            raise ConfigError(
                f"{self.title}: no list can be read: {'; '.join(notes)}",
                fix="correct the paths (--table), or the connection in base.yaml",
            )
        return tuple(found)

    def sample_rows(self, entity: FoundEntity, max_rows: int) -> Iterator[pa.RecordBatch]:
        """See SampleSource: the first pages, as a capture reads them."""
        config = self._untyped(entity)
        extract = config.extract
        shape = RecordShape(config.columns, extract.records, None, "ignore", ())
        left = max_rows
        for batch in read_records(self._pages(config, shape), shape, entity.name, None):
            some = batch.slice(0, left)
            left -= some.num_rows
            yield with_place(some, entity.name, None)
            if not left:
                return

    def _pages(self, entity: RestEntity, shape: RecordShape) -> Iterator[RecordPage]:
        """The first pages; what is wrong with a later one is a problem of the entity."""
        client, extract = client_of(self._name, self._connection), entity.extract
        lists = [RecordList(client.url_of(extract.path, {}), {})]
        pages = read_lists(client, lists, extract.pagination, shape.select, ())
        try:
            yield from islice(pages, _MOST_PAGES)
        except HeadraceError as error:
            self._problems[entity.name].append(f"{error}; {error.fix}")

    def problems_of(self, entity: FoundEntity) -> tuple[str, ...]:
        """What was met while it was sampled."""
        return tuple(self._problems[entity.name])

    def statistics(self, entity: FoundEntity) -> TableStatistics:  # noqa: ARG002
        """See SampleSource: an API does not say."""
        return TableStatistics(None, None)

    def _untyped(self, entity: FoundEntity) -> RestEntity:
        columns = [
            {"name": f.name, "from": f.source_name, "type": "string", **f.options, "optional": True}
            for f in entity.fields
        ]
        document = {
            "name": entity.name,
            # Of other pages, records may have further members.
            "extract": {**entity.extract, "extra_columns": "ignore"},
            "key": [POSITION],
            "columns": columns,
        }
        source = {"name": "assessed", "connector": "rest", **self.options}
        return RestSource.model_validate({**source, "entities": [document]}).entities[0]


def _first_page(client: RestClient, path: str) -> ListShape | None:
    page = client.get(client.url_of(path, {}), ReplyOptions())
    return list_shape(page.document, page.headers.get("link", ""))


def _found(name: str, path: str, shape: ListShape) -> FoundEntity:
    columns, left_out = member_columns(shape.found)
    names = field_names(["_".join(steps) for steps, _ in columns])
    fields = tuple(
        SourceField(
            own,
            member_source(steps),
            "string",
            {} if share == 1 else {"optional": True},
            "" if share == 1 else f"{share:.0%} of the records of the first page have it",
        )
        for own, (steps, share) in zip(names, columns, strict=True)
    )
    extract: dict[str, Any] = {
        "mode": "full",
        "path": path.lstrip("/"),
        "records": shape.records,
        "pagination": dict(shape.pagination),
    }
    if left_out:
        extract["extra_columns"] = "ignore"
    return FoundEntity(
        name=name,
        extract=extract,
        fields=fields,
        is_typed=False,
        evidence=shape.evidence,
        undated="the list has rows of many days, and this column has one in each row",
        problems=(*shape.problems, *left_out),
    )
