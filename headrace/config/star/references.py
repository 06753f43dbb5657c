"""Checks the star's references to sources: columns exist, and their types fit."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from headrace.config.entities.columns import KEY_FORMS, Form
from headrace.config.entities.entity import EntityConfig
from headrace.config.model import did_you_mean, unknown_name
from headrace.config.star.dimension_entities import entity_problems, snapshot_problems
from headrace.config.star.models import (
    DimensionConfig,
    FactConfig,
    FactDimension,
    Scalar,
    StarConfig,
    key_of_a_column,
)
from headrace.config.star.outriggers import outrigger_problems
from headrace.config.star.partition_grains import grain_problems
from headrace.lineage_schema import PLACE
from headrace.schema import decimal_parts

Entities = Mapping[str, EntityConfig]
Clock = Literal["an instant", "a local time without a zone", "a day in UTC"]

_TIMES = ("date", "timestamp", "timestamptz")
# Keys of one kind compare alike on both engines. Other pairs would be cast, differently on each.
_NUMBERS = ("int", "bigint", "double")
_KINDS = {"int": "whole numbers", "bigint": "whole numbers"}


def star_problems(star: StarConfig, entities: Entities) -> Iterator[str]:
    """Each wrong reference of the star, after its path in star.yaml.

    Args:
        star: The star.
        entities: By `source.entity`.
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
    yield from grain_problems(star, entities)


def with_fact_times(star: StarConfig, entities: Entities) -> StarConfig:
    """The star; a fact without an event time gets the column that determines its entity's days."""

    def dated(fact: FactConfig) -> FactConfig:
        entity = entities.get(fact.entity)
        column = entity.day_column if entity is not None and not fact.is_snapshot else None
        if fact.event_time is not None or column is None:
            return fact
        return fact.model_copy(update={"event_time": column})

    return star.model_copy(update={"facts": tuple(map(dated, star.facts))})


def with_event_times(star: StarConfig, entities: Entities) -> dict[str, EntityConfig]:
    """The entities; one without an event time gets that of a fact built from it.

    A row of another day than its file is then quarantined. Otherwise the fact would have it on the
    other day, and loading either day would drop it or fail.
    """
    named: dict[str, str] = {}
    for fact in star.facts:
        if fact.event_time is not None:
            named.setdefault(fact.entity, fact.event_time)
    return {
        name: entity.model_copy(update={"event_time": named[name]})
        if entity.day_column is None
        and named.get(name) in {c.name for c in entity.processed_columns}
        else entity
        for name, entity in entities.items()
    }


def with_joined_columns(star: StarConfig, entities: Entities) -> dict[str, EntityConfig]:
    """The entities; columns by which the star joins are normalized like keys.

    Otherwise a key that looks like another but differs in its bytes would be an inferred member.

    Args:
        star: The star.
        entities: By source.entity.
    """
    joined = _joined_columns(star)
    return {
        name: entity.with_joined(joined[name]) if name in joined else entity
        for name, entity in entities.items()
    }


def _joined_columns(star: StarConfig) -> dict[str, frozenset[str]]:
    """By source.entity: columns that natural keys and foreign keys of the star are made from."""
    found: dict[str, set[str]] = {}
    for dim in star.dimensions:
        shown = {**dim.natural_key, **dim.attributes, **dim.type1}
        for entity in dim.entities:
            names = found.setdefault(entity, set())
            names |= {*dim.natural_key.values()}
            for outrigger in dim.outriggers:
                names |= {shown[name] for name in outrigger.natural_key.values() if name in shown}
    for fact in star.facts:
        names = found.setdefault(fact.entity, set())
        names |= {*fact.grain}
        for join in fact.dimensions:
            names |= {*join.natural_key.values()}
    return {entity: frozenset(names) for entity, names in found.items()}


def _no_values(star: StarConfig, entities: Entities) -> Iterator[str]:
    """Values of row access that no row of the column can have."""
    dimensions = {dimension.name: dimension for dimension in star.dimensions}
    for i, rule in enumerate(star.row_access):
        dim = dimensions[rule.dimension]
        column = {**dim.natural_key, **dim.shown}[rule.column]
        kind = _dimension_type(dim, column, entities)
        for value in rule.values:
            if kind is not None and not _is_a(value, kind):
                yield f"row_access[{i}].values: {value!r} is no {kind}, as {rule.column} is"


