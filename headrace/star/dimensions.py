"""Type 2 history: from the versions of an entity to its dimension.

Belongs here: ordering versions, closing validity intervals, surrogate keys, the unknown member.
Elsewhere: the calendar (headrace.star.calendar), reading and publishing (headrace.layers).
"""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from headrace.config.sources import EntityConfig
from headrace.config.star import DimensionConfig
from headrace.engine import functions as parse
from headrace.engine.types import spark_schema
from headrace.schema import Column as SchemaColumn
from headrace.schema import TableSchema
from headrace.standardize.rows import PARTITION_COLUMN, SOURCE_ORDER

UNKNOWN_KEY = -1
# Before any event that a source could tell of, and a date that every database can hold.
BEGINNING = "1900-01-01 00:00:00"


def dimension_schema(config: DimensionConfig, entity: EntityConfig) -> TableSchema:
    """Surrogate key, natural key, attributes, validity interval."""
    return TableSchema(
        (
            SchemaColumn(config.key_column, "bigint", False, "Surrogate key of the version."),
            *_business_columns(config, entity),
            SchemaColumn("valid_from", "timestamp", False, "Start of validity, included."),
            SchemaColumn("valid_to", "timestamp", True, "End of validity, excluded; NULL: open."),
            SchemaColumn("is_current", "boolean", False, "Whether it is the latest version."),
        )
    )


def build_dimension(
    processed: DataFrame, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """The whole dimension from all published rows of its entity (type 2 of Kimball & Ross).

    Depends on the set of rows only, not on the order in which runs brought them.

    Args:
        processed: All processed rows of the entity, in any order.
        config: Natural key, attributes and where versions begin.
        entity: Types of the columns.

    Returns:
        One row a version as `dimension_schema` says, plus the unknown member.
    """
    schema = dimension_schema(config, entity)
    versions = (
        processed.select(*_renamed(config), _effective(config), PARTITION_COLUMN, *SOURCE_ORDER)
        .transform(_latest_of_each_instant, [*config.natural_key])
        .transform(_without_equal_neighbours, config, entity)
        .transform(_closed, config)
    )
    types = [
        (F.col(name), entity.column(column).type) for name, column in config.natural_key.items()
    ]
    key = parse.hash_key([*types, (F.col("valid_from"), "timestamp")])
    keyed = versions.withColumn(config.key_column, key)
    cast = [parse.cast_to(F.col(c.name), c.type).alias(c.name) for c in schema]
    return keyed.select(*cast).unionByName(_unknown_member(processed.sparkSession, config, schema))


def _business_columns(config: DimensionConfig, entity: EntityConfig) -> list[SchemaColumn]:
    keys = [
        SchemaColumn(name, entity.column(source).type, False, entity.column(source).description)
        for name, source in config.natural_key.items()
    ]
    attributes = [
        SchemaColumn(name, entity.column(source).type, True, entity.column(source).description)
        for name, source in config.attributes.items()
    ]
    return [*keys, *attributes]


def _renamed(config: DimensionConfig) -> list[Column]:
    pairs = {**config.natural_key, **config.attributes}.items()
    return [F.col(source).alias(name) for name, source in pairs]


def _effective(config: DimensionConfig) -> Column:
    source = config.effective_time or PARTITION_COLUMN
    return F.col(source).cast("timestamp_ntz").alias("_effective")


def _latest_of_each_instant(versions: DataFrame, key: Sequence[str]) -> DataFrame:
    # Two states at one instant: the one the source told last holds.
    later_first = [F.col(c).desc() for c in (PARTITION_COLUMN, *SOURCE_ORDER)]
    window = Window.partitionBy(*key, "_effective").orderBy(*later_first)
    return versions.withColumn("_rank", F.row_number().over(window)).where("_rank = 1")


def _without_equal_neighbours(
    versions: DataFrame, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    types = [
        (F.col(name), entity.column(source).type) for name, source in config.attributes.items()
    ]
    state = parse.hash_key(types) if types else F.lit(0).cast("bigint")
    window = Window.partitionBy(*config.natural_key).orderBy("_effective")
    return (
        versions.withColumn("_state", state)
        .withColumn("_before", F.lag("_state").over(window))
        .where(F.col("_before").isNull() | (F.col("_before") != F.col("_state")))
    )


def _closed(versions: DataFrame, config: DimensionConfig) -> DataFrame:
    window = Window.partitionBy(*config.natural_key).orderBy("_effective")
    valid_from = F.col("_effective")
    if config.first_version == "from_beginning":
        beginning = F.lit(BEGINNING).cast("timestamp_ntz")
        valid_from = F.when(F.col("_before").isNull(), beginning).otherwise(valid_from)
    return (
        versions.withColumn("valid_from", valid_from)
        .withColumn("valid_to", F.lead("_effective").over(window))
        .withColumn("is_current", F.col("valid_to").isNull())
    )


def _unknown_member(spark: SparkSession, config: DimensionConfig, schema: TableSchema) -> DataFrame:
    values = dict(config.unknown)
    values |= {
        name: "Unknown" if schema.column(name).type == "string" else UNKNOWN_KEY
        for name in config.natural_key
    }
    values |= {config.key_column: UNKNOWN_KEY, "valid_from": BEGINNING, "is_current": True}
    one = spark.range(1)
    return one.select(
        *(parse.cast_to(F.lit(values.get(c.name)), c.type).alias(c.name) for c in schema)
    )


__all__ = ["BEGINNING", "UNKNOWN_KEY", "build_dimension", "dimension_schema", "spark_schema"]
