"""What the star says of sources: every column that it names is there and of a type that fits.

Belongs here: looking up the star's names among entities.
Elsewhere: what a model can see by itself (headrace.config.star), what a kind of fact demands
(headrace.config.fact_kinds), reading files (headrace.config.loading).
"""

from collections.abc import Iterator, Mapping

from headrace.config.fact_kinds import kind_problems
from headrace.config.outriggers import outrigger_problems
from headrace.config.sources import PLACE_COLUMNS, EntityConfig
from headrace.config.star import DimensionConfig, FactConfig, FactDimension, StarConfig

_TIMES = ("date", "timestamp", "timestamptz")
# Keys of one kind equal each other on every engine; all others would be cast, each in its own way.
_KINDS = {"int": "whole numbers", "bigint": "whole numbers"}

Entities = Mapping[str, EntityConfig]


def star_problems(star: StarConfig, entities: Entities) -> Iterator[str]:
    """Each name of the star that leads nowhere, after its path in star.yaml.

    Args:
        star: The star.
        entities: `source.entity` to what it is.
    """
    for i, dim in enumerate(star.dimensions):
        yield from _dimension_problems(f"dimensions[{i}]", dim, entities)
    yield from outrigger_problems(star.dimensions)
    for i, dim in enumerate(star.dimensions):
        yield from _other_key_types(f"dimensions[{i}].outriggers", dim, star, entities)
    for i, fact in enumerate(star.facts):
        yield from _fact_problems(f"facts[{i}]", fact, star, entities)


def _dimension_problems(where: str, dim: DimensionConfig, entities: Entities) -> Iterator[str]:
    shown = {**dim.natural_key, **dim.attributes, **dim.overwritten}
    times = [dim.effective_time] if dim.effective_time else []
    yield from _missing(where, dim.entity, entities, [*shown.values(), *times, *dim.source_order])
    yield from _no_times(f"{where}.effective_time", dim.entity, entities, times)


def _fact_problems(
    where: str, fact: FactConfig, star: StarConfig, entities: Entities
) -> Iterator[str]:
    dimensions = {dimension.name: dimension for dimension in star.dimensions}
    used = [*fact.grain, *fact.columns, *fact.measures]
    times = [*([fact.event_time] if fact.event_time else []), *fact.dates.values()]
    if fact.entity in entities:
        yield from kind_problems(where, fact, entities[fact.entity])
    lacking = [name for name in fact.grain if name not in fact.columns]
    if fact.load == "upsert" and lacking:
        yield f"{where}.columns: lacks {', '.join(lacking)}: `load: upsert` keys rows by the grain"
    for join in fact.dimensions:
        used += join.natural_key.values()
        times += [join.event_time] if join.event_time else []
        dim = dimensions.get(join.dimension)
        if dim is None:
            known = ", ".join(dimensions) or "no dimension"
            yield f"{where}.dimensions: '{join.dimension}' is not one of {known}"
        elif {*join.natural_key} != {*dim.natural_key}:
            key = ", ".join(dim.natural_key)
            yield f"{where}.dimensions: {join.dimension} is joined on {key}"
        else:
            yield from _other_kinds(f"{where}.dimensions", join, fact, dim, entities)
    yield from _missing(where, fact.entity, entities, [*used, *times])
    yield from _no_times(where, fact.entity, entities, times)


def _missing(where: str, entity: str, entities: Entities, columns: list[str]) -> Iterator[str]:
    if entity not in entities:
        yield f"{where}.entity: '{entity}' is not one of {', '.join(entities)}"
        return
    known = {*PLACE_COLUMNS, *(column.name for column in entities[entity].columns)}
    for column in dict.fromkeys(columns):
        if column not in known:
            yield f"{where}: {entity} has no column '{column}'"


def _no_times(where: str, entity: str, entities: Entities, columns: list[str]) -> Iterator[str]:
    for column in dict.fromkeys(columns):
        kind = _type(entity, column, entities)
        if kind is not None and kind not in _TIMES:
            yield f"{where}: '{column}' of {entity} is a {kind}, not a date or timestamp"


def _other_kinds(
    where: str, join: FactDimension, fact: FactConfig, dim: DimensionConfig, entities: Entities
) -> Iterator[str]:
    for name, column in join.natural_key.items():
        ours = _type(fact.entity, column, entities)
        theirs = _type(dim.entity, dim.natural_key[name], entities)
        yield from _clash(
            where, f"'{column}' of {fact.entity}", ours, f"{name} of {dim.name}", theirs
        )


def _other_key_types(
    where: str, dim: DimensionConfig, star: StarConfig, entities: Entities
) -> Iterator[str]:
    dimensions = {dimension.name: dimension for dimension in star.dimensions}
    columns = {**dim.natural_key, **dim.attributes, **dim.overwritten}
    for outrigger in dim.outriggers:
        target = dimensions.get(outrigger.dimension)
        for name, column in outrigger.natural_key.items() if target else ():
            if target is None or name not in target.natural_key or column not in columns:
                continue  # said already
            ours = _type(dim.entity, columns[column], entities)
            theirs = _type(target.entity, target.natural_key[name], entities)
            yield from _clash(
                where, f"'{column}' of {dim.name}", ours, f"{name} of {target.name}", theirs
            )


def _clash(where: str, one: str, ours: str | None, other: str, theirs: str | None) -> Iterator[str]:
    if ours is None or theirs is None:
        return
    if _KINDS.get(ours, ours) != _KINDS.get(theirs, theirs):
        yield f"{where}: {one} is a {ours}, but {other} is a {theirs}: declare both of one type"


def _type(entity: str, column: str, entities: Entities) -> str | None:
    columns = entities[entity].columns if entity in entities else ()
    return {c.name: c.type for c in columns}.get(column)
