"""Tables of a database as a source that can be assessed: what the catalog says, sampled rows."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

import pyarrow as pa

from headrace import progress
from headrace.assess.files.fields import field_names, snake_case
from headrace.assess.sample_source import (
    POSITION,
    Catalog,
    FoundEntity,
    Reference,
    SourceField,
    TableStatistics,
    with_place,
)
from headrace.assess.tables.products import product_of
from headrace.config.sources.table_source import DatabaseSource, TableEntity
from headrace.errors import ConfigError, HeadraceError
from headrace.sources.connections import Connection
from headrace.sources.tables.database import Selection
from headrace.sources.tables.relations import (
    BIGINT_UNSIGNED,
    NUMERIC,
    TINYINT,
    FoundColumn,
    FoundRelation,
)

# Statements of an assessment must not burden the database for long.
_LONGEST = timedelta(minutes=2)
_MOST_NAME = 40
# Tables in which tools keep what they did.
_OF_TOOLS = re.compile(
    r"alembic_version|schema_migrations|flyway_schema_history|django_migrations|knex_migrations.*"
    r"|ar_internal_metadata|databasechangelog(?:lock)?|spatial_ref_sys|__EFMigrationsHistory"
    r"|_prisma_migrations|goose_db_version"
)


class TableSamples:
    """The tables and views of a connection."""

    def __init__(self, connection: Connection, wanted: Sequence[str] = ()) -> None:
        """Connects to nothing yet.

        Args:
            connection: The database.
            wanted: Names of tables, with or without their schema, `*` for any text; none: all.
        """
        self._connection = replace(
            connection, statement_timeout=min(connection.statement_timeout, _LONGEST)
        )
        self._wanted = wanted
        self._product = product_of(connection)
        self._relations: dict[str, FoundRelation] = {}
        # By entity, name once processed of each column.
        self._names: dict[str, dict[str, str]] = {}
        self._problems: dict[str, list[str]] = {}
        self.connector = self._product.connector
        self.title = f"connection {connection.name} ({self._product.name})"
        self.description = f"Tables of the {self._product.name} database {connection.name}."
        self.options: Mapping[str, Any] = {"connection": connection.name}
        self.notes: tuple[str, ...] = ()

    def list_entities(self) -> tuple[FoundEntity, ...]:
        """See SampleSource.

        Raises:
            ConfigError: There is no table that the user may read.
        """
        progress.report("catalog", 0, 1)
        chosen = self._chosen(self._product.discover(self._connection))
        names = _entity_names([found.place for found in chosen])
        self._relations = dict(zip(names, chosen, strict=True))
        self._problems = {name: [] for name in names}
        self._names = {
            name: dict(zip(_columns(one), field_names(_columns(one)), strict=True))
            for name, one in self._relations.items()
        }
        found = [self._found(name, one) for name, one in self._relations.items()]
        referred = {r.entity for one in found for r in _catalog(one).references}
        blind_spot = self._blind_spot(found[0])
        progress.report("catalog", 1, 1)
        return tuple(
            replace(
                one,
                catalog=replace(
                    _catalog(one), is_referenced=one.name in referred, blind_spot=blind_spot
                ),
            )
            for one in found
        )

    def sample_rows(self, entity: FoundEntity, max_rows: int) -> Iterator[pa.RecordBatch]:
        """See SampleSource; read-only, and cancelled after two minutes."""
        relation = self._relations[entity.name]
        names = tuple(field.name for field in entity.fields)
        reader = self._product.relation(self._untyped(entity, max_rows), self._connection)
        try:
            for batch in reader.read(Selection(names)):
                yield with_place(batch, ".".join(relation.place), None)
        except HeadraceError as error:
            self._problems[entity.name].append(f"no sample could be read: {error}; {error.fix}")

    def problems_of(self, entity: FoundEntity) -> tuple[str, ...]:
        """What was met while it was sampled."""
        return tuple(self._problems[entity.name])

    def statistics(self, entity: FoundEntity) -> TableStatistics:
        """See SampleSource: the planner's estimate of rows."""
        relation = self._relations[entity.name]
        return TableStatistics(relation.rows, relation.size_bytes)

    def _chosen(self, found: Sequence[FoundRelation]) -> list[FoundRelation]:
        dotted = [one for one in found if "." in "".join(one.place)]
        of_tools = [one for one in found if _OF_TOOLS.fullmatch(one.place[1])]
        self.notes = tuple(
            f"{one.name} is left out: declare it with `query`, since its name has a point"
            for one in dotted
        )
        self.notes += tuple(
            f"{one.name} is left out: a tool keeps its state in it" for one in of_tools
        )
        chosen = [one for one in found if one not in dotted and one not in of_tools and one.columns]
        if self._wanted:
            chosen = [one for one in chosen if any(_is_called(one, name) for name in self._wanted)]
        if not chosen:
            called = f" called {', '.join(self._wanted)}" if self._wanted else ""
            raise ConfigError(
                f"{self.title}: there is no table{called} that the user may read",
                fix="grant usage on the schema and select on the tables to the connection's user",
            )
        return chosen

    def _found(self, name: str, found: FoundRelation) -> FoundEntity:
        own = self._names[name]
        fields = tuple(_field(own[column.name], column) for column in found.columns)
        size = "" if found.rows is None else f", about {found.rows:,} rows"
        return FoundEntity(
            name=name,
            extract={"mode": "full", "table": ".".join(found.place)},
            fields=fields,
            is_typed=True,
            options={"description": found.comment} if found.comment else {},
            evidence=(f"{found.kind}{size}",),
            catalog=Catalog(
                key=tuple(own[c] for c in found.key),
                key_kind="primary key" if found.is_primary else "unique index",
                unique=tuple(tuple(own[c] for c in key) for key in found.unique),
                references=self._references(name, found),
                filled={own[c.name]: c.filled for c in found.columns if c.filled},
                indexed=tuple(own[c] for c in found.indexed if c in own),
                rows=found.rows,
                is_appended=found.is_appended,
            ),
        )

    def _references(self, name: str, found: FoundRelation) -> tuple[Reference, ...]:
        by_place = {one.place: other for other, one in self._relations.items()}
        references = []
        for key in found.references:
            if other := by_place.get(key.relation):
                columns = tuple(self._names[name][c] for c in key.columns)
                keys = tuple(self._names[other][c] for c in key.keys)
                references.append(Reference(columns, other, keys))
        return tuple(references)

    def _blind_spot(self, entity: FoundEntity) -> str:
        """What lets the user see the transactions of others; '' if it does."""
        reader = self._product.relation(self._untyped(entity, 1), self._connection)
        try:
            with reader.look() as snapshot:
                horizon = snapshot.horizon()
        except HeadraceError:
            return ""  # The sample says what is wrong.
        return "" if horizon.sees_all else horizon.remedy

    def _untyped(self, entity: FoundEntity, rows: int) -> TableEntity:
        """The entity with each column as the database has it, and a sample for its rows."""
        relation = self._relations[entity.name]
        query = self._product.sample(relation, [f.source_name for f in entity.fields], rows)
        columns = [{"name": f.name, "from": f.source_name, "type": f.type} for f in entity.fields]
        document = {
            "name": entity.name,
            "extract": {"mode": "full", "query": query},
            "key": [POSITION],
            "columns": columns,
        }
        source = {"name": "assessed", "connector": self.connector, **self.options}
        return DatabaseSource.model_validate({**source, "entities": [document]}).entities[0]


