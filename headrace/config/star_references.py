"""What the star says of sources: every column that it names is there and of a type that fits.

Belongs here: looking up the star's names among entities.
Elsewhere: what a model can see by itself (headrace.config.star), what a kind of fact demands
(headrace.config.fact_kinds), reading files (headrace.config.loading).
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal

from headrace.config.fact_kinds import kind_problems
from headrace.config.joined_columns import form_problems
from headrace.config.names import did_you_mean, unknown_name
from headrace.config.outriggers import outrigger_problems
from headrace.config.sources import PLACE_COLUMNS, EntityConfig
from headrace.config.star import DimensionConfig, FactConfig, FactDimension, Scalar, StarConfig
from headrace.config.star_clocks import clock_problems
from headrace.schema import decimal_parts

_TIMES = ("date", "timestamp", "timestamptz")
# Keys of one kind equal each other on every engine; all others would be cast, each in its own way.
_NUMBERS = ("int", "bigint", "double")
_KINDS = {"int": "whole numbers", "bigint": "whole numbers"}

Entities = Mapping[str, EntityConfig]


def star_problems(star: StarConfig, entities: Entities) -> Iterator[str]:
    """Each name of the star that leads nowhere, after its path in star.yaml.

    Args:
        star: The star.
        entities: `source.entity` to what it is.
    """
    yield from _taken_names(star)
    for i, dim in enumerate(star.dimensions):
        yield from _dimension_problems(f"dimensions[{i}]", dim, entities)
    yield from _other_orders(star)
    yield from outrigger_problems(star.dimensions)
    for i, dim in enumerate(star.dimensions):
        yield from _other_key_types(f"dimensions[{i}].outriggers", dim, star, entities)
    for i, fact in enumerate(star.facts):
        yield from _fact_problems(f"facts[{i}]", fact, star, entities)
    yield from _no_values(star, entities)


def _no_values(star: StarConfig, entities: Entities) -> Iterator[str]:
    """Values of row access that no row of the column can have."""
    dimensions = {dimension.name: dimension for dimension in star.dimensions}
    for i, rule in enumerate(star.row_access):
        dim = dimensions[rule.dimension]
        column = {**dim.natural_key, **dim.shown}[rule.column]
        kind = _type(dim.entity, column, entities)
        for value in rule.values:
            if kind is not None and not _is_a(value, kind):
                yield f"row_access[{i}].values: {value!r} is no {kind}, as {rule.column} is"


def _taken_names(star: StarConfig) -> Iterator[str]:
    """Tables of one name: dimensions, facts and the calendar share a namespace."""
    places = [("calendar", star.calendar.name)]
    places += [(f"dimensions[{i}]", dim.name) for i, dim in enumerate(star.dimensions)]
    places += [(f"facts[{i}]", fact.name) for i, fact in enumerate(star.facts)]
    first: dict[str, str] = {}
    for where, name in places:
        taken = first.setdefault(name, where)
        if taken != where:
            yield f"{where}.name: '{name}' is the name of {taken} too: one table each"


def _dimension_problems(where: str, dim: DimensionConfig, entities: Entities) -> Iterator[str]:
    shown = {**dim.natural_key, **dim.shown}
    times = [dim.effective_time] if dim.effective_time else []
    used = {
        "natural_key": dim.natural_key.values(),
        "attributes": dim.attributes.values(),
        "overwritten": dim.overwritten.values(),
        "untracked": dim.untracked.values(),
        "effective_time": times,
        "sequence": [dim.sequence] if dim.sequence else [],
        "source_order": dim.source_order,
    }
    yield from _missing(where, dim.entity, entities, used)
    yield from _no_times(f"{where}.effective_time", dim.entity, entities, times)
    if dim.entity in entities:
        yield from _one_change_a_day(where, dim, entities[dim.entity])
        yield from _no_sequence(where, dim, entities[dim.entity])
    for name, value in dim.unknown_values.items():
        kind = _type(dim.entity, shown.get(name, ""), entities)
        if kind is not None and not _is_a(value, kind):
            yield f"{where}.unknown.{name}: {value!r} is no {kind}"


def _one_change_a_day(where: str, dim: DimensionConfig, entity: EntityConfig) -> Iterator[str]:
    """A key by which a day's changes of a member would be repeats of one row."""
    if dim.effective_time is None or dim.snapshot:
        return
    if {*entity.key} <= {*dim.natural_key.values(), "_file"}:
        yield (
            f"{where}.effective_time: of a day's rows with one {', '.join(entity.key)} only the "
            f"last is kept, so earlier changes of a member would be lost: add "
            f"'{dim.effective_time}' or '_line' to the key of {dim.entity}"
        )


def _no_sequence(where: str, dim: DimensionConfig, entity: EntityConfig) -> Iterator[str]:
    column = next((c for c in entity.columns if c.name == dim.sequence), None)
    if column is None:
        return
    if column.type not in ("int", "bigint"):
        yield f"{where}.sequence: '{column.name}' is a {column.type}, not an int or bigint"
    if not (column.required or column.name in entity.key):
        yield (
            f"{where}.sequence: '{column.name}' may be missing: a row without a number has no "
            "place; say `required: true`"
        )


def _other_orders(star: StarConfig) -> Iterator[str]:
    """Dimensions of one entity that order its rows differently: a day's repeats go by one order."""
    first: dict[str, DimensionConfig] = {}
    for i, dim in enumerate(star.dimensions):
        if dim.told_by:
            other = first.setdefault(dim.entity, dim)
            if other.told_by != dim.told_by:
                yield (
                    f"dimensions[{i}].source_order: {', '.join(dim.told_by)} here, "
                    f"{', '.join(other.told_by)} in {other.name}: rows of {dim.entity} have "
                    "one order"
                )


