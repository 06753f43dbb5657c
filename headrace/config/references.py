"""Checks across the files of a configuration: names and days that must agree."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

from headrace.config.entities.entity import SourceConfig
from headrace.config.entities.lookups import lookup_problems, with_lookups
from headrace.config.model import unknown_name
from headrace.config.settings import (
    AnyConnection,
    DemoConnection,
    PartitionSettings,
    Settings,
)
from headrace.config.sources.rest_connection import RestConnection
from headrace.config.sources.sftp_connection import SftpConnection
from headrace.config.star.models import CalendarConfig, DimensionConfig, FactConfig, StarConfig
from headrace.config.star.partition_grains import with_partitions
from headrace.config.star.references import star_problems
from headrace.warehouse.identifiers import MOST_COLUMNS, MOST_KEY_COLUMNS, SYSTEM_COLUMNS

Fault = tuple[str, str]

# Surrogate key, validity interval and flags; date_key.
_OF_A_DIMENSION = 7
_OF_A_FACT = 1


def project_problems(
    settings: Settings, star: StarConfig, sources: Mapping[Path, SourceConfig]
) -> Iterator[Fault]:
    """Each fault: the file's path below the configuration's folder, and the message.

    Args:
        settings: Of the environment.
        star: The star.
        sources: By file.
    """
    yield from _source_problems(sources)
    yield from _connection_problems(settings, sources)
    declared = {f"{s.name}.{e.name}": e for s in sources.values() for e in s.entities}
    entities = with_lookups(declared)
    files = {
        f"{source.name}.{entity.name}": f"sources/{path.name}"
        for path, source in sources.items()
        for entity in source.entities
    }
    for name, what in lookup_problems(with_partitions(star, entities)):
        yield files[name], what
    for what in star_problems(star, entities):
        yield "star.yaml", what
    for what in target_problems(star):
        yield "star.yaml", what
    for what in calendar_problems(star.calendar, settings.partitions):
        yield "star.yaml", what


def calendar_problems(
    calendar: CalendarConfig, partitions: PartitionSettings, today: date | None = None
) -> Iterator[str]:
    """Days that exist but are not in the calendar, so that their facts would refer to no row.

    Args:
        calendar: The date dimension.
        partitions: The days that exist.
        today: The day after the last one, if `partitions` has no end; None: no check of the end.
    """
    if calendar.start > partitions.start:
        yield (
            f"calendar.start: {calendar.start} lies after partitions.start, {partitions.start}: "
            "begin the calendar on that day or before it"
        )
    after = partitions.end or today
    if after is None or calendar.end < calendar.start:
        return
    last = after - timedelta(days=1)
    if calendar.end < last:
        named = "partitions.end" if partitions.end else "the last day that exists today"
        yield (
            f"calendar.end: {calendar.end} lies before {named}, {after if partitions.end else last}"
            ": facts of later days would be held; let the calendar end on the last day or after it"
        )


def _source_problems(sources: Mapping[Path, SourceConfig]) -> Iterator[Fault]:
    files: dict[str, Path] = {}
    tables: dict[str, str] = {}
    for path, source in sources.items():
        place = f"sources/{path.name}"
        first = files.setdefault(source.name, path)
        if first != path:
            yield place, f"name: source '{source.name}' is declared twice, in {first.name} too"
            continue
        for i, entity in enumerate(source.entities):
            whole, table = f"{source.name}.{entity.name}", f"{source.name}_{entity.name}"
            other = tables.setdefault(table, whole)
            if other != whole:
                both = f"{whole} and {other} would share the table {table}: rename one of them"
                yield place, f"entities[{i}].name: {both}"


def _connection_problems(
    settings: Settings, sources: Mapping[Path, SourceConfig]
) -> Iterator[Fault]:
    for path, source in sources.items():
        name = getattr(source, "connection", None)
        if name is None:
            continue
        place = f"sources/{path.name}"
        connection = settings.connections.get(name)
        if connection is None:
            what = unknown_name(name, settings.connections)
            yield place, f"connection: {what} under `connections` in base.yaml"
        elif source.connector not in (of := _readers_of(connection))[1]:
            what = f"{name} is {of[0]}, which connector {source.connector} cannot read"
            yield place, f"connection: {what}: name another one, or correct its kind in base.yaml"


def _readers_of(connection: AnyConnection) -> tuple[str, frozenset[str]]:
    """What a connection leads to, and the connectors that read it."""
    if isinstance(connection, RestConnection):
        return "an API (kind: rest)", frozenset({"rest"})
    if isinstance(connection, SftpConnection):
        return "an SFTP server (kind: sftp)", frozenset({"files", "parquet_files"})
    if isinstance(connection, DemoConnection):
        reader = "postgres" if connection.is_database else "rest"
        return f"the demo's {connection.server}", frozenset({reader})
    return "a database", frozenset({"postgres", "mysql", "mongodb"})


def target_problems(star: StarConfig) -> Iterator[str]:
    """Each declaration that Postgres would refuse, after its path in star.yaml."""
    yield from _names_of_parts(star)
    for i, dim in enumerate(star.dimensions):
        yield from _dimension_problems(f"dimensions[{i}]", dim)
    for i, fact in enumerate(star.facts):
        yield from _fact_problems(f"facts[{i}]", fact)


def _names_of_parts(star: StarConfig) -> Iterator[str]:
    """Table names that a monthly partition or an index of another table would have, too."""
    places = [("calendar", star.calendar.name)]
    places += [(f"dimensions[{i}]", dim.name) for i, dim in enumerate(star.dimensions)]
    places += [(f"facts[{i}]", fact.name) for i, fact in enumerate(star.facts)]
    for where, name in places:
        for _, other in places:
            if name.startswith(f"{other}__"):
                yield (
                    f"{where}.name: '{name}': names that begin with '{other}__' are those of "
                    f"{other}'s months and indexes; use one underscore"
                )


def _dimension_problems(where: str, dim: DimensionConfig) -> Iterator[str]:
    for kind in ("natural_key", "attributes", "type1", "untracked"):
        for name in getattr(dim, kind):
            if name in SYSTEM_COLUMNS:
                yield (
                    f"{where}.{kind}.{name}: Postgres has a column '{name}' of its own in every "
                    f"table: call it otherwise, such as `{name}_: {getattr(dim, kind)[name]}`"
                )
    for name, value in dim.unknown_values.items():
        if isinstance(value, str) and "\0" in value:
            yield f"{where}.unknown.{name}: has a NUL character, which Postgres does not store"
    count = len(dim.natural_key) + len(dim.shown) + _OF_A_DIMENSION
    yield from _too_many(where, count)
    yield from _too_long_a_key(f"{where}.natural_key", [*dim.natural_key])


def _fact_problems(where: str, fact: FactConfig) -> Iterator[str]:
    named = {"columns": fact.columns, "measures": fact.measures, "dates": tuple(fact.dates)}
    for kind, names in named.items():
        for name in names:
            if name in SYSTEM_COLUMNS:
                yield (
                    f"{where}.{kind}: Postgres has a column '{name}' of its own in every table: "
                    f"give {fact.entity}'s another name, such as "
                    f"`{{name: {name}_, from: {name}}}`"
                )
    count = sum(map(len, named.values())) + len(fact.dimensions) + _OF_A_FACT
    yield from _too_many(where, count)
    if fact.load == "upsert":
        yield from _too_long_a_key(f"{where}.grain", ["date_key", *fact.grain])
    if fact.keep_months is not None and fact.load != "partition_replace":
        yield (
            f"{where}.keep_months: needs `load: partition_replace`: only a table that is cut into "
            "months loses old ones"
        )


def _too_many(where: str, columns: int) -> Iterator[str]:
    if columns > MOST_COLUMNS:
        yield f"{where}: {columns} columns: Postgres takes up to {MOST_COLUMNS}, leave some out"


def _too_long_a_key(where: str, columns: Sequence[str]) -> Iterator[str]:
    if len(columns) > MOST_KEY_COLUMNS:
        yield (
            f"{where}: an index of {len(columns)} columns: Postgres takes up to {MOST_KEY_COLUMNS}"
        )
