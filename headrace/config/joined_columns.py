"""Columns by which the star joins rows: their texts are normalized as keys are."""

from collections.abc import Iterator, Mapping

from headrace.config.columns import KEY_FORMS, Form
from headrace.config.sources import EntityConfig
from headrace.config.star import DimensionConfig, FactConfig, FactDimension, StarConfig


def with_joined_columns(
    star: StarConfig, entities: Mapping[str, EntityConfig]
) -> dict[str, EntityConfig]:
    """The entities, their columns normalized as keys where the star joins by them.

    A member that looks like another in one file and is another by its bytes would be inferred.

    Args:
        star: The star.
        entities: By source.entity.
    """
    joined = joined_columns(star)
    return {
        name: entity.with_joined(joined[name]) if name in joined else entity
        for name, entity in entities.items()
    }


def form_problems(
    where: str,
    fact: FactConfig,
    join: FactDimension,
    dim: DimensionConfig,
    entities: Mapping[str, EntityConfig],
) -> Iterator[str]:
    """A join whose sides are normalized differently, so that equal texts would not be equal."""
    for name, column in join.natural_key.items():
        ours = _forms(fact.entity, column, entities)
        theirs = _forms(dim.entity, dim.natural_key[name], entities)
        if ours is not None and theirs is not None and {*ours} != {*theirs}:
            yield (
                f"{where}: '{column}' of {fact.entity} is normalized by {_shown(ours)}, but "
                f"{name} of {dim.name} by {_shown(theirs)}: declare `normalize` alike"
            )


def _forms(entity: str, name: str, entities: Mapping[str, EntityConfig]) -> tuple[Form, ...] | None:
    columns = entities[entity].columns if entity in entities else ()
    column = next((c for c in columns if c.name == name and c.type == "string"), None)
    if column is None:
        return None
    return KEY_FORMS if column.normalize is None else column.normalize


def _shown(forms: tuple[Form, ...]) -> str:
    return ", ".join(forms) or "nothing"


def joined_columns(star: StarConfig) -> dict[str, frozenset[str]]:
    """By source.entity: columns that a natural key or a foreign key of the star comes from."""
    found: dict[str, set[str]] = {}
    for dim in star.dimensions:
        shown = {**dim.natural_key, **dim.attributes, **dim.overwritten}
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