def _taken_names(star: StarConfig) -> Iterator[str]:
    """Repeated table names: dimensions, facts and the calendar share a namespace."""
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
        **{
            f"{key}.{name}": [column]
            for key in ("natural_key", "attributes", "type1", "untracked")
            for name, column in getattr(dim, key).items()
        },
        "effective_time": times,
        "sequence": [dim.sequence] if dim.sequence else [],
        "source_order": dim.source_order,
    }
    # `entity_problems` checks columns that another entity has.
    further = [entities[name] for name in dim.further_entities if name in entities]
    elsewhere = {column.name for entity in further for column in entity.processed_columns}
    only_here = {key: [c for c in names if c not in elsewhere] for key, names in used.items()}
    yield from _missing(where, dim.entity, entities, only_here)
    yield from _no_times(f"{where}.effective_time", dim.entity, entities, times)
    yield from entity_problems(where, dim, entities)
    yield from snapshot_problems(where, dim, entities)
    for name in dim.entities:
        if name in entities:
            yield from _one_change_a_day(where, dim, name, entities[name])
    if dim.entity in entities:
        yield from _no_sequence(where, dim, entities[dim.entity])
    for name, value in dim.unknown_values.items():
        kind = _dimension_type(dim, shown.get(name, ""), entities)
        if kind is not None and not _is_a(value, kind):
            yield f"{where}.unknown.{name}: {value!r} is no {kind}"


def _one_change_a_day(
    where: str, dim: DimensionConfig, name: str, entity: EntityConfig
) -> Iterator[str]:
    """An entity's key by which deduplication would keep one change of a member a day."""
    if dim.effective_time is None or dim.full_snapshot:
        return
    # What the dimension shows of a member is no number of a change, unless it orders changes.
    shown = {*dim.natural_key.values(), *dim.shown.values()} - {*dim.tie_breakers}
    if {*entity.key} <= shown - {dim.effective_time} | {"_source_object"}:
        yield (
            f"{where}.effective_time: of a day's rows with one {', '.join(entity.key)} only the "
            f"last is kept, so earlier changes of a member would be lost: add "
            f"'{dim.effective_time}' or '_source_position' to the key of {name}"
        )


def _no_sequence(where: str, dim: DimensionConfig, entity: EntityConfig) -> Iterator[str]:
    column = next((c for c in entity.processed_columns if c.name == dim.sequence), None)
    if column is None:
        return
    if column.type not in ("int", "bigint"):
        yield f"{where}.sequence: '{column.name}' is a {column.type}, not an int or bigint"
    elif not (column.required or column.name in entity.key):
        yield (
            f"{where}.sequence: '{column.name}' may be missing: a row without a number has no "
            "place; say `required: true`"
        )


def _other_orders(star: StarConfig) -> Iterator[str]:
    """Dimensions of one entity with different orders: deduplication of a day needs one order."""
    first: dict[str, DimensionConfig] = {}
    for i, dim in enumerate(star.dimensions):
        for entity in dim.entities if dim.tie_breakers else ():
            other = first.setdefault(entity, dim)
            if other.tie_breakers != dim.tie_breakers:
                yield (
                    f"dimensions[{i}].source_order: {', '.join(dim.tie_breakers)} here, "
                    f"{', '.join(other.tie_breakers)} in {other.name}: rows of {entity} have "
                    "one order"
                )


def _fact_problems(
    where: str, fact: FactConfig, star: StarConfig, entities: Entities
) -> Iterator[str]:
    dimensions = {dimension.name: dimension for dimension in star.dimensions}
    used = {
        "grain": fact.grain,
        "event_time": [fact.event_time] if fact.event_time else [],
        **{f"dates.{name}": [column] for name, column in fact.dates.items()},
        "columns": fact.columns,
        "measures": fact.measures,
        **{
            f"dimensions[{i}].{key}": columns
            for i, join in enumerate(fact.dimensions)
            for key, columns in _columns_of(join).items()
        },
    }
    times = {"event_time": [fact.event_time] if fact.event_time else []}
    times |= {f"dates.{name}": [column] for name, column in fact.dates.items()}
    if fact.entity in entities:
        yield from _kind_problems(where, fact, entities[fact.entity])
        yield from _other_days(where, fact, entities[fact.entity])
    yield from _taken_key(where, fact, dimensions)
    lacking = [name for name in fact.grain if name not in fact.columns]
    if repeated := sorted({name for name in fact.grain if fact.grain.count(name) > 1}):
        yield f"{where}.grain: {', '.join(repeated)} stands there twice"
    yield from _no_measures(where, fact, entities)
    if fact.load == "upsert" and lacking:
        yield f"{where}.columns: lacks {', '.join(lacking)}: `load: upsert` keys rows by the grain"
    for i, join in enumerate(fact.dimensions):
        times[f"dimensions[{i}].event_time"] = [join.event_time] if join.event_time else []
        dim, place = dimensions.get(join.dimension), f"{where}.dimensions[{i}]"
        if dim is None:
            yield f"{place}.dimension: {unknown_name(join.dimension, dimensions)}"
        elif {*join.natural_key} != {*dim.natural_key}:
            key = ", ".join(f"{name}: …" for name in dim.natural_key)
            yield (
                f"{place}.natural_key: {join.dimension} is joined on its whole natural key: write "
                f"{{{key}}}, each with a column of {fact.entity}"
            )
        else:
            yield from _other_kinds(f"{place}.natural_key", join, fact, dim, entities)
            yield from _clock_problems(place, fact, join, dim, entities)
            yield from _form_problems(f"{place}.natural_key", fact, join, dim, entities)
    yield from _missing(where, fact.entity, entities, used)
    for key, columns in times.items():
        yield from _no_times(f"{where}.{key}", fact.entity, entities, columns)


