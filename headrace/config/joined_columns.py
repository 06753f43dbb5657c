"""Columns by which the star joins rows: their texts are normalized as keys are.

Belongs here: which columns of an entity the star compares with another's.
Elsewhere: how a column is normalized (headrace.config.columns).
"""

from collections.abc import Mapping

from headrace.config.sources import EntityConfig
from headrace.config.star import StarConfig


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


def joined_columns(star: StarConfig) -> dict[str, frozenset[str]]:
    """By source.entity: columns that a natural key or a foreign key of the star comes from."""
    found: dict[str, set[str]] = {}
    for dim in star.dimensions:
        shown = {**dim.natural_key, **dim.attributes, **dim.overwritten}
        names = found.setdefault(dim.entity, set())
        names |= {*dim.natural_key.values()}
        for outrigger in dim.outriggers:
            names |= {shown[name] for name in outrigger.natural_key.values() if name in shown}
    for fact in star.facts:
        names = found.setdefault(fact.entity, set())
        names |= {*fact.grain}
        for join in fact.dimensions:
            names |= {*join.natural_key.values()}
    return {entity: frozenset(names) for entity, names in found.items()}