def _fact_problems(
    where: str, fact: FactConfig, star: StarConfig, entities: Entities
) -> Iterator[str]:
    dimensions = {dimension.name: dimension for dimension in star.dimensions}
    used = {
        "grain": fact.grain,
        "event_time": [fact.event_time] if fact.event_time else [],
        "dates": fact.dates.values(),
        "columns": fact.columns,
        "measures": fact.measures,
        "dimensions": [column for join in fact.dimensions for column in _columns_of(join)],
    }
    times = {"event_time": [fact.event_time] if fact.event_time else []}
    times |= {f"dates.{name}": [column] for name, column in fact.dates.items()}
    if fact.entity in entities:
        yield from kind_problems(where, fact, entities[fact.entity])
        yield from _other_days(where, fact, entities[fact.entity])
    lacking = [name for name in fact.grain if name not in fact.columns]
    if repeated := sorted({name for name in fact.grain if fact.grain.count(name) > 1}):
        yield f"{where}.grain: {', '.join(repeated)} stands there twice"
    yield from _no_measures(where, fact, entities)
    if fact.load == "upsert" and lacking:
        yield f"{where}.columns: lacks {', '.join(lacking)}: `load: upsert` keys rows by the grain"
    for join in fact.dimensions:
        times.setdefault("dimensions", []).extend(filter(None, (join.event_time,)))
        dim = dimensions.get(join.dimension)
        if dim is None:
            yield f"{where}.dimensions: {unknown_name(join.dimension, dimensions)}"
        elif {*join.natural_key} != {*dim.natural_key}:
            key = ", ".join(dim.natural_key)
            yield f"{where}.dimensions: {join.dimension} is joined on {key}, all of it and no more"
        else:
            yield from _other_kinds(f"{where}.dimensions", join, fact, dim, entities)
            yield from clock_problems(f"{where}.dimensions", fact, join, dim, entities)
            yield from form_problems(f"{where}.dimensions", fact, join, dim, entities)
    yield from _missing(where, fact.entity, entities, used)
    for key, columns in times.items():
        yield from _no_times(f"{where}.{key}", fact.entity, entities, columns)


def _other_days(where: str, fact: FactConfig, entity: EntityConfig) -> Iterator[str]:
    """The day of a fact's row and the day of its entity's partition are one."""
    if fact.event_time is None:
        return
    if entity.extract.day_of_file == "time":
        yield (
            f"{where}.event_time: neither files nor rows of {fact.entity} say a day: give its "
            f"extract `partition_by: {fact.event_time}`"
        )
    elif entity.day_column not in {None, fact.event_time}:
        yield (
            f"{where}.event_time: is {fact.event_time}, but a row of {fact.entity} is of the day "
            f"of its {entity.day_column}: use that, and declare {fact.event_time} under `dates`"
        )


def with_event_times(star: StarConfig, entities: Entities) -> dict[str, EntityConfig]:
    """The entities, those that name no time of their rows with the one that their facts name.

    So a row of another day than its file's is set aside, where a fact would put it into the other
    day, and the load of either day would drop it or fail for it.
    """
    named: dict[str, str] = {}
    for fact in star.facts:
        if fact.event_time is not None:
            named.setdefault(fact.entity, fact.event_time)
    return {
        name: entity.model_copy(update={"event_time": named[name]})
        if entity.day_column is None and named.get(name) in {c.name for c in entity.columns}
        else entity
        for name, entity in entities.items()
    }


def _columns_of(join: FactDimension) -> list[str]:
    return [*join.natural_key.values(), *([join.event_time] if join.event_time else [])]


def _missing(
    where: str, entity: str, entities: Entities, used: Mapping[str, Iterable[str]]
) -> Iterator[str]:
    """Columns that the entity lacks, by the key of the declaration that names them."""
    if entity not in entities:
        yield f"{where}.entity: {unknown_name(entity, entities)}"
        return
    known = {*PLACE_COLUMNS, *(column.name for column in entities[entity].columns)}
    for key, columns in used.items():
        for column in dict.fromkeys(columns):
            if column not in known:
                near = did_you_mean(column, known)
                yield f"{where}.{key}: {entity} has no column '{column}'{near}"


def _no_times(where: str, entity: str, entities: Entities, columns: list[str]) -> Iterator[str]:
    for column in dict.fromkeys(columns):
        kind = _type(entity, column, entities)
        if kind is not None and kind not in _TIMES:
            yield f"{where}: '{column}' of {entity} is a {kind}, not a date or timestamp"


def _no_measures(where: str, fact: FactConfig, entities: Entities) -> Iterator[str]:
    if fact.snapshot_of == "movements":
        return  # headrace.config.fact_kinds asks for more
    for measure in dict.fromkeys(fact.measures):
        kind = _type(fact.entity, measure, entities)
        if kind is not None and kind not in _NUMBERS and not decimal_parts(kind):
            yield (
                f"{where}.measures: '{measure}' of {fact.entity} is of type {kind}: measures are "
                "added up, so they are int, bigint, double or decimal; `columns` takes the others"
            )


def _is_a(value: Scalar, kind: str) -> bool:
    """Whether a value of the configuration can be cast to a column's type."""
    if kind == "string":
        return True
    if kind == "boolean" or isinstance(value, bool):
        return kind == "boolean" and isinstance(value, bool)
    try:
        if kind == "date":
            date.fromisoformat(str(value))
        elif kind in _TIMES:
            datetime.fromisoformat(str(value))
        else:
            (int if kind in _KINDS else Decimal)(value)
    except (ValueError, ArithmeticError):
        return False
    return True


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
    columns = {**dim.natural_key, **dim.shown}
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
