"""Grains of partitions that the star can be built from: the default, and grains that do not fit."""

from collections.abc import Iterator, Mapping

from headrace.config.entities.entity import EntityConfig
from headrace.config.star.models import DimensionConfig, FactConfig, StarConfig
from headrace.grain import Grain

Entities = Mapping[str, EntityConfig]


def with_partitions(star: StarConfig, entities: Entities) -> dict[str, EntityConfig]:
    """The entities, with `partition: none` for undated ones that no fact is built from.

    Undated: neither path nor rows have a day. A fact needs the days of its entity.
    """
    of_facts = {fact.entity for fact in star.facts}
    return {
        name: entity.model_copy(update={"partition": "none"})
        if entity.partition is None
        and entity.extract.day_of_object == "time"
        and name not in of_facts
        else entity
        for name, entity in entities.items()
    }


def grain_problems(star: StarConfig, entities: Entities) -> Iterator[str]:
    """Grains that a dimension or a fact cannot be built from, after the path in star.yaml."""
    for i, fact in enumerate(star.facts):
        if fact.entity in entities:
            yield from _of_fact(f"facts[{i}].entity", fact, entities[fact.entity])
    for i, dim in enumerate(star.dimensions):
        for key, names in (("entity", [dim.entity]), ("further_entities", dim.further_entities)):
            for name in names:
                if name in entities:
                    yield from _of_dimension(f"dimensions[{i}].{key}", dim, name, entities[name])


def _of_fact(where: str, fact: FactConfig, entity: EntityConfig) -> Iterator[str]:
    if fact.is_snapshot and entity.grain != Grain.DAY:
        yield (
            f"{where}: {fact.entity} has partition: {entity.partition}, but a periodic snapshot is "
            "the state at the end of each day: say partition: day"
        )
    elif entity.grain == Grain.SPARSE:
        yield (
            f"{where}: {fact.entity} has partition: none and no day in files or rows: each version "
            "of a file would add its rows again; give its extract partition_by"
        )
    if fact.keep_months is not None and entity.grain not in (Grain.DAY, Grain.MONTH):
        yield (
            f"{where.removesuffix('entity')}keep_months: drops whole months, but {fact.entity} has "
            f"partition: {entity.partition}: say partition: month or day"
        )


def _of_dimension(
    where: str, dim: DimensionConfig, name: str, entity: EntityConfig
) -> Iterator[str]:
    grain, named = entity.grain, entity.extract.named_period
    if grain in (Grain.DAY, Grain.SPARSE):
        return
    if dim.full_snapshot and grain == Grain.NONE:
        yield (
            f"{where}: {name} has partition: none, so no earlier snapshot shows which members a "
            "later one lacks, that is, which were deleted: say the partition of the files"
        )
    elif dim.effective_time is None and dim.attributes and named != entity.partition:
        yield (
            f"{where}: {name} has partition: {entity.partition}, and {dim.name} has no "
            "effective_time: all changes of a partition would count from its first day. Name the "
            "column that says when a row holds, list the attributes under type1, or say "
            "partition: day"
        )
