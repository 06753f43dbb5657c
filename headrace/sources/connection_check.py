"""`headrace check --connect`: whether sources answer, and have what is declared of them."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import stamina

from headrace.config.entities.entity import SourceConfig
from headrace.config.loader import Project
from headrace.config.model import did_you_mean
from headrace.config.settings import AnyConnection, DemoConnection
from headrace.config.sources.file_source import FilesSource
from headrace.config.sources.mongodb_source import CollectionEntity, CollectionExtract, MongoSource
from headrace.config.sources.rest_connection import RestConnection
from headrace.config.sources.rest_source import RestSource
from headrace.config.sources.sftp_connection import SftpConnection
from headrace.config.sources.table_source import DatabaseSource, TableEntity
from headrace.errors import HeadraceError, SourceUnauthorizedError, TransientError
from headrace.sources.base import CaptureRun
from headrace.sources.files.path_patterns import is_archive_of, is_file_of
from headrace.sources.registry import connector_of


@dataclass(frozen=True)
class SourceFault:
    """What is wrong with a source.

    Attributes:
        file: The file that declares it.
        what: The path in the file, the fault, and the remedy.
    """

    file: Path
    what: str


@dataclass(frozen=True)
class ConnectionCheck:
    """What a look at all sources with a connection found.

    Attributes:
        faults: What is wrong, in the order of the files.
        found: By `source.entity`, what is there.
        empty: Entities of APIs that answered without a record.
    """

    faults: tuple[SourceFault, ...] = ()
    found: Mapping[str, str] = field(default_factory=dict)
    empty: tuple[str, ...] = ()


def check_connections(project: Project, seconds: float) -> ConnectionCheck:
    """Connect to every database, API and SFTP server of a project, all at once.

    Args:
        project: The configuration.
        seconds: A source that has not been looked at whole after this is reported.
    """
    hurried = _with_short_waits(project, seconds)
    looks = [
        _Look(hurried, path, source)
        for path, source in project.source_files.items()
        if isinstance(source, DatabaseSource | MongoSource | RestSource) or _is_on_a_server(source)
    ]
    ends_at = time.monotonic() + seconds
    stamina.set_active(False)  # One attempt each: whoever waits for the result tries again.
    try:
        for look in looks:
            look.start()
        results = [look.result(ends_at, seconds) for look in looks]
    finally:
        stamina.set_active(True)
    return ConnectionCheck(
        faults=tuple(fault for one in results for fault in one.faults),
        found={name: what for one in results for name, what in one.found.items()},
        empty=tuple(name for one in results for name in one.empty),
    )


class _Look:
    """A look at one source, on a thread that does not keep the process alive."""

    def __init__(self, project: Project, path: Path, source: Any) -> None:
        self.project, self.path, self.source = project, path, source
        self.faults: list[str] = []
        self.found: dict[str, str] = {}
        self.empty: list[str] = []
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def result(self, ends_at: float, seconds: float) -> ConnectionCheck:
        """What is found when the look is over, or the time."""
        self._thread.join(max(0.0, ends_at - time.monotonic()))
        faults = [*self.faults]
        if self._thread.is_alive():
            faults.append(
                f"connection: '{self.source.connection}' has not answered all questions after "
                f"{seconds:g} s; check that its server is reachable from here, or raise --timeout"
            )
        said = tuple(SourceFault(self.path, what) for what in faults)
        return ConnectionCheck(said, {**self.found}, (*self.empty,))

    def _run(self) -> None:
        try:
            for fault in self._faults():
                self.faults.append(fault)
        except HeadraceError as error:  # The demo is not staged.
            self.faults.append(f"connection: {_text(error)}")
        except Exception as error:  # noqa: BLE001  # its text may quote a URL
            self.faults.append(
                f"connection: '{self.source.connection}' cannot be checked: "
                f"{type(error).__name__}; if it persists, report a bug"
            )

    def _faults(self) -> Iterator[str]:
        if isinstance(self.source, RestSource):
            yield from self._faults_of_lists()
        elif isinstance(self.source, FilesSource):
            yield from self._faults_of_files(self.source)
        else:
            yield from self._faults_of_tables()

    def _faults_of_tables(self) -> Iterator[str]:
        names: list[str] | None = None
        for name, entity, connector in self._connectors():
            database = connector.database
            try:
                names = database.relations() if names is None else names
            except HeadraceError as error:
                # It would be the same for the other tables, and a server may lock the user out.
                yield f"connection: {_text(error).removeprefix('connection ')}"
                return
            place = f"entities[{entity.name}]"
            try:
                found = database.columns()
            except HeadraceError as error:
                yield f"{place}.{_relation_key(entity)}: {_text(error)}{_near(entity, names)}"
                continue
            faults = [*connector.faults(found)]
            for where, fault in faults:
                yield f"{place}.{where}: {_text(fault)}"
            if not faults:
                self.found[name] = f"{len(entity.columns)} columns"

    def _faults_of_lists(self) -> Iterator[str]:
        for name, entity, connector in self._connectors():
            run = CaptureRun(name, "", datetime.now(UTC), self.project.settings.partitions)
            day = entity.grain.start_of(_last_day(self.project))
            try:
                rows = connector.check_first_page(day, run)
            except SourceUnauthorizedError as error:
                yield f"connection: {_text(error)}"
                return
            except TransientError as error:
                yield f"connection: {_text(error)}"
                continue
            except HeadraceError as error:
                yield f"entities[{entity.name}].extract: {_text(error)}"
                continue
            self.found[name] = f"{rows} rows in the first page"
            self.empty += [] if rows else [name]

    def _faults_of_files(self, source: FilesSource) -> Iterator[str]:
        # asyncssh takes half a second to import: only where a source is on an SFTP server.
        from headrace.sources.landing.sftp_landing import sftp_landing  # noqa: PLC0415

        try:
            listing = sftp_landing(self.project, str(source.connection)).list_files()
        except HeadraceError as error:
            yield f"connection: {_text(error).removeprefix('connection ')}"
            return
        for entity in source.entities:
            extract = entity.extract
            count = sum(
                is_file_of(extract, file.path) or is_archive_of(extract, file.path)
                for file in listing
            )
            if count or extract.optional:
                self.found[f"{source.name}.{entity.name}"] = f"{count} files"
            else:
                yield (
                    f"entities[{entity.name}].extract.path: none of the {len(listing)} files there "
                    "matches it; correct it, or declare optional: true if there may be none"
                )

    def _connectors(self) -> Iterator[tuple[str, Any, Any]]:
        entities = self.project.entities()
        for declared in self.source.entities:
            name = f"{self.source.name}.{declared.name}"
            yield name, entities[name][1], connector_of(self.project, name, _no_landing)


def _is_on_a_server(source: SourceConfig) -> bool:
    return isinstance(source, FilesSource) and source.connection is not None


def _no_landing() -> Any:
    raise AssertionError("neither a database nor an API has a landing zone")


def _with_short_waits(project: Project, seconds: float) -> Project:
    """The project, with connections that do not try for long what fails."""
    connections = {
        name: connection.model_copy(update=_short_waits(connection, seconds))
        for name, connection in project.settings.connections.items()
    }
    settings = project.settings.model_copy(update={"connections": connections})
    return replace(project, settings=settings)


def _short_waits(connection: AnyConnection, seconds: float) -> dict[str, object]:
    if isinstance(connection, RestConnection):
        return {"limits": connection.limits.model_copy(update={"attempts": 1, "parallel": 1})}
    if isinstance(connection, SftpConnection):
        return {"connect_seconds": seconds, "read_seconds": seconds}
    if isinstance(connection, DemoConnection):
        return {}
    return {"statement_timeout_seconds": max(1, int(seconds))}


def _last_day(project: Project) -> date:
    """The last day that exists; before the first one is over, the first."""
    partitions = project.settings.partitions
    today = datetime.now(UTC).date()
    return max(partitions.start, min(partitions.end or today, today) - timedelta(days=1))


def _relation_key(entity: TableEntity | CollectionEntity) -> str:
    if isinstance(entity.extract, CollectionExtract):
        return "extract.collection"
    return "extract.query" if entity.extract.table is None else "extract.table"


def _near(entity: TableEntity | CollectionEntity, names: list[str]) -> str:
    extract = entity.extract
    table = extract.collection if isinstance(extract, CollectionExtract) else extract.table
    return "" if table is None or table in names else did_you_mean(table, names)


def _text(error: HeadraceError) -> str:
    return f"{error}; {error.fix}"
