"""Inferred members: natural keys in facts that their dimension has not received yet."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from headrace.config.loading import Project
from headrace.config.sources import EntityConfig
from headrace.config.star import DimensionConfig, FactConfig, FactDimension
from headrace.lake.scan import LakeScan
from headrace.lake.table import LakeTable
from headrace.pipeline.watermarks import scan_if_published
from headrace.star.facts import as_of_time
from headrace.star.scd2.change_events import MENTION_TIME


@dataclass(frozen=True)
class InferringFact:
    """One foreign key of a fact that points to the dimension.

    Attributes:
        table: The processed rows that become the fact.
        fact: The fact.
        join: How its rows name the member.
        entity: What the rows are.
    """

    table: LakeTable
    fact: FactConfig
    join: FactDimension
    entity: EntityConfig

    def of(self, scan: LakeScan, spark: SparkSession) -> DataFrame:
        """Natural keys and times that rows of the table mention."""
        at = as_of_time(self.fact, self.join, self.entity)
        keys = self.join.natural_key.items()
        return scan.frame(spark).select(
            *(F.col(column).alias(name) for name, column in keys), at.alias(MENTION_TIME)
        )


def mentioned_by(
    project: Project, dimension: DimensionConfig, processed: Callable[[str], LakeTable]
) -> tuple[InferringFact, ...]:
    """All that mention a dimension's members; none where it infers no members.

    Args:
        project: The star.
        dimension: One of its dimensions.
        processed: Gives the processed table of source.entity.
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


def all_mentions(mentioning: Sequence[InferringFact], spark: SparkSession) -> DataFrame | None:
    """What all published rows mention; None if there are none."""
    found = ((each, scan_if_published(each.table)) for each in mentioning)
    return union(each.of(scan, spark) for each, scan in found if scan)


def union(frames: Iterable[DataFrame]) -> DataFrame | None:
    """The rows of all frames; None if there is no frame."""
    found = list(frames)
    return reduce(DataFrame.unionByName, found) if found else None
