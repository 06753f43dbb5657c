"""Periodic snapshots: what was so at the end of each day, from what happened up to then.

A day's state depends on the set of rows up to its end, not on the runs that brought them.
"""

from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace.config.sources import EntityConfig
from headrace.config.star import FactConfig
from headrace.engine import functions as parse
from headrace.schema import TableSchema
from headrace.standardize.schemas import PARTITION_COLUMN, processed_schema
from headrace.star.facts import STATE_DATE, sum_type
from headrace.star.row_diff import differing_rows


def states(
    told: DataFrame, days: Sequence[date], config: FactConfig, entity: EntityConfig
) -> DataFrame:
    """One row for each of the days and each combination of the grain's values told by then.

    Args:
        told: Of `state_changes`: the state at the end of an earlier day, and the rows since, up to
            the last of `days`.
        days: At whose ends the states are wanted.
        config: A fact that accumulates.
        entity: Types of the columns.

    Returns:
        The columns that the fact keeps of its entity, and `_partition_date`: one of `days`.
    """
    grain = [*config.grain]
    at_end = F.explode(F.array(*(F.lit(day) for day in days)))
    known = F.col(PARTITION_COLUMN) >= F.col(STATE_DATE)
    if config.snapshot_of == "movements":
        of_days = [_sum_of_day(name, entity) for name in config.measures]
        sums = [_sum(name, entity) for name in config.measures]
        # By day first: each is counted once for every day after it. What was before is one.
        since = F.greatest(F.col(STATE_DATE), F.lit(days[0])).alias(STATE_DATE)
        added = told.select(*grain, *config.measures, since).groupBy(*grain, STATE_DATE)
        by_day = added.agg(*of_days)
        each = by_day.withColumn(PARTITION_COLUMN, at_end).where(known)
        return each.groupBy(*grain, PARTITION_COLUMN).agg(*sums)
    # The grain is the entity's key: no NULL is in it, and a day tells each but once.
    each = told.select(*grain, STATE_DATE).withColumn(PARTITION_COLUMN, at_end).where(known)
    latest = each.groupBy(*grain, PARTITION_COLUMN).agg(F.max(STATE_DATE).alias(STATE_DATE))
    return latest.join(told, [*grain, STATE_DATE])


def state_changes(
    before: DataFrame | None, since: DataFrame, config: FactConfig, entity: EntityConfig
) -> DataFrame:
    """The state at the end of a day and the rows after it, in one form, with the day that told it.

    Args:
        before: The fact's rows of that day in the lake; None: nothing was told before.
        since: Processed rows of later days.
        config: A fact that accumulates.
        entity: Types of the columns.

    Returns:
        The columns that the fact keeps of its entity, and `_told_on`. The sums of a day count as
        told on it.
    """
    schema = _kept_columns(config, entity)
    is_sum = config.snapshot_of == "movements"

    def formed(rows: DataFrame, told_on: str) -> DataFrame:
        cast = (
            parse.cast_to(F.col(c.name), _type_told(c.name, c.type, config)).alias(c.name)
            for c in schema
        )
        return rows.select(*cast, F.col(told_on).alias(STATE_DATE))

    rows = formed(since, PARTITION_COLUMN)
    if before is None:
        return rows
    return formed(before, PARTITION_COLUMN if is_sum else STATE_DATE).unionByName(rows)


def first_change(
    removed: DataFrame, added: DataFrame, config: FactConfig, entity: EntityConfig
) -> date | None:
    """First day of which the entity's rows tell the fact something else than they did; or None.

    Args:
        removed: Processed rows of files that went.
        added: Of those that came. Rows that are in both cancel out.
        config: A fact that accumulates.
        entity: Types of the columns.
    """
    day = processed_schema(entity).column(PARTITION_COLUMN)
    schema = _kept_columns(config, entity).plus([day])
    differing = differing_rows(added, removed, schema)
    found: date | None = differing.agg(F.min(PARTITION_COLUMN).alias("first")).collect()[0]["first"]
    return found


def _kept_columns(config: FactConfig, entity: EntityConfig) -> TableSchema:
    names = [*config.grain, *config.columns, *config.dates.values()]
    for join in config.dimensions:
        names += join.natural_key.values()
    every = dict.fromkeys([*names, *config.measures])
    return TableSchema(tuple(entity.processed_column(name) for name in every))


def _type_told(name: str, kind: str, config: FactConfig) -> str:
    is_sum = config.snapshot_of == "movements" and name in config.measures
    return sum_type(kind) if is_sum else kind


def _sum_of_day(name: str, entity: EntityConfig) -> Column:
    kind = sum_type(entity.column(name).type)
    if kind != "bigint":
        return parse.cast_to(F.sum(name), kind).alias(name)
    # What is too large on its way may fit in the end. A sum of bigints would wrap in Sail.
    return F.sum(F.col(name).cast("decimal(20,0)")).alias(name)


def _sum(name: str, entity: EntityConfig) -> Column:
    # NULL adds nothing; a sum of nothing but NULLs stays unknown, and so does one that does not
    # fit: its audit, which adds up more widely, holds the day.
    kind = sum_type(entity.column(name).type)
    return parse.cast_to(F.sum(name), kind).alias(name)
