"""Inferred members: natural keys of facts that their dimension's source has not delivered yet."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.loader import Project
from headrace.config.star.models import DimensionConfig, FactConfig, FactDimension
from headrace.lake.scan import LakeScan
from headrace.lake.table import LakeTable
from headrace.pipeline.watermarks import scan_if_published
from headrace.star.facts import as_of_time
from headrace.star.scd2.change_events import REFERENCE_TIME


@dataclass(frozen=True)
class InferringFact:
    """One foreign key of a fact to the dimension.

    Attributes:
        table: The processed table of the fact.
        fact: The fact.
        join: The fact's columns of the natural key.
        entity: The processed table's entity.
    """

    table: LakeTable
    fact: FactConfig
    join: FactDimension
    entity: EntityConfig

    def references(self, scan: LakeScan, spark: SparkSession) -> DataFrame:
        """The natural key and as-of time of each row."""
        at = as_of_time(self.fact, self.join, self.entity)
        keys = self.join.natural_key.items()
        return scan.frame(spark).select(
            *(F.col(column).alias(name) for name, column in keys), at.alias(REFERENCE_TIME)
        )


def inferring_facts(
    project: Project, dimension: DimensionConfig, processed: Callable[[str], LakeTable]
) -> tuple[InferringFact, ...]:
    """All foreign keys to a dimension; none if it infers no members.

    Args:
        project: The star.
        dimension: One of its dimensions.
        processed: Returns the processed table of source.entity.
    """
    if not dimension.infers_members:
        return ()
    entities = project.entities()
    return tuple(
        InferringFact(processed(fact.entity), fact, join, entities[fact.entity][1])
        for fact in project.star.facts
        for join in fact.dimensions
        if join.dimension == dimension.name
    )


def all_references(facts: Sequence[InferringFact], spark: SparkSession) -> DataFrame | None:
    """The references of all published rows; None if there are no such tables."""
    found = ((each, scan_if_published(each.table)) for each in facts)
    return union(each.references(scan, spark) for each, scan in found if scan)


def union(frames: Iterable[DataFrame]) -> DataFrame | None:
    """The union of all frames; None if there is no frame."""
    found = list(frames)
    return reduce(DataFrame.unionByName, found) if found else None
