"""What the star demands of the warehouse that no Postgres gives."""

from collections.abc import Iterator, Sequence

from headrace.config.star import DimensionConfig, FactConfig, StarConfig
from headrace.warehouse.identifiers import MOST_COLUMNS, MOST_KEY_COLUMNS, SYSTEM_COLUMNS

# Surrogate key, validity interval and flags; date_key.
_OF_A_DIMENSION = 7
_OF_A_FACT = 1


def target_problems(star: StarConfig) -> Iterator[str]:
    """Each declaration that Postgres would refuse, after its path in star.yaml."""
    yield from _names_of_parts(star)
    for i, dim in enumerate(star.dimensions):
        yield from _dimension_problems(f"dimensions[{i}]", dim)
    for i, fact in enumerate(star.facts):
        yield from _fact_problems(f"facts[{i}]", fact)


def _names_of_parts(star: StarConfig) -> Iterator[str]:
    """Tables whose names those of another's months and indexes may be: they share a namespace."""
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
    for kind in ("natural_key", "attributes", "overwritten", "untracked"):
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