def _kind_problems(where: str, fact: FactConfig, entity: EntityConfig) -> Iterator[str]:
    """Each option of a fact that does not fit its kind, after its path in star.yaml.

    Args:
        where: Path of the fact.
        fact: The fact.
        entity: Its entity.
    """
    if not fact.is_snapshot:
        yield from _transaction_problems(where, fact)
        return
    times = [fact.event_time, *(join.event_time for join in fact.dimensions)]
    for time in dict.fromkeys(filter(None, times)):
        yield f"{where}.event_time: '{time}': a periodic snapshot is joined as of each day's end"
    if unknown := sorted({*fact.additive} - {*fact.measures}):
        yield f"{where}.additive: {', '.join(unknown)}: not among the measures"
    if fact.accumulates and fact.additive:
        yield (
            f"{where}.additive: a snapshot of {fact.snapshot_of} has levels only: "
            f"declare {fact.additive[0]} as a measure of another fact"
        )
    if fact.snapshot_of == "changes" and {*fact.grain} != {*entity.key}:
        yield (
            f"{where}.grain: {', '.join(fact.grain)} is not the key of {fact.entity}: write "
            f"[{', '.join(entity.key)}], so that one row of a day is the state of one key"
        )
    if fact.snapshot_of == "movements":
        yield from _movement_problems(where, fact, entity)


def _transaction_problems(where: str, fact: FactConfig) -> Iterator[str]:
    if fact.event_time is None:
        yield (
            f"{where}.event_time: is missing: name the column that says when a row happened, here "
            f"or as event_time of {fact.entity}"
        )
    for key in sorted({"snapshot_of", "additive"} & fact.model_fields_set):
        yield f"{where}.{key}: is for facts of kind periodic_snapshot only: drop it"


def _movement_problems(where: str, fact: FactConfig, entity: EntityConfig) -> Iterator[str]:
    # One row a day sums up many rows: its other columns must be equal in all of them.
    used = [*fact.columns, *fact.dates.values()]
    used += [column for join in fact.dimensions for column in join.natural_key.values()]
    for column in dict.fromkeys(used):
        if column not in fact.grain:
            yield f"{where}: '{column}' is not in the grain, so a sum of movements has no one value"
    types = {column.name: column.type for column in entity.processed_columns}
    for measure in fact.measures:
        kind = types.get(measure, "int")
        if kind not in {"int", "bigint"} and not decimal_parts(kind):
            # Sums of doubles depend on the order of addition, so on the order of days.
            yield f"{where}.measures: '{measure}' is a {kind}: only int, bigint, decimal add up"


@dataclass(frozen=True)
class _Time:
    """A time that is compared: a column of an entity, or its day, with its clock."""

    what: str
    clock: Clock
    has_zone: bool


def _clock_problems(
    where: str,
    fact: FactConfig,
    join: FactDimension,
    dim: DimensionConfig,
    entities: Entities,
) -> Iterator[str]:
    """A join that would compare a local time with an instant, or days of two zones.

    A day without a zone begins at midnight of the clock that it is compared with.
    """
    if fact.entity not in entities or dim.entity not in entities:
        return  # reported already
    event = None if fact.is_snapshot else join.event_time or fact.event_time
    ours = _time(fact.entity, event, entities[fact.entity])
    theirs = _time(dim.entity, dim.effective_time, entities[dim.entity])
    if ours is None or theirs is None or ours.clock == theirs.clock:
        return
    if "a day in UTC" in {ours.clock, theirs.clock} and not (ours.has_zone or theirs.has_zone):
        return
    both = (((fact.entity,), ours), (dim.entities, theirs))
    lacking = [name for names, time in both if time.clock != "an instant" for name in names]
    yield (
        f"{where}: {ours.what} ({ours.clock}) would be compared with {theirs.what} "
        f"({theirs.clock}), where versions of {dim.name} begin: declare the `timezone` of "
        f"{' and '.join(lacking)}"
    )


