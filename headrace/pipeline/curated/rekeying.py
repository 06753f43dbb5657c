"""Re-keying: finds published facts whose surrogate keys changed because of late versions.

Days that are built in order cost nothing here: new versions are valid from the day on that is
built, and no later day is published.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from pyiceberg.expressions import BooleanExpression, GreaterThanOrEqual
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.star.models import DimensionConfig, FactConfig, FactDimension
from headrace.lake.changes import FileChanges
from headrace.lake.scan import EVERYTHING, LakeScan
from headrace.lake.table import LakeTable
from headrace.pipeline.watermarks import changes_since_read
from headrace.schema import PARTITION_COLUMN
from headrace.star.facts import as_of_time
from headrace.star.scd2.dimensions import UNKNOWN_KEY

_SIDES = ("_before", "_after")


def changed_intervals(before: DataFrame, after: DataFrame, config: DimensionConfig) -> DataFrame:
    """Intervals in which a member's valid surrogate key differs between two states.

    A member without a valid version has no key, which counts as a difference, too.

    Args:
        before: Rows of removed files of a dimension; versions of a member do not overlap.
        after: Rows of added files. Rows in both cancel out.
        config: The natural key.

    Returns:
        Natural key, `_from` (included) and `_to` (excluded; NULL: open), as local times. Intervals
        of a member do not overlap, but may be adjacent.
    """
    keys = [*config.natural_key]
    version = [*keys, config.key_column, "valid_from", "valid_to"]
    sides = [
        rows.where(F.col(config.key_column) != UNKNOWN_KEY)
        .select(*version)
        .withColumn("_side", F.lit(side))
        for rows, side in ((before, -1), (after, 1))
    ]
    # Most rows are unchanged and need not be sorted.
    differ = sides[0].unionByName(sides[1]).groupBy(*version).agg(F.sum("_side").alias("_side"))
    bounds = _bounds(differ.where(F.col("_side") != 0), config)
    # At most one key a side is valid at an instant, so the sum is that key.
    at_each = bounds.groupBy(*keys, "_at").agg(*(F.sum(s).alias(s) for s in _SIDES))
    in_time = Window.partitionBy(*keys).orderBy("_at")
    so_far = in_time.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    return (
        at_each.select(
            *keys,
            F.col("_at").alias("_from"),
            F.lead("_at").over(in_time).alias("_to"),
            *(F.sum(s).over(so_far).alias(s) for s in _SIDES),
        )
        .where(F.col("_before") != F.col("_after"))
        .select(*keys, "_from", "_to")
    )


def _bounds(versions: DataFrame, config: DimensionConfig) -> DataFrame:
    """Each version's key at `valid_from`, and its negative at `valid_to`."""
    ends = versions.withColumn("_bound", F.explode(F.array(F.lit("from"), F.lit("to"))))
    is_from = F.col("_bound") == "from"
    key = F.col(config.key_column)
    value = F.when(is_from, key).otherwise(-key)
    at = F.when(is_from, F.col("valid_from")).otherwise(F.col("valid_to"))
    nothing = F.lit(0).cast("bigint")
    return ends.select(
        *config.natural_key,
        at.alias("_at"),
        F.when(F.col("_side") < 0, value).otherwise(nothing).alias("_before"),
        F.when(F.col("_side") > 0, value).otherwise(nothing).alias("_after"),
    ).where(F.col("_at").isNotNull())


Dimensions = Mapping[str, tuple[DimensionConfig, LakeTable]]


@dataclass(frozen=True)
class MovedKeys:
    """Published facts whose event time now lies in another version.

    Attributes:
        facts: The published state that was searched.
        rows: Number of rows by day; a row with two changed keys counts twice.
    """

    facts: LakeScan
    rows: Mapping[date, int] = field(default_factory=dict)

    def plus(self, facts: LakeScan, rows: Mapping[date, int]) -> "MovedKeys":
        """Add the facts of another foreign key."""
        # Keep the scan that has more days.
        whole = max(self.facts, facts, key=lambda scan: len(scan.days))
        return MovedKeys(whole, dict(Counter(self.rows) + Counter(rows)))


