"""Calculated columns: their values, and the fault of a row for which one has no result."""

from collections.abc import Iterator
from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.entities.mapping import CalculatedColumn
from headrace.engine.checked_expression import (
    BY_ZERO,
    OUT_OF_RANGE,
    UNCASTABLE,
    Checked,
    checked_column,
)
from headrace.engine.values.text_forms import normalized
from headrace.errors import ConfigError
from headrace.lineage_schema import LINEAGE
from headrace.schema import PARTITION_COLUMN

# In the order of the reasons of the check `failed_calculation`.
FAULTS = (BY_ZERO, UNCASTABLE, OUT_OF_RANGE)
_FAULT = "_fault_"


def fault_column(name: str) -> str:
    """The column of typed rows that holds the fault of a calculated column; NULL without one."""
    return _FAULT + name


def fault_columns(entity: EntityConfig) -> list[str]:
    """The fault columns of an entity's typed rows."""
    return [fault_column(column.name) for column in entity.calculated]


def with_calculated(rows: DataFrame, entity: EntityConfig) -> DataFrame:
    """Add the calculated columns and their faults to typed rows.

    Raises:
        ConfigError: An expression cannot be evaluated.
    """
    types = _source_types(entity)
    for column in entity.calculated:
        found = checked_column(column.expression, column.type, types)
        types[column.name] = column.type
        # One projection a column: a column that others use is calculated once.
        rows = rows.select(
            "*", _value(found, column).alias(column.name), _fault(found).alias(_FAULT + column.name)
        )
    return rows


def calculation_faults(entity: EntityConfig) -> Iterator[tuple[str, str]]:
    """Expressions that cannot be evaluated: the path in the file, and the message."""
    types = _source_types(entity)
    for column in entity.calculated:
        try:
            checked_column(column.expression, column.type, types)
        except ConfigError as error:
            place = f"entities[{entity.name}].calculated[{column.name}].expression"
            yield place, f"{error}: {error.fix}"
        types[column.name] = column.type


def require_valid_calculations(entity: EntityConfig) -> None:
    """Refuse an entity with an expression that cannot be evaluated.

    Raises:
        ConfigError: One line for each expression.
    """
    if lines := [f"{place}: {why}" for place, why in calculation_faults(entity)]:
        raise ConfigError("\n".join(lines), fix="headrace check names file and line")


def _source_types(entity: EntityConfig) -> dict[str, str]:
    types = {column.name: column.type for column in (*entity.columns, *entity.looked_up, *LINEAGE)}
    return types | {PARTITION_COLUMN: "date"}


def _value(found: Checked, column: CalculatedColumn) -> Column:
    return normalized(found.value, column.normalize) if column.normalize else found.value


def _fault(found: Checked) -> Column:
    fault = F.lit(None).cast("string")
    for why in reversed(FAULTS):
        if holds := [condition for reason, condition in found.faults if reason == why]:
            fault = F.when(reduce(or_, holds), F.lit(why)).otherwise(fault)
    return fault
