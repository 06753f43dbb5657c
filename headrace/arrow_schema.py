"""From Arrow's types to ours: the schema of rows that nobody declared.

Belongs here: what an Arrow type is called with us, the table schema that holds a batch.
Elsewhere: our types and their Arrow form (headrace.schema).
"""

import pyarrow as pa

from headrace.errors import IncompatibleSchemaError
from headrace.schema import TYPE_NAMES, Column, TableSchema, decimal_parts


def type_name_of_arrow(kind: pa.DataType) -> str:
    """Our name of an Arrow type; `float` and names of Arrow's own for what a table cannot have."""
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
    """The table schema that holds `columns`: floats as double, all times in µs.

    Raises:
        IncompatibleSchemaError: A column's type has no place in a table.
    """
    found = []
    for column in columns:
        kind = column.type
        if pa.types.is_timestamp(kind):
            kind = pa.timestamp("us", tz=kind.tz)
        name = type_name_of_arrow(kind).replace("float", "double")
        if name not in TYPE_NAMES and not decimal_parts(name):
            raise IncompatibleSchemaError(
                f"column '{column.name}' has the type {column.type}, which no table can hold",
                fix=f"cast '{column.name}' to one of {', '.join(TYPE_NAMES)}",
            )
        found.append(Column(column.name, name))
    return TableSchema(tuple(found))