def _catalog(entity: FoundEntity) -> Catalog:
    return entity.catalog or Catalog()


def _columns(found: FoundRelation) -> list[str]:
    return [column.name for column in found.columns]


def _is_called(found: FoundRelation, name: str) -> bool:
    return fnmatchcase(found.place[1], name) or fnmatchcase(".".join(found.place), name)


def _entity_names(places: Sequence[tuple[str, str]]) -> list[str]:
    """A name for each table: its own, with its schema where two schemas have one of that name."""
    short = [snake_case(table, "rows", _MOST_NAME) for _, table in places]
    names: list[str] = []
    for (schema, table), base in zip(places, short, strict=True):
        if short.count(base) > 1:
            base = snake_case(f"{schema}_{table}", "rows", _MOST_NAME)  # noqa: PLW2901
        options = (base, *(f"{base}_{i}" for i in range(2, len(places) + 2)))
        names.append(next(text for text in options if text not in names))
    return names


def _field(name: str, column: FoundColumn) -> SourceField:
    """A column as it is sampled: numbers of any size as text, so that none is lost."""
    kind = column.type
    fits: tuple[str, ...] = ()
    if kind == NUMERIC:
        kind, fits = "string", ("decimal",)
    elif kind == TINYINT:
        kind, fits = "int", ("boolean",)
    elif kind == BIGINT_UNSIGNED:
        kind = "bigint"
    return SourceField(
        name,
        column.name,
        kind,
        {"description": column.comment} if column.comment else {},
        column.database_type if kind == "string" and column.database_type != "text" else "",
        is_declared=column.type != NUMERIC,
        is_nullable=column.is_nullable,
        fits=fits,
    )
