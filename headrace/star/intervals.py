"""When a member's surrogate key differs between two states of its dimension.

Belongs here: comparing the validity intervals of rows that went with those that came.
Elsewhere: making them (headrace.star.history), giving facts their new keys (headrace.star.facts).
"""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from headrace.config.star import DimensionConfig
from headrace.star.dimensions import UNKNOWN_KEY

_SIDES = ("_before", "_after")


def changed_intervals(before: DataFrame, after: DataFrame, config: DimensionConfig) -> DataFrame:
    """Intervals of members in which another surrogate key is valid than before, or none.

    Args:
        before: Rows of a dimension's files that went; versions of a member do not overlap.
        after: Rows of those that came. Rows that are in both cancel out.
        config: The natural key.

    Returns:
        Natural key, `_from` (included) and `_to` (excluded; NULL: open), by wall clock. Intervals
        of a member do not overlap; neighbours may be equal in nothing but touching.
    """
    keys = [*config.natural_key]
    version = [*keys, config.key_column, "valid_from", "valid_to"]
    sides = [
        rows.where(F.col(config.key_column) != UNKNOWN_KEY)
        .select(*version)
        .withColumn("_side", F.lit(side))
        for rows, side in ((before, -1), (after, 1))
    ]
    # Most rows stay as they are: they are not worth sorting.
    differ = sides[0].unionByName(sides[1]).groupBy(*version).agg(F.sum("_side").alias("_side"))
    bounds = _bounds(differ.where(F.col("_side") != 0), config)
    # At most one key of a side is valid at an instant, so that the sum is that key.
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
    """Each version's key where it begins to be valid, and the negative of it where it ends."""
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
