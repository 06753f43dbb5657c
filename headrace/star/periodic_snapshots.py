"""Periodic snapshots: the state at the end of each day, computed from all rows up to then.

A day's state depends on the set of rows, not on the order of runs.
"""

from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.star.models import FactConfig
from headrace.engine import functions as parse
from headrace.engine.row_diff import differing_rows
from headrace.schema import PARTITION_COLUMN, TableSchema
from headrace.standardize.schemas import processed_schema
from headrace.star.facts import STATE_DATE, present_rows, sum_type


def states(
    changes: DataFrame, days: Sequence[date], config: FactConfig, entity: EntityConfig
) -> DataFrame:
    """The state at the end of each day: one row for each key of the grain known by then.

    Args:
        changes: Of `state_changes`: the state at the end of an earlier day, and the rows since, up
            to the last of `days`.
        days: The days to compute.
        config: A fact that accumulates.
        entity: Types of the columns.

    Returns:
        The fact's columns of its entity, and `_partition_date`: one of `days`.
    """
    grain = [*config.grain]
    at_end = F.explode(F.array(*(F.lit(day) for day in days)))
    known = F.col(PARTITION_COLUMN) >= F.col(STATE_DATE)
    if config.snapshot_of == "movements":
        of_days = [_sum_of_day(name, entity) for name in config.measures]
        sums = [_sum(name, entity) for name in config.measures]
        # Sum by day first: the next step repeats each day for every later one. All days before the
        # first of `days` count as that day.
        since = F.greatest(F.col(STATE_DATE), F.lit(days[0])).alias(STATE_DATE)
        added = changes.select(*grain, *config.measures, since).groupBy(*grain, STATE_DATE)
        by_day = added.agg(*of_days)
        each = by_day.withColumn(PARTITION_COLUMN, at_end).where(known)
        return each.groupBy(*grain, PARTITION_COLUMN).agg(*sums)
    # The grain is the entity's key: without NULLs, and unique within a day.
    each = changes.select(*grain, STATE_DATE).withColumn(PARTITION_COLUMN, at_end).where(known)
    latest = each.groupBy(*grain, PARTITION_COLUMN).agg(F.max(STATE_DATE).alias(STATE_DATE))
    return latest.join(changes, [*grain, STATE_DATE])


def state_changes(
    before: DataFrame | None, since: DataFrame, config: FactConfig, entity: EntityConfig
) -> DataFrame:
    """The state at the end of a day and the rows after it, with the same columns.

    Args:
        before: The fact's rows of that day in the lake; None: there is no earlier state.
        since: Processed rows of later days.
        config: A fact that accumulates.
        entity: Types of the columns.

    Returns:
        The fact's columns of its entity, and `_state_date`: the day on which the source delivered
        the state, or the day of a sum.
    """
    schema = _fact_columns(config, entity)
    is_sum = config.snapshot_of == "movements"

    def selected(rows: DataFrame, state_date: str) -> DataFrame:
        cast = (
            parse.cast_to(F.col(c.name), _state_type(c.name, c.type, config)).alias(c.name)
            for c in schema
        )
        return rows.select(*cast, F.col(state_date).alias(STATE_DATE))

    rows = selected(present_rows(since, entity), PARTITION_COLUMN)
    if before is None:
        return rows
    return selected(before, PARTITION_COLUMN if is_sum else STATE_DATE).unionByName(rows)


def first_change(
    removed: DataFrame, added: DataFrame, config: FactConfig, entity: EntityConfig
) -> date | None:
    """First day whose rows differ in the columns that the fact reads; None without any.

    Args:
        removed: Processed rows of removed files.
        added: Processed rows of added files. Rows in both cancel out.
        config: A fact that accumulates.
        entity: Types of the columns.
    """
    day = processed_schema(entity).column(PARTITION_COLUMN)
    schema = _fact_columns(config, entity).plus([day])
    both = present_rows(added, entity), present_rows(removed, entity)
    differing = differing_rows(*both, schema)
    found: date | None = differing.agg(F.min(PARTITION_COLUMN).alias("first")).collect()[0]["first"]
    return found


def _fact_columns(config: FactConfig, entity: EntityConfig) -> TableSchema:
    names = [*config.grain, *config.columns, *config.dates.values()]
    for join in config.dimensions:
        names += join.natural_key.values()
    every = dict.fromkeys([*names, *config.measures])
    return TableSchema(tuple(entity.processed_column(name) for name in every))


def _state_type(name: str, kind: str, config: FactConfig) -> str:
    is_sum = config.snapshot_of == "movements" and name in config.measures
    return sum_type(kind) if is_sum else kind


def _sum_of_day(name: str, entity: EntityConfig) -> Column:
    kind = sum_type(entity.column(name).type)
    if kind != "bigint":
        return parse.cast_to(F.sum(name), kind).alias(name)
    # As decimal: a sum of a day may overflow bigint although the total fits, and Sail wraps around.
    return F.sum(F.col(name).cast("decimal(20,0)")).alias(name)


def _sum(name: str, entity: EntityConfig) -> Column:
    # A sum of NULLs only is NULL. A sum that overflows is NULL, too: the audit, which computes with
    # more digits, holds the day.
    kind = sum_type(entity.column(name).type)
    return parse.cast_to(F.sum(name), kind).alias(name)
