"""Good rows: typed, of the entity, without a broken rule, after the entity's `transform`."""

import importlib
from collections.abc import Callable
from functools import reduce
from typing import cast

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.engine import functions as parse
from headrace.engine.values.text_forms import pushdown_barrier
from headrace.errors import ConfigError
from headrace.schema import PARTITION_COLUMN
from headrace.standardize.quarantine import is_good, is_of_entity
from headrace.standardize.schemas import RunStamp, audit_columns, lineage_columns
from headrace.standardize.typed_columns import helper_columns, typed_where


def good_rows(raw: DataFrame, entity: EntityConfig, stamp: RunStamp) -> DataFrame:
    """Typed rows of the entity that break no rule, not deduplicated yet.

    Args:
        raw: Captured rows of one or more days, text columns as `raw_schema` names them.
        entity: Its columns and rules.
        stamp: Values of the audit columns.
    """
    return _transformed(_before_transform(raw, entity), entity).select(*_output(entity, stamp))


def left_out_rows(raw: DataFrame, entity: EntityConfig) -> DataFrame:
    """Per partition day: number of `rows` that `where` and `transform` leave out.

    A transform's number is the good rows before it less those after it, which is negative if it
    makes several rows of one. Rows with a value that does not parse are quarantined, never left
    out: the condition cannot be evaluated for them. Days without such rows may be absent.
    """
    counted = [(typed_where(raw, entity, ~is_of_entity(entity)), 1)]
    if entity.transform is not None:
        good = _before_transform(raw, entity)
        counted += [(good, 1), (_transformed(good, entity), -1)]
    signed = (rows.select(PARTITION_COLUMN, F.lit(sign).alias("_n")) for rows, sign in counted)
    found = reduce(DataFrame.unionByName, signed).groupBy(PARTITION_COLUMN)
    return found.agg(F.sum("_n").cast("bigint").alias("rows"))


def load_transform(reference: str) -> Callable[[DataFrame], DataFrame]:
    """Import the user's function `package.module:function`.

    Raises:
        ConfigError: There is no such module or function.
    """
    module, _, name = reference.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        # Importing runs the user's module, which may raise anything.
        raise ConfigError(
            f"transform '{reference}': {type(error).__name__}: {error}",
            fix="name an importable package.module:function",
        ) from error
    if not callable(found):
        raise ConfigError(f"transform '{reference}' is no function", fix="name a function")
    return cast(Callable[[DataFrame], DataFrame], found)


def _before_transform(raw: DataFrame, entity: EntityConfig) -> DataFrame:
    typed = typed_where(raw, entity, is_of_entity(entity) & is_good(entity))
    return typed.drop(*helper_columns(entity))


def _transformed(rows: DataFrame, entity: EntityConfig) -> DataFrame:
    if entity.transform is None:
        return rows
    normalized = {
        c.name: pushdown_barrier(F.col(c.name))
        for c in entity.processed_columns
        if entity.forms_of(c)
    }
    return load_transform(entity.transform)(rows.withColumns(normalized) if normalized else rows)


def _output(entity: EntityConfig, stamp: RunStamp) -> list[Column]:
    typed = [parse.cast_to(F.col(c.name), c.type).alias(c.name) for c in entity.processed_columns]
    return [*typed, *lineage_columns(), *audit_columns(stamp)]