def is_of_its_day(fact: FactConfig, entity: EntityConfig) -> bool:
    """Whether all event times of a row lie on its partition's day, which the audit ensures.

    Rows of a periodic snapshot are joined as of the end of their day.
    """
    if fact.is_snapshot:
        return True
    times = {(join.event_time or fact.event_time) for join in fact.dimensions}
    return times <= {entity.event_time}


def moved_keys(
    spark: SparkSession,
    fact: FactConfig,
    entity: EntityConfig,
    dimensions: Dimensions,
    table: LakeTable,
) -> MovedKeys | None:
    """Find published facts whose keys changed with the dimensions since their join.

    Args:
        spark: The engine.
        fact: The fact, and the types of its rows.
        entity: The fact's entity.
        dimensions: By name: the dimension and its table.
        table: The fact's table in the lake.

    Returns:
        None if the fact was never published.
    """
    properties = table.snapshot_properties()
    if not properties:
        return None
    found = MovedKeys(table.scan([]))
    for name, (dimension, published) in dimensions.items():
        changes = changes_since_read(properties, published)
        if changes is not None and not changes:
            continue
        intervals = _changed(spark, dimension, published, changes)
        first = intervals.agg(F.min("_from").alias("first")).collect()[0]["first"]
        if first is None:
            continue
        since = _since(first, entity)
        scan = table.scan(where=since if is_of_its_day(fact, entity) else EVERYTHING)
        if not scan.days:
            continue
        facts = scan.frame(spark)
        for join in (join for join in fact.dimensions if join.dimension == name):
            at = as_of_time(fact, join, entity)
            found = found.plus(scan, _rows_by_day(facts, join, intervals, at))
    return found


def _changed(
    spark: SparkSession,
    dimension: DimensionConfig,
    published: LakeTable,
    changes: FileChanges | None,
) -> DataFrame:
    """Natural keys and the intervals in which another version is valid than before."""
    if changes is None:
        # The state that the facts were joined with is unknown: treat all versions as new.
        now = published.scan().frame(spark)
        return changed_intervals(now.limit(0), now, dimension)
    before, after = changes.removed.frame(spark), changes.added.frame(spark)
    intervals = changed_intervals(before, after, dimension)
    if not dimension.infers_members:
        return intervals
    # Each published fact already has a member, possibly inferred: no fact refers to a new one.
    keys = [*dimension.natural_key]
    return intervals.join(before.select(*keys).distinct(), keys, "left_semi")


def _rows_by_day(
    facts: DataFrame, join: FactDimension, intervals: DataFrame, at: Column
) -> dict[date, int]:
    changed = intervals.select(
        *(F.col(name).alias(f"_nk_{name}") for name in join.natural_key),
        "_from",
        "_to",
    )
    matches = (at >= F.col("_from")) & (F.col("_to").isNull() | (at < F.col("_to")))
    for name, column in join.natural_key.items():
        matches = matches & (F.col(column) == F.col(f"_nk_{name}"))
    # The intervals on the left: Sail keeps that side in memory and streams the other.
    counted = changed.join(facts, matches, "inner").groupBy(PARTITION_COLUMN)
    rows = counted.agg(F.count(F.lit(1)).alias("rows")).collect()
    return {row[PARTITION_COLUMN]: row["rows"] for row in rows}


def _since(first: datetime, entity: EntityConfig) -> BooleanExpression:
    # West of Greenwich the local day of an instant may be the day before.
    day = first.date() if entity.timezone is None else first.date() - timedelta(days=1)
    start = entity.grain.start_of(day)
    return GreaterThanOrEqual(term=PARTITION_COLUMN, value=start.isoformat())
