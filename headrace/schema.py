"""Logical column types, table schemas, and their Arrow form."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from headrace.errors import ConfigError, IncompatibleSchemaError

_DECIMAL = re.compile(r"decimal\((\d{1,2}),\s*(\d{1,2})\)")

# Maximum digits of a decimal in Arrow, Iceberg and both engines.
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

# First day of the period of a row; raw, processed and curated tables are partitioned by it.
PARTITION_COLUMN = "_partition_date"

TYPE_NAMES = (*_ARROW, "decimal(p,s)")


def decimal_parts(type_name: str) -> tuple[int, int] | None:
    """Precision and scale of `decimal(p,s)`, or None for any other type."""
    match = _DECIMAL.fullmatch(type_name)
    return (int(match[1]), int(match[2])) if match else None


def arrow_type(type_name: str) -> pa.DataType:
    """The Arrow type of a logical type.

    Raises:
        ConfigError: `type_name` is not in TYPE_NAMES, or a decimal out of range.
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
    """One column of a table; `type` is one of TYPE_NAMES.

    `timestamp` is a local time without a zone, `timestamptz` an instant in UTC; both in µs.
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
        """This schema with further columns at its end."""
        return TableSchema((*self.columns, *columns))

    def without(self, *names: str) -> "TableSchema":
        """This schema without the columns called `names`."""
        return TableSchema(tuple(c for c in self.columns if c.name not in names))

    def arrow(self) -> pa.Schema:
        """The Arrow schema. Every field is nullable, as engines write them; audits check nulls."""
        return pa.schema([pa.field(c.name, arrow_type(c.type)) for c in self.columns])


def type_name_of_arrow(kind: pa.DataType) -> str:
    """The logical type of an Arrow type; `float` or Arrow's name for types without one."""
    if pa.types.is_dictionary(kind):
        return type_name_of_arrow(kind.value_type)
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind) and kind.unit == "us":
        return "timestamp" if kind.tz is None else "timestamptz"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{type_name_of_arrow(kind.value_type)}>"
    return _ARROW_NAMES.get(kind, str(kind))


_ARROW_NAMES = {
    pa.int8(): "int",
    pa.int16(): "int",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    pa.string(): "string",
    pa.large_string(): "string",
    pa.string_view(): "string",
}


def schema_of_arrow(columns: pa.Schema) -> TableSchema:
    """The table schema for an Arrow schema: floats become double, all times µs.

    Raises:
        IncompatibleSchemaError: A column's type has no logical type.
    """
    found = []
    for column in columns:
        kind = column.type
        if pa.types.is_timestamp(kind):
            kind = pa.timestamp("us", tz=kind.tz)
        name = type_name_of_arrow(kind).replace("float", "double")
        if name not in TYPE_NAMES and not decimal_parts(name):
            raise IncompatibleSchemaError(
                f"column '{column.name}' has the type {column.type}, which tables do not support",
                fix=f"cast '{column.name}' to one of {', '.join(TYPE_NAMES)}",
            )
        found.append(Column(column.name, name))
    return TableSchema(tuple(found))
