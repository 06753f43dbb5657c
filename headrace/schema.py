"""Columns and types of a table, said once and translated for every system that stores it.

Belongs here: our logical types, a table's schema, its Arrow form.
Elsewhere: Spark's form (headrace.engine.types), Iceberg's (headrace.lake.schema), Postgres's
(headrace.warehouse.schema).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from headrace.errors import ConfigError

_DECIMAL = re.compile(r"decimal\((\d{1,2}),\s*(\d{1,2})\)")

# Of a decimal in Arrow, Iceberg and both engines.
_MOST_DIGITS = 38

_ARROW = {
    "string": pa.string(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "list<string>": pa.list_(pa.string()),
}

TYPE_NAMES = (*_ARROW, "decimal(p,s)")


def decimal_parts(type_name: str) -> tuple[int, int] | None:
    """Precision and scale of `decimal(p,s)`, or None for any other type."""
    match = _DECIMAL.fullmatch(type_name)
    return (int(match[1]), int(match[2])) if match else None


def arrow_type(type_name: str) -> pa.DataType:
    """Arrow's form of one of our types.

    Raises:
        ConfigError: `type_name` is none of TYPE_NAMES, or a decimal out of range.
    """
    if type_name in _ARROW:
        return _ARROW[type_name]
    parts = decimal_parts(type_name)
    if parts is None or not 1 <= parts[0] <= _MOST_DIGITS or parts[1] > parts[0]:
        raise ConfigError(
            f"'{type_name}' is not a column type", fix=f"use one of {', '.join(TYPE_NAMES)}"
        )
    return pa.decimal128(*parts)


@dataclass(frozen=True)
class Column:
    """One column: its name, one of TYPE_NAMES, and whether a published row may lack it.

    `timestamp` is wall-clock time without a zone, `timestamptz` an instant in UTC; both µs.
    """

    name: str
    type: str
    nullable: bool = True
    description: str = ""


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table, in their order."""

    columns: tuple[Column, ...]

    def __iter__(self) -> Iterator[Column]:
        """Yield the columns in order."""
        return iter(self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The column called `name`; KeyError if there is none."""
        return {column.name: column for column in self.columns}[name]

    def plus(self, columns: Iterable[Column]) -> "TableSchema":
        """This schema with more columns at its end."""
        return TableSchema((*self.columns, *columns))

    def without(self, *names: str) -> "TableSchema":
        """This schema less the columns called `names`."""
        return TableSchema(tuple(c for c in self.columns if c.name not in names))

    def arrow(self) -> pa.Schema:
        """Arrow's form. Every field is nullable: engines write them so; not-null is audited."""
        return pa.schema([pa.field(c.name, arrow_type(c.type)) for c in self.columns])
