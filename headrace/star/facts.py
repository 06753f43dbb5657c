"""Facts: measures at their grain, with the surrogate keys valid at the event time.

Belongs here: the as-of join and the fact's schema.
Elsewhere: dimensions (headrace.star.dimensions), loading Postgres (headrace.layers.warehouse).
"""

from collections.abc import Mapping
from dataclasses import replace

from pyspark.sql import Column, DataFrame
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
        SchemaColumn(
            join.key_column(dimensions[join.dimension]),
            "bigint",
            False,
            join.role or join.dimension,
        )
        for join in config.dimensions
    ]
    dates = [
        SchemaColumn(key, "int", True, f"Day of {column}, yyyymmdd; NULL without one.")
        for key, column in config.dates.items()
    ]
    return TableSchema(
        (
            *(_kept(entity, name) for name in config.columns),
            *keys,
            SchemaColumn(DATE_KEY, "int", False, "Day of the event, yyyymmdd."),
            *dates,
            *(_kept(entity, name) for name in config.measures),
        )
    )


def lake_fact_schema(
    config: FactConfig, entity: EntityConfig, dimensions: Mapping[str, DimensionConfig]
) -> TableSchema:
    """`fact_schema`, then what the keys came from (natural keys, times), and the partition's day.

    A late version of a member moves the keys of facts already loaded: they are found by these, and
    joined anew from these alone.
    """
    published = fact_schema(config, entity, dimensions)
    wanted = [*config.grain, config.event_time, *config.dates.values()]
    for join in config.dimensions:
        wanted += [*join.natural_key.values(), *([join.event_time] if join.event_time else [])]
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
    """One fact a row, with the key of each member's version that is valid at the event time.

    Where there is none, the key is -1, or NULL if the dimension refuses missing members or has no
    unknown one: the audit holds days with such keys, since no key may be NULL.

    Args:
        rows: Processed rows of some days, or rows of the lake's fact table, whose keys are found
            again.
        config: The fact.
        entity: Types of the columns.
        dimensions: By name: the dimension and its published versions.

    Returns:
        Rows as `lake_fact_schema` says, as many as `rows` has.
    """
    configs = {name: dimension for name, (dimension, _) in dimensions.items()}
    keys = [join.key_column(configs[join.dimension]) for join in config.dimensions]
    joined = rows.drop(*keys)
    for join in config.dimensions:
        dimension, versions = dimensions[join.dimension]
        joined = _as_of(joined, join, dimension, versions, join.event_time or config.event_time)
    dates = {DATE_KEY: config.event_time, **config.dates}
    dated = joined.withColumns({key: _date_key(column) for key, column in dates.items()})
    schema = lake_fact_schema(config, entity, configs)
    return dated.select(*(parse.cast_to(F.col(c.name), c.type).alias(c.name) for c in schema))


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
    # The versions on the left: Sail keeps that side in memory and streams the other.
    found = renamed.join(rows, condition, "right")
    keyed = found.withColumn(join.key_column(dimension), _key_or_unknown(join, dimension))
    return keyed.drop("_key", "_from", "_to", *(f"_nk_{name}" for name in join.natural_key))


def _key_or_unknown(join: FactDimension, dimension: DimensionConfig) -> Column:
    key = F.col("_key")
    unknown = F.coalesce(key, F.lit(UNKNOWN_KEY).cast("bigint"))
    if not dimension.has_unknown_member:
        return key
    if dimension.missing != "refuse":
        return unknown
    names_nobody = F.lit(False)
    for column in join.natural_key.values():
        names_nobody = names_nobody | F.col(column).isNull()
    return F.when(names_nobody, unknown).otherwise(key)


def _date_key(column: str) -> Column:
    day = F.col(column)
    return F.year(day) * 10_000 + F.month(day) * 100 + F.dayofmonth(day)


def _kept(entity: EntityConfig, name: str) -> SchemaColumn:
    required = {column.name for column in entity.columns if column.required}
    return replace(entity.processed_column(name), nullable=name not in required)
