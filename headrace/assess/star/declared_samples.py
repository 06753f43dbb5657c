"""Samples the rows of declared entities, and finds foreign keys between their tables."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from pathlib import Path

import pyarrow as pa

from headrace.assess.files.file_groups import spread
from headrace.assess.profile import Sample
from headrace.assess.sample_source import POSITION, FoundEntity, Reference, SourceField, with_place
from headrace.assess.tables.products import Product, product_of
from headrace.config.entities.entity import EntityConfig, SourceConfig
from headrace.config.settings import Settings
from headrace.config.sources.file_source import FileEntity
from headrace.config.sources.table_source import DatabaseSource, TableEntity
from headrace.errors import ConfigError
from headrace.sources.connections import Connection, named_connection
from headrace.sources.files.connector import reader_of
from headrace.sources.files.path_patterns import days_of_file, is_file_of
from headrace.sources.landing.landing_zone import Landing
from headrace.sources.tables.database import Selection
from headrace.sources.tables.relations import FoundRelation

_FILES, _LONGEST = 8, timedelta(minutes=2)


@dataclass(frozen=True)
class DeclaredEntity:
    """An entity of the configuration.

    Attributes:
        name: `source.entity`.
        references: Foreign keys of its table, to other entities by `source.entity`.
    """

    name: str
    source: SourceConfig
    entity: EntityConfig
    references: tuple[Reference, ...] = ()


class DeclaredSamples:
    """Reads rows of declared entities; connects to each database once for its catalog."""

    def __init__(
        self, settings: Settings, sources: Sequence[SourceConfig], landing: Callable[[], Landing]
    ) -> None:
        self._settings, self._landing = settings, landing
        self._relations: dict[str, list[FoundRelation]] = {}
        found = [DeclaredEntity(f"{s.name}.{e.name}", s, e) for s in sources for e in s.entities]
        self._tables = {
            (found_.source.connection, relation.place): found_
            for found_ in found
            if isinstance(found_.source, DatabaseSource)
            and (relation := self._relation(found_)) is not None
        }
        self.entities = tuple(replace(one, references=self._references(one)) for one in found)

    def sample(self, declared: DeclaredEntity, folder: Path, rows: int) -> Sample:
        """A sample of an entity's rows, in a folder of its own.

        Raises:
            ConfigError: Entities of its kind are not sampled.
            SourceRejectedError: The source is not as declared, or refuses access.
            SourceUnavailableError: The source does not answer.
        """
        entity = declared.entity
        fields = tuple(
            SourceField(c.name, c.source_name, entity.captured_type(c)) for c in entity.columns
        )
        found = FoundEntity(entity.name, {}, fields, is_typed=entity.extract.is_typed)
        return Sample(folder, found, self._rows(declared, rows))

    def _rows(self, declared: DeclaredEntity, rows: int) -> Iterator[pa.RecordBatch]:
        entity = declared.entity
        if isinstance(entity, FileEntity):
            return self._rows_of_files(entity, rows)
        if isinstance(entity, TableEntity):
            return self._rows_of_table(declared, entity, rows)
        raise ConfigError(
            f"{declared.name}: entities of connector {declared.source.connector} are not sampled",
            fix="declare its dimension or fact by hand: docs/how-to/change-the-star.md",
        )

    def _rows_of_files(self, entity: FileEntity, rows: int) -> Iterator[pa.RecordBatch]:
        landing = self._landing()
        files = {f.path: f for f in landing.list_files() if is_file_of(entity.extract, f.path)}
        chosen = spread(sorted(files), _FILES)
        for path in chosen:
            left = max(rows // len(chosen), 1)
            day = next(iter(days_of_file(entity.extract, path)), None)
            with landing.open(files[path]) as stream:
                for batch in reader_of(entity)(stream, path, entity, day=day):
                    yield with_place(batch.slice(0, left), path, day)
                    left -= min(batch.num_rows, left)
                    if not left:
                        break

    def _rows_of_table(
        self, declared: DeclaredEntity, entity: TableEntity, rows: int
    ) -> Iterator[pa.RecordBatch]:
        connection, product = self._database(declared)
        names = tuple(column.name for column in entity.columns)
        relation = self._relation(declared)
        if relation is not None:
            there = [column.name for column in relation.columns]
            query = product.sample(relation, there, rows)
        else:
            query = f"select * from ({entity.extract.query}) as q limit {rows}"  # noqa: S608
        reader = product.relation(_full(declared, entity, query), connection)
        for batch in islice(reader.read(Selection(names)), rows):
            yield with_place(batch, entity.name, None)

    def _relation(self, declared: DeclaredEntity) -> FoundRelation | None:
        """The table or view that an entity reads; None of a query."""
        entity = declared.entity
        table = entity.extract.table if isinstance(entity, TableEntity) else None
        if table is None:
            return None
        connection, product = self._database(declared)
        if connection.name not in self._relations:
            self._relations[connection.name] = product.discover(connection)
        return next(
            (
                r
                for r in self._relations[connection.name]
                if table in (".".join(r.place), r.place[1])
            ),
            None,
        )

    def _references(self, declared: DeclaredEntity) -> tuple[Reference, ...]:
        relation = self._relation(declared)
        if relation is None or not isinstance(declared.source, DatabaseSource):
            return ()
        found = []
        for key in relation.references:
            other = self._tables.get((declared.source.connection, key.relation))
            if other is None:
                continue
            own = _declared_names(declared.entity, key.columns)
            there = _declared_names(other.entity, key.keys)
            if own and there:
                found.append(Reference(own, other.name, there))
        return tuple(found)

    def _database(self, declared: DeclaredEntity) -> tuple[Connection, Product]:
        name = declared.source.connection if isinstance(declared.source, DatabaseSource) else ""
        connection = named_connection(self._settings, name)
        timeout = min(connection.statement_timeout, _LONGEST)
        connection = replace(connection, statement_timeout=timeout)
        return connection, product_of(connection)


def _declared_names(entity: EntityConfig, names: Sequence[str]) -> tuple[str, ...]:
    """The declared columns that read some columns of a table; empty unless all are declared."""
    by_source: Mapping[str, str] = {
        there: column.name for column in entity.columns for there in column.source_names
    }
    found = tuple(by_source[name] for name in names if name in by_source)
    return found if len(found) == len(names) else ()


def _full(declared: DeclaredEntity, entity: TableEntity, query: str) -> TableEntity:
    """The entity, read whole by a query."""
    document = {
        "name": entity.name,
        "extract": {"mode": "full", "query": query},
        "key": [POSITION],
        "columns": [
            {"name": c.name, "from": [*c.source_names], "type": entity.captured_type(c)}
            for c in entity.columns
        ],
    }
    source = {
        "name": declared.source.name,
        "connector": declared.source.connector,
        "connection": getattr(declared.source, "connection", ""),
    }
    return DatabaseSource.model_validate({**source, "entities": [document]}).entities[0]
