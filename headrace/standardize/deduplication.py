"""Deduplication: identical rows of one day, and the latest row of each natural key of one day."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.engine import functions as parse
from headrace.lineage_schema import DELETE, OPERATION, SOURCE_ORDER
from headrace.schema import PARTITION_COLUMN


def repeated_keys(rows: DataFrame, entity: EntityConfig) -> DataFrame:
    """Per partition day: `rows`, distinct natural `keys` and, for `duplicates: drop`, `contents`.

    The day has rows to drop where `keys` or `contents` is smaller than `rows`. Both count 64-bit
    hashes: a collision can only cause a needless deduplication.
    """
    counts = [
        F.count(F.lit(1)).alias("rows"),
        F.countDistinct(_key_hash(entity)).alias("keys"),
    ]
    if entity.duplicates == "drop":
        contents = parse.row_hash([(F.col(c.name), c.type) for c in entity.columns])
        counts.append(F.countDistinct(contents).alias("contents"))
    return rows.groupBy(PARTITION_COLUMN).agg(*counts)


def without_duplicates(rows: DataFrame, entity: EntityConfig) -> DataFrame:
    """Of the rows of one day that agree in every column, the first by source order."""
    contents = [PARTITION_COLUMN, *(column.name for column in entity.columns)]
    first = Window.partitionBy(*contents).orderBy(*(F.col(c).asc() for c in SOURCE_ORDER))
    ranked = rows.withColumn("_rank", F.row_number().over(first))
    return ranked.where("_rank = 1").drop("_rank")


def latest_rows(
    rows: DataFrame, entity: EntityConfig, source_order: Sequence[str] = ()
) -> DataFrame:
    """Of the rows of one natural key on one day, the latest by source order.

    Args:
        rows: Good rows.
        entity: Its key.
        source_order: Columns that decide before the row's position in its file does: the row with
            the largest value is the latest.
    """
    # Only repeated keys go through the window: sorting all rows takes 1.5 times as long and more
    # memory.
    key = [PARTITION_COLUMN, *entity.key]
    repeated = rows.groupBy(*key).agg(F.count(F.lit(1)).alias("_n")).where("_n > 1").drop("_n")
    order = (F.col(name).desc_nulls_last() for name in (*source_order, *SOURCE_ORDER))
    latest_first = Window.partitionBy(*key).orderBy(*order)
    latest = (
        rows.join(repeated, key, "left_semi")
        .withColumn("_rank", F.row_number().over(latest_first))
        .where("_rank = 1")
        .drop("_rank")
    )
    return rows.join(repeated, key, "left_anti").unionByName(latest)


def without_deleted(rows: DataFrame) -> DataFrame:
    """Processed rows but those of keys that were deleted from their table."""
    is_deleted = F.col(OPERATION).eqNullSafe(F.lit(DELETE))
    return rows.where(~is_deleted)


def _key_hash(entity: EntityConfig) -> Column:
    return parse.hash_key(
        [(F.col(name), entity.processed_column(name).type) for name in entity.key]
    )
