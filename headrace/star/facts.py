"""Facts: measures at their grain, with the surrogate keys valid at the event time.

Belongs here: the as-of join and the fact's schema.
Elsewhere: dimensions (headrace.star.dimensions), loading Postgres (headrace.layers.warehouse).
"""

from collections.abc import Mapping
from dataclasses import replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headrace.config.sources import EntityConfig
from headrace.config.star import DimensionConfig, FactConfig, FactDimension
from headrace.engine import functions as parse
from headrace.schema import Column as SchemaColumn
from headrace.schema import TableSchema
from headrace.standardize.rows import PARTITION_COLUMN
from headrace.star.dimensions import UNKNOWN_KEY

DATE_KEY = "date_key"


def fact_schema(
    config: FactConfig, entity: EntityConfig, dimensions: Mapping[str, DimensionConfig]
) -> TableSchema:
    """What every published fact has: kept columns, foreign keys, measures.

    The lake's table also keeps the natural keys (`lake_fact_schema`).
    """
    keys = [
        SchemaColumn(dimensions[join.dimension].key_column, "bigint", False, join.dimension)
        for join in config.dimensions
    ]
    return TableSchema(
        (
            *(_kept(entity, name) for name in config.columns),
            *keys,
            SchemaColumn(DATE_KEY, "int", False, "Day of the event, yyyymmdd."),
            *(_kept(entity, name) for name in config.measures),
        )
    )


def lake_fact_schema(
    config: FactConfig, entity: EntityConfig, dimensions: Mapping[str, DimensionConfig]
) -> TableSchema:
    """`fact_schema`, then the natural keys that the keys came from, and the partition's day.

    A late version of a member moves the keys of facts already loaded: they are found by these.
    """
    published = fact_schema(config, entity, dimensions)
    wanted = [*config.grain, *(c for j in config.dimensions for c in j.natural_key.values())]
    extra = [name for name in dict.fromkeys(wanted) if name not in published.names]
    return published.plus(
        (
            *(_kept(entity, name) for name in extra),
            SchemaColumn(PARTITION_COLUMN, "date", False, "Day of the row, UTC."),
        )
    )


def build_fact(
    rows: DataFrame,
    config: FactConfig,
    entity: EntityConfig,
    dimensions: Mapping[str, tuple[DimensionConfig, DataFrame]],
) -> DataFrame:
    """One fact a processed row; a member not known at the event time gives key -1.

    Args:
        rows: Processed rows of some days.
        config: The fact.
        entity: Types of the columns.
        dimensions: By name: the dimension and its published versions.

    Returns:
        Rows as `lake_fact_schema` says, as many as `rows` has.
    """
    joined = rows
    for join in config.dimensions:
        dimension, versions = dimensions[join.dimension]
        joined = _as_of(joined, join, dimension, versions, config.event_time)
    day = F.col(config.event_time)
    key = F.year(day) * 10_000 + F.month(day) * 100 + F.dayofmonth(day)
    schema = lake_fact_schema(config, entity, {n: d for n, (d, _) in dimensions.items()})
    with_date = joined.withColumn(DATE_KEY, key)
    return with_date.select(*(parse.cast_to(F.col(c.name), c.type).alias(c.name) for c in schema))


def _as_of(
    rows: DataFrame,
    join: FactDimension,
    dimension: DimensionConfig,
    versions: DataFrame,
    event_time: str,
) -> DataFrame:
    renamed = versions.where(F.col(dimension.key_column) != UNKNOWN_KEY).select(
        F.col(dimension.key_column).alias("_key"),
        *(F.col(name).alias(f"_nk_{name}") for name in join.natural_key),
        F.col("valid_from").alias("_from"),
        F.col("valid_to").alias("_to"),
    )
    at = F.col(event_time).cast("timestamp_ntz")
    condition = (at >= F.col("_from")) & (F.col("_to").isNull() | (at < F.col("_to")))
    for name, column in join.natural_key.items():
        condition = condition & (F.col(column) == F.col(f"_nk_{name}"))
    key = F.coalesce(F.col("_key"), F.lit(UNKNOWN_KEY).cast("bigint"))
    # The versions on the left: Sail keeps that side in memory and streams the other.
    found = renamed.join(rows, condition, "right").withColumn(dimension.key_column, key)
    return found.drop("_key", "_from", "_to", *(f"_nk_{name}" for name in join.natural_key))


def _kept(entity: EntityConfig, name: str) -> SchemaColumn:
    required = {column.name for column in entity.columns if column.required}
    return replace(entity.processed_column(name), nullable=name not in required)
