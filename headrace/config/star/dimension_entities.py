"""Dimensions of several entities: the columns of their rows, and checks that the entities fit."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headrace.config.entities.entity import EntityConfig
from headrace.config.model import unknown_name
from headrace.config.star.models import DimensionConfig


def united_entity(dimension: DimensionConfig, entities: Sequence[EntityConfig]) -> EntityConfig:
    """The first entity, with the columns that it lacks and that the dimension takes from others.

    A column always has a value only if it has one in all of them.

    Args:
        dimension: The dimension.
        entities: Its entities, in their order.
    """
    first = entities[0]
    if len(entities) == 1:
        return first
    columns = {c.name: c for entity in reversed(entities) for c in entity.processed_columns}
    taken = {*dimension.entity_columns, *(column.name for column in first.processed_columns)}
    united = tuple(
        column.model_copy(update={"required": all(_fills(entity, name) for entity in entities)})
        for name, column in columns.items()
        if name in taken
    )
    return first.model_copy(
        update={
            "columns": united,
            "calculated": (),
            "lookups": (),
            "key": tuple(dimension.natural_key.values()),
        }
    )


def with_full_snapshots(
    star: dict[str, Any], entities: Mapping[str, EntityConfig]
) -> dict[str, Any]:
    """The values of star.yaml, with `full_snapshot` of dimensions whose entity's mode says so."""

    def declared(dimension: Any) -> Any:
        name = dimension.get("entity") if isinstance(dimension, dict) else None
        entity = entities.get(name) if isinstance(name, str) else None
        is_snapshot = entity is not None and entity.extract.is_full_snapshot
        return {"full_snapshot": True, **dimension} if is_snapshot else dimension

    dimensions = star.get("dimensions")
    if not isinstance(dimensions, list):
        return star
    return {**star, "dimensions": [declared(dimension) for dimension in dimensions]}


def snapshot_problems(
    where: str, dimension: DimensionConfig, entities: Mapping[str, EntityConfig]
) -> Iterator[str]:
    """A dimension that ignores the deletes that the mode of an entity finds."""
    found = [
        name
        for name in dimension.entities
        if name in entities and entities[name].extract.is_full_snapshot
    ]
    if found and not dimension.full_snapshot:
        is_own = dimension.entity in found
        place = "full_snapshot" if is_own else "further_entities"
        yield (
            f"{where}.{place}: {found[0]} has mode: full_snapshot, so rows that it lacks were "
            f"deleted: {'drop full_snapshot here, or ' if is_own else ''}say mode: full there"
        )


def entity_problems(
    where: str, dimension: DimensionConfig, entities: Mapping[str, EntityConfig]
) -> Iterator[str]:
    """Further entities that do not exist, or whose columns do not fit those of the first."""
    place = f"{where}.further_entities"
    first = entities.get(dimension.entity)
    for name in dimension.further_entities:
        if name not in entities:
            yield f"{place}: {unknown_name(name, entities)}"
        elif first is not None:
            both = (dimension.entity, first), (name, entities[name])
            yield from (f"{place}: {what}" for what in _differences(dimension, *both))


def _differences(
    dimension: DimensionConfig, one: tuple[str, EntityConfig], other: tuple[str, EntityConfig]
) -> Iterator[str]:
    (first_name, first), (name, entity) = one, other
    if entity.timezone != first.timezone:
        yield (
            f"{name} has {_zone(entity)}, {first_name} has {_zone(first)}: their local times and "
            "days have no common order; declare one `timezone` for both"
        )
    ours = {column.name: column for column in first.processed_columns}
    theirs = {column.name: column for column in entity.processed_columns}
    keys = {*dimension.natural_key.values()}
    may_lack = {dimension.shown[attribute] for attribute in dimension.ignore_nulls} - keys
    for column in dimension.entity_columns:
        if column in ours and column in theirs:
            if ours[column].type != theirs[column].type:
                yield (
                    f"'{column}' is a {theirs[column].type} in {name}, a {ours[column].type} in "
                    f"{first_name}: declare both of one type"
                )
            elif {*_forms(first, column, keys)} != {*_forms(entity, column, keys)}:
                yield (
                    f"'{column}' of {name} and of {first_name} have different `normalize`: equal "
                    "texts would differ; declare both alike"
                )
        elif column in ours or column in theirs:
            lacking = name if column in ours else first_name
            if column not in may_lack:
                yield f"{lacking} has no column '{column}': {_remedy(dimension, column)}"


def _remedy(dimension: DimensionConfig, column: str) -> str:
    declared = "declare it there, with `optional: true` if its files lack it"
    tracked = {**dimension.attributes, **dimension.type1}
    attribute = next((name for name, source in tracked.items() if source == column), None)
    if attribute is None or column in dimension.natural_key.values():
        return declared
    return f"{declared}, or add {attribute} to `ignore_nulls`, so that its rows keep the value"


def _fills(entity: EntityConfig, name: str) -> bool:
    """Whether every row of the entity has a value of the column."""
    column = next((c for c in entity.processed_columns if c.name == name), None)
    return column is not None and (name in entity.key or column.has_always_a_value)


def _forms(entity: EntityConfig, name: str, keys: set[str]) -> tuple[str, ...]:
    whole = entity.with_joined(keys)
    return whole.forms_of(whole.column(name))


def _zone(entity: EntityConfig) -> str:
    return f"the timezone {entity.timezone}" if entity.timezone else "no timezone"
