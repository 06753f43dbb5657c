"""The connector of lists that a REST API gives in pages."""

import json
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from threading import Lock
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import pyarrow as pa

from headrace.config.loader import Project, resolve_secret
from headrace.config.sources.rest_connection import RestConnection
from headrace.config.sources.rest_source import PLACEHOLDER, RestEntity, RestWindowExtract
from headrace.errors import ConfigError
from headrace.grain import Grain
from headrace.schema import Column
from headrace.sources.base import (
    CapturePlan,
    CaptureRun,
    CaptureState,
    ReadUnit,
    SourceObject,
    short_id,
)
from headrace.sources.connections import named_api
from headrace.sources.reference_data import day_of_state, latest_state
from headrace.sources.rest.client import RestClient
from headrace.sources.rest.paginators import RecordList, RecordPage, read_lists
from headrace.sources.rest.records import RecordShape, check_page, read_records

_one_at_a_time = Lock()


def rest_connector(project: Project, name: str) -> "RestConnector":
    """The connector of the entity `name` (`source.entity`) of a project.

    Raises:
        ConfigError: Its connection is no API.
    """
    source, entity = project.entities()[name]
    connection = named_api(project.settings, getattr(source, "connection", ""), project.home)
    if connection is None or not isinstance(entity, RestEntity):
        raise ConfigError(
            f"the connection of {source.name} is no API",
            fix="declare it under `connections` in base.yaml with kind: rest",
        )
    return RestConnector(entity, str(getattr(source, "connection", "")), connection)