def _time(name: str, column: str | None, entity: EntityConfig) -> _Time | None:
    kinds = {c.name: c.type for c in entity.processed_columns}
    if column is not None and column not in kinds:
        return None  # reported already
    kind = "date" if column is None else kinds[column]
    what = f"the day of {name}" if column is None else f"'{column}' of {name}"
    clock: Clock = "an instant"
    if entity.timezone is None and kind != "timestamptz":
        clock = "a day in UTC" if kind == "date" else "a local time without a zone"
    return _Time(what, clock, entity.timezone is not None)


def _form_problems(
    where: str,
    fact: FactConfig,
    join: FactDimension,
    dim: DimensionConfig,
    entities: Entities,
) -> Iterator[str]:
    """A join whose sides are normalized differently, so that equal texts may not match."""
    for name, column in join.natural_key.items():
        ours = _forms(fact.entity, column, entities)
        theirs = _forms(dim.entity, dim.natural_key[name], entities)
        if ours is not None and theirs is not None and {*ours} != {*theirs}:
            yield (
                f"{where}: '{column}' of {fact.entity} is normalized by {_shown(ours)}, but "
                f"{name} of {dim.name} by {_shown(theirs)}: declare `normalize` alike"
            )


def _forms(entity: str, name: str, entities: Entities) -> tuple[Form, ...] | None:
    columns = entities[entity].processed_columns if entity in entities else ()
    column = next((c for c in columns if c.name == name and c.type == "string"), None)
    if column is None:
        return None
    return KEY_FORMS if column.normalize is None else column.normalize


def _shown(forms: tuple[Form, ...]) -> str:
    return ", ".join(forms) or "nothing"


def _taken_key(
    where: str, fact: FactConfig, dimensions: Mapping[str, DimensionConfig]
) -> Iterator[str]:
    """A default event time whose name is that of a key; StarConfig refuses declared names."""
    joins = [join for join in fact.dimensions if join.dimension in dimensions]
    keys = [join.key_column(dimensions[join.dimension]) for join in joins]
    if what := key_of_a_column(fact, keys):
        yield f"{where}.{what}"


def _other_days(where: str, fact: FactConfig, entity: EntityConfig) -> Iterator[str]:
    """A fact whose event time is not the column that determines the entity's partitions."""
    types = {column.name: column.type for column in entity.columns}
    if fact.event_time is None or types.get(fact.event_time) not in _TIMES:
        return  # Reported elsewhere.
    if entity.extract.day_of_object == "time":
        yield (
            f"{where}.event_time: neither files nor rows of {fact.entity} say a day: give its "
            f"extract `partition_by: {fact.event_time}`"
        )
    elif entity.day_column not in {None, fact.event_time}:
        yield (
            f"{where}.event_time: is {fact.event_time}, but a row of {fact.entity} is of the day "
            f"of its {entity.day_column}: use that, and declare {fact.event_time} under `dates`"
        )


def _columns_of(join: FactDimension) -> dict[str, list[str]]:
    """Columns of the entity that a join names, by its key."""
    times = [join.event_time] if join.event_time else []
    return {"natural_key": [*join.natural_key.values()], "event_time": times}


def _missing(
    where: str, entity: str, entities: Entities, used: Mapping[str, Iterable[str]]
) -> Iterator[str]:
    """Columns that the entity lacks, by the key of the declaration that names them."""
    if entity not in entities:
        yield f"{where}.entity: {unknown_name(entity, entities)}"
        return
    known = {*PLACE, *(column.name for column in entities[entity].processed_columns)}
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
        return  # `_movement_problems` checks them
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
        theirs = _dimension_type(dim, dim.natural_key[name], entities)
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
                continue  # reported already
            ours = _dimension_type(dim, columns[column], entities)
            theirs = _dimension_type(target, target.natural_key[name], entities)
            yield from _clash(
                where, f"'{column}' of {dim.name}", ours, f"{name} of {target.name}", theirs
            )


def _clash(where: str, one: str, ours: str | None, other: str, theirs: str | None) -> Iterator[str]:
    if ours is None or theirs is None:
        return
    if _KINDS.get(ours, ours) != _KINDS.get(theirs, theirs):
        yield f"{where}: {one} is a {ours}, but {other} is a {theirs}: declare both of one type"


def _dimension_type(dim: DimensionConfig, column: str, entities: Entities) -> str | None:
    """Type of a column in the first of the dimension's entities that has it."""
    kinds = (_type(name, column, entities) for name in dim.entities)
    return next((kind for kind in kinds if kind is not None), None)


def _type(entity: str, column: str, entities: Entities) -> str | None:
    columns = entities[entity].processed_columns if entity in entities else ()
    return {c.name: c.type for c in columns}.get(column)
