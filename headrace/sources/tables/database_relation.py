"""A relation that is read by sessions with its database: what all products have in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import Any, Generic, TypeVar

import pyarrow as pa

from headrace.config.loader import Project
from headrace.config.sources.table_source import (
    CursorExtract,
    DatabaseSource,
    IncreasingIdExtract,
    TableEntity,
)
from headrace.errors import HeadraceError
from headrace.sources.connections import Connection, connection_of, retried
from headrace.sources.tables.database import (
    HeldSnapshot,
    Horizon,
    Pending,
    Position,
    Selection,
)
from headrace.sources.tables.fidelity import typed
from headrace.sources.tables.relations import column_faults, source_names
from headrace.sources.tables.watermark import united

# Text of a batch; its Arrow form takes about as much again.
_BATCH_BYTES = 4 * 2**20

SessionT = TypeVar("SessionT")
TypeT = TypeVar("TypeT")
StatementsT = TypeVar("StatementsT")


def declared_table(project: Project, name: str) -> tuple[TableEntity, Connection]:
    """The entity `name` (`source.entity`) of a project, and the connection of its source."""
    source, entity = project.entities()[name]
    if not isinstance(source, DatabaseSource) or not isinstance(entity, TableEntity):
        raise TypeError(f"{name} is no table of a database")
    return entity, connection_of(project, source.connection)


@dataclass(frozen=True)
class DatabaseRelation(ABC, Generic[SessionT, TypeT, StatementsT]):
    """See Database. A product gives sessions, statements and rows as text.

    Attributes:
        entity: What is declared of the relation.
        connection: Its database.
        batch_bytes: Text of a batch.
    """

    entity: TableEntity
    connection: Connection
    batch_bytes: int = field(default=_BATCH_BYTES, compare=False)

    @property
    def label(self) -> str:
        """See Database."""
        return self.entity.extract.table or f"the query of {self.entity.name}"

    def check(self) -> None:
        """See Database."""
        self.__dict__.pop("_statements", None)  # The table may have changed since the last time.
        _ = self._statements

    def columns(self) -> Mapping[str, str]:
        """See Database."""
        with self._session() as session:
            return {name: self._logical(kind) for name, kind in self._found(session).items()}

    def faults(self, found: Mapping[str, str]) -> Iterator[tuple[str, HeadraceError]]:
        """See Database."""
        yield from column_faults(self.entity, found, self.label)

    def relations(self) -> list[str]:
        """See Database."""
        with self._session() as session, self._mapped():
            return [str(name) for (name,) in self._relations(session)]

    @contextmanager
    def look(self) -> Iterator["RelationSnapshot"]:
        """See Database."""
        with self._session() as session, self._mapped():
            yield self._look(session)

    @property
    def sessions(self) -> int:
        """See Database."""
        return self.connection.sessions

    def hold(self) -> HeldSnapshot:
        """See Database."""
        return HeldSnapshot(None, lambda: None)

    def read(self, selection: Selection) -> Iterator[pa.RecordBatch]:
        """See Database."""
        types, statements = self._types(selection), self._statements
        position = 0
        with self._session() as session, self._mapped():
            for texts in self._texts(session, statements, selection):
                yield typed(texts, types, position, self.entity.extract.partition_by)
                position += texts.num_rows

    def _types(self, selection: Selection) -> dict[str, str]:
        """By column that is read, the type that it is captured as."""
        entity = self.entity
        return {name: entity.captured_type(entity.column(name)) for name in selection.columns}

    @abstractmethod
    def _session(self) -> AbstractContextManager[SessionT]:
        """A session, which ends with the block, also in the middle of a result."""

    @abstractmethod
    def _mapped(self) -> AbstractContextManager[None]:
        """Raises this project's errors for the driver's."""

    @abstractmethod
    def _found(self, session: SessionT) -> Mapping[str, TypeT]:
        """By column of the relation, its type."""

    @abstractmethod
    def _relations(self, session: SessionT) -> Iterable[tuple[Any, ...]]:
        """Names of relations in the database, each as a row."""

    @abstractmethod
    def _logical(self, kind: TypeT) -> str:
        """A type as headrace.sources.tables.relations says it."""

    @abstractmethod
    def _compose(self, names: Mapping[str, str], found: Mapping[str, TypeT]) -> StatementsT:
        """The statements, with each declared column's name and type in the relation."""

    @abstractmethod
    def _look(self, session: SessionT) -> "RelationSnapshot":
        """Look at the horizon, then begin a snapshot."""

    @abstractmethod
    def _texts(
        self, session: SessionT, statements: StatementsT, selection: Selection
    ) -> Iterator[pa.RecordBatch]:
        """Rows in one snapshot: all columns as text, or of `_types`; NULL is null."""

    @cached_property
    def _statements(self) -> StatementsT:
        return retried(self._describe)

    def _describe(self) -> StatementsT:
        entity = self.entity
        with self._session() as session:
            found = self._found(session)
        types = {name: self._logical(kind) for name, kind in found.items()}
        names = source_names(entity, types, self.label)
        return self._compose(names, {name: found[there] for name, there in names.items()})


@dataclass(frozen=True)
class RelationSnapshot(ABC):
    """See Snapshot."""

    entity: TableEntity
    known: Horizon

    def horizon(self) -> Horizon:
        """See Snapshot."""
        return self.known

    @abstractmethod
    def later(self) -> datetime:
        """See Snapshot."""

    def pending(self, since: Position | None) -> Mapping[date | None, Pending]:
        """See Snapshot."""
        extract = self.entity.extract
        if not isinstance(extract, CursorExtract):
            raise TypeError("only a cursor tells pending rows")
        is_id = isinstance(extract, IncreasingIdExtract)
        parts: dict[date | None, list[Pending]] = {}
        for group, count, first, last, digest in self._groups(extract.cursor, since):
            if is_id:
                ids = [None if text is None else int(text) for text in (first, last)]
                known = Pending(count, ids[0], digest, ids[1])
            else:
                known = Pending(count, self._instant(extract.cursor, first), digest)
            parts.setdefault(self._day_of(group), []).append(known)
        return {day: united(some) for day, some in parts.items()}

    def counted(self, selection: Selection) -> Mapping[date | None, Pending]:
        """See Snapshot."""
        parts: dict[date | None, int] = {}
        for group, count in self._counts(selection):
            day = self._day_of(group)
            parts[day] = parts.get(day, 0) + count
        return {day: Pending(count, None, f"{count}") for day, count in parts.items()}

    @abstractmethod
    def is_indexed(self, column: str) -> bool:
        """See Snapshot."""

    @abstractmethod
    def _counts(self, selection: Selection) -> Iterable[Sequence[Any]]:
        """Rows of the statement `row_counts`: group, count."""

    @abstractmethod
    def _groups(self, cursor: str, since: Position | None) -> Iterable[Sequence[Any]]:
        """Rows of the statement `pending`: group, count, least and greatest cursor, digest."""

    @abstractmethod
    def _day_of(self, group: Any) -> date | None:
        """The day of a group; None: its rows have no day."""

    @abstractmethod
    def _instant(self, cursor: str, text: str | None) -> datetime | None:
        """The instant that the text of a cursor says."""
