"""Facts: measures at their grain, with the surrogate keys valid at the event time."""

from collections.abc import Mapping
from dataclasses import replace

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.star.models import DimensionConfig, FactConfig, FactDimension
from headrace.engine import functions as parse
from headrace.engine.values.times import date_key_of, day_of, moment_of
from headrace.schema import PARTITION_COLUMN, TableSchema, decimal_parts
from headrace.schema import Column as SchemaColumn
from headrace.standardize.deduplication import without_deleted
from headrace.star.scd2.dimensions import UNKNOWN_KEY

DATE_KEY = "date_key"
# In a periodic snapshot of changes, the day on which the source delivered a row's state.
STATE_DATE = "_state_date"

_SEMI_ADDITIVE = (
    "Semi-additive: sum it over all dimensions but the date; over days take the last value or the "
    "average."
)
_MOST_DIGITS = 38


def fact_schema(
    config: FactConfig, entity: EntityConfig, dimensions: Mapping[str, DimensionConfig]
) -> TableSchema:
    """Columns of a fact in the warehouse: degenerate columns, foreign keys, measures.

    The lake's table also has the natural keys (`lake_fact_schema`).
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
            *(_source_column(entity, name) for name in config.columns),
            *keys,
            SchemaColumn(DATE_KEY, "int", False, _date_key_meaning(config)),
            *dates,
            *(_measure(config, entity, name) for name in config.measures),
        )
    )


def lake_fact_schema(
    config: FactConfig, entity: EntityConfig, dimensions: Mapping[str, DimensionConfig]
) -> TableSchema:
    """`fact_schema`, then natural keys, event times, and the partition's day.

    By these columns, facts are found and joined again when a late version of a member changes their
    keys.
    """
    published = fact_schema(config, entity, dimensions)
    times = [config.event_time] if config.event_time else []
    needed = [*config.grain, *times, *config.dates.values()]
    for join in config.dimensions:
        needed += [*join.natural_key.values(), *([join.event_time] if join.event_time else [])]
    extra = [name for name in dict.fromkeys(needed) if name not in published.names]
    return published.plus(
        (
            *(_source_column(entity, name) for name in extra),
            *_state_date(config),
            SchemaColumn(PARTITION_COLUMN, "date", False, "Day of the row."),
        )
    )


def build_fact(
    rows: DataFrame,
    config: FactConfig,
    entity: EntityConfig,
    dimensions: Mapping[str, tuple[DimensionConfig, DataFrame]],
) -> DataFrame:
    """As-of join: one fact a row, with the key of each member's version at its event time.

    Without such a version the key is -1. It is NULL if the dimension refuses missing members or has
    no unknown member; the audit holds a day with NULL keys.

    Args:
        rows: Processed rows of some days, states at the ends of days
            (headrace.star.periodic_snapshots), or rows of the lake's fact table to join again.
        config: The fact.
        entity: Types of the columns.
        dimensions: By name: the dimension and its published versions.

    Returns:
        Columns of `lake_fact_schema`; as many rows as `rows`.
    """
    configs = {name: dimension for name, (dimension, _) in dimensions.items()}
    keys = [join.key_column(configs[join.dimension]) for join in config.dimensions]
    joined = rows.drop(*keys)
    for join in config.dimensions:
        dimension, versions = dimensions[join.dimension]
        joined = _as_of(joined, join, dimension, versions, as_of_time(config, join, entity))
    dates = {DATE_KEY: config.event_time or PARTITION_COLUMN, **config.dates}
    dated = joined.withColumns({key: _date_key(column, entity) for key, column in dates.items()})
    schema = lake_fact_schema(config, entity, configs)
    return dated.select(*(parse.cast_to(F.col(c.name), c.type).alias(c.name) for c in schema))


def present_rows(rows: DataFrame, entity: EntityConfig) -> DataFrame:
    """Processed rows that a fact is made from: those that the source has still."""
    return without_deleted(rows) if entity.extract.states_deletes else rows


def as_of_time(config: FactConfig, join: FactDimension, entity: EntityConfig) -> Column:
    """Time of a row's as-of join: its event time; without one, the last microsecond of its day.

    A local time, or in UTC if the entity has a zone.
    """
    if time := join.event_time or config.event_time:
        return moment_of(F.col(time), entity.column(time).type, entity.timezone)
    midnight = moment_of(F.date_add(F.col(PARTITION_COLUMN), 1), "date", entity.timezone)
    return midnight - F.expr("interval 1 microsecond")


def _as_of(
    rows: DataFrame,
    join: FactDimension,
    dimension: DimensionConfig,
    versions: DataFrame,
    at: Column,
) -> DataFrame:
    renamed = versions.where(F.col(dimension.key_column) != UNKNOWN_KEY).select(
        F.col(dimension.key_column).alias("_key"),
        *(F.col(name).alias(f"_nk_{name}") for name in join.natural_key),
        F.col("valid_from").alias("_from"),
        F.col("valid_to").alias("_to"),
    )
    condition = (at >= F.col("_from")) & (F.col("_to").isNull() | (at < F.col("_to")))
    for name, column in join.natural_key.items():
        condition = condition & (F.col(column) == F.col(f"_nk_{name}"))
    # Versions on the left: Sail builds the hash table from that side and streams the other.
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
    has_null_key = F.lit(False)
    for column in join.natural_key.values():
        has_null_key = has_null_key | F.col(column).isNull()
    return F.when(has_null_key, unknown).otherwise(key)


def _date_key(column: str, entity: EntityConfig) -> Column:
    """The day of a column as yyyymmdd, in the zone of the entity."""
    kind = "date" if column == PARTITION_COLUMN else entity.column(column).type
    is_shifted = kind == "timestamptz" and entity.timezone is not None
    day = day_of(F.col(column), kind, entity.timezone) if is_shifted else F.col(column)
    return date_key_of(day)


def _source_column(entity: EntityConfig, name: str) -> SchemaColumn:
    filled = {c.name for c in entity.processed_columns if c.has_always_a_value}
    return replace(entity.processed_column(name), nullable=name not in filled)


def _measure(config: FactConfig, entity: EntityConfig, name: str) -> SchemaColumn:
    column = _source_column(entity, name)
    if name not in config.levels:
        return column
    kind = sum_type(column.type) if config.snapshot_of == "movements" else column.type
    return replace(column, type=kind, description=f"{column.description} {_SEMI_ADDITIVE}".strip())


def sum_type(kind: str) -> str:
    """Type of a sum of values of an exact type: ten more digits, or bigint."""
    parts = decimal_parts(kind)
    if parts is None:
        return "bigint"
    return f"decimal({min(parts[0] + 10, _MOST_DIGITS)},{parts[1]})"


def _state_date(config: FactConfig) -> list[SchemaColumn]:
    if not config.accumulates or config.snapshot_of != "changes":
        return []
    return [
        SchemaColumn(STATE_DATE, "date", False, "Day on which the source delivered this state.")
    ]


def _date_key_meaning(config: FactConfig) -> str:
    if config.is_snapshot:
        return "Day at whose end this state held, yyyymmdd."
    return "Day of the event, yyyymmdd."