@dataclass(frozen=True)
class RestConnector:
    """One list of an API. See Connector.

    Attributes:
        entity: What is declared of it.
        connection_name: For remedies.
        connection: Where the API is.
    """

    entity: RestEntity
    connection_name: str
    connection: RestConnection

    @property
    def kind(self) -> str:
        """See Connector."""
        return "rest"

    @property
    def columns(self) -> tuple[Column, ...]:
        """See Connector."""
        return self.entity.captured_columns()

    def plan(self, partitions: Sequence[date], state: CaptureState, run: CaptureRun) -> CapturePlan:
        """See Connector. An API does not say what is new: what is asked for is read."""
        days = tuple(sorted(set(partitions)))
        if isinstance(self.entity.extract, RestWindowExtract):
            return CapturePlan(tuple(self._window(day, run) for day in days))
        if self.entity.extract.partition_by is not None:
            whole = self._object(run, {}, "full")
            by = self.entity.extract.partition_by
            return CapturePlan((ReadUnit(days, (whole,), by),) if days else ())
        day = day_of_state(self.entity.grain, state, run)
        others = tuple(one for one in days if one != day)
        if day not in days:
            return CapturePlan((), unchanged=others)
        whole = replace(self._object(run, {}, "full"), replaces=latest_state(state))
        return CapturePlan((ReadUnit((day,), (whole,)),), unchanged=others)

    def read(
        self,
        source_object: SourceObject,
        partition: date | None = None,
        columns: Collection[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """See Connector."""
        shape = self._shape(columns)
        pages = self._pages(source_object, shape)
        yield from read_records(pages, shape, source_object.name, partition)

    def check_first_page(self, partition: date, run: CaptureRun) -> int:
        """Ask for the first page of a partition's list, and check that it is as declared.

        Returns:
            The rows in it.

        Raises: as `read` does.
        """
        is_window = isinstance(self.entity.extract, RestWindowExtract)
        unit = self._window(partition, run) if is_window else None
        asked = unit.objects[0] if unit else self._object(run, {}, "full")
        shape = self._shape(None)
        with closing(self._pages(asked, shape)) as pages:
            first = next(pages, None)
            if first is None:
                return 0
            is_all = next(pages, None) is None
        day = partition if is_window else None
        return check_page(first, shape, asked.name, day, is_all=is_all)

    def _shape(self, columns: Collection[str] | None) -> RecordShape:
        """How documents become rows; with some of the columns only, or all of them."""
        extract, declared = self.entity.extract, self.entity.columns
        extra = extract.extra_columns
        if columns is not None:
            declared = tuple(column for column in declared if column.name in columns)
            extra = "ignore"
        return RecordShape(declared, extract.records, extract.children, extra, extract.ignored)

    def _pages(self, source_object: SourceObject, shape: RecordShape) -> Generator[RecordPage]:
        client, extract = client_of(self.connection_name, self.connection), self.entity.extract
        path, params = _request(source_object)
        lists = []
        for values in extract.for_each or ({},):
            quoted = {name: quote(value, safe="") for name, value in values.items()}
            filled_in = {name: with_values(text, values) for name, text in params.items()}
            url = client.url_of(with_values(path, quoted), filled_in)
            lists.append(RecordList(url, values))
        yield from read_lists(
            client, lists, extract.pagination, shape.select, extract.empty_statuses
        )

    def state_after(
        self,
        plan: CapturePlan,  # noqa: ARG002
        state: CaptureState,  # noqa: ARG002
        failed: Collection[date],  # noqa: ARG002
    ) -> Mapping[str, str]:
        """See Connector. Nothing: versions say all."""
        return {}

    def pending_partitions(
        self,
        state: CaptureState,  # noqa: ARG002
        run: CaptureRun,  # noqa: ARG002
    ) -> Mapping[date, str]:
        """See Connector. An API does not tell."""
        return {}

    def sparse_partitions(self, state: CaptureState, run: CaptureRun) -> set[date]:
        """The day to which the list's present state would belong, and those of earlier states."""
        held = {day for day, versions in state.captured.items() if versions}
        return held | {day_of_state(self.entity.grain, state, run)}

    def _window(self, day: date, run: CaptureRun) -> ReadUnit:
        window = window_of(day, self.entity.grain, self.entity.timezone)
        # One object a partition, whatever its parameters are called: its last version counts.
        read = self._object(run, window, f"window {day.isoformat()}")
        return ReadUnit((day,), (read,))

    def _object(
        self, run: CaptureRun, window: Mapping[str, datetime], identity: str
    ) -> SourceObject:
        extract = self.entity.extract
        path = filled(extract.path, window)
        params = {name: filled(text, window) for name, text in extract.params.items()}
        order = run.captured_at.astimezone(UTC).isoformat(timespec="microseconds")
        return SourceObject(
            name=f"{path}?{urlencode(params, safe='{}')}" if params else path,
            version=order,
            order=order,
            object_id=short_id(identity),
            read_id=short_id(order, self._reading()),
            modified_at=run.captured_at,
            locator=(path, params),
        )

    def _reading(self) -> str:
        """Stands for what is read and how."""
        extract = self.entity.extract.model_dump_json()
        columns = [f"{c.name}={'|'.join(c.source_names)}" for c in self.entity.columns]
        return short_id(self.connection.url, extract, str(self.entity.timezone), *columns)


def _request(source_object: SourceObject) -> tuple[str, dict[str, str]]:
    path, params = source_object.locator
    return path, params


def client_of(name: str, connection: RestConnection) -> RestClient:
    """The client of a connection: one a process, since its limits are those of all its entities."""
    with _one_at_a_time:
        return _client(name, connection.model_dump_json())


@cache
def _client(name: str, connection: str) -> RestClient:
    declared = RestConnection.model_validate(json.loads(connection))
    return RestClient(name, declared, resolve_secret)


def window_of(day: date, grain: Grain, timezone: str | None) -> dict[str, datetime]:
    """What the placeholders of a partition stand for; `to` is exclusive."""
    zone = ZoneInfo(timezone) if timezone else UTC
    start = datetime.combine(day, time(), zone)
    end = datetime.combine(grain.end_of(day), time(), zone)
    # Seconds of instants: a local clock may be set back within the last one.
    last = (end.astimezone(UTC) - timedelta(seconds=1)).astimezone(zone)
    return {"from": start, "to": end, "last": last}


def filled(text: str, window: Mapping[str, datetime]) -> str:
    """A path or parameter with the times of a window filled in; other placeholders stay."""
    return PLACEHOLDER.sub(
        lambda match: _written(window[match[1]], match[2]) if match[1] in window else match[0],
        text,
    )


def with_values(text: str, values: Mapping[str, str]) -> str:
    """A path or parameter with the values of one list filled in."""
    return PLACEHOLDER.sub(lambda match: values[match[1]], text)


def _written(at: datetime, pattern: str | None) -> str:
    if pattern == "unix":
        return str(int(at.timestamp()))
    if pattern == "unix_ms":
        return str(int(at.timestamp()) * 1000)
    return at.strftime(pattern) if pattern else at.date().isoformat()
