"""Maps columns and types to Iceberg and Parquet, and plans schema evolution."""

from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
)

from headrace.errors import IncompatibleSchemaError, UnknownColumnError, rebuild_command
from headrace.schema import Column, TableSchema, arrow_type, decimal_parts, type_name_of_arrow

_SIMPLE: dict[str, IcebergType] = {
    "string": StringType(),
    "boolean": BooleanType(),
    "int": IntegerType(),
    "bigint": LongType(),
    "double": DoubleType(),
    "date": DateType(),
    "timestamp": TimestampType(),
    "timestamptz": TimestamptzType(),
}
_SIMPLE_NAMES = {kind: name for name, kind in _SIMPLE.items()}
_LIST_OF_STRINGS = "list<string>"
_FIRST_PARTITION_FIELD = 1000  # Iceberg's specification counts partition fields from here.


@dataclass(frozen=True)
class SchemaEvolution:
    """The changes that a table needs before a publication with another schema.

    Attributes:
        added: New columns.
        widened: Columns that get a wider type.
        removed: Names of dropped columns. A column that is also in `added` is recreated with an
            incompatible type, which requires that no published file stays.
    """

    added: tuple[Column, ...]
    widened: tuple[Column, ...]
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there are any changes."""
        return bool(self.added or self.widened or self.removed)


def plan_rebuild(published: TableSchema, new: TableSchema) -> SchemaEvolution:
    """Plan how to replace the schema of a table, when no published file stays."""
    before = {column.name: _canonical(column.type) for column in published}
    after = {column.name: _canonical(column.type) for column in new}
    added = tuple(c for c in new if before.get(c.name) != after[c.name])
    removed = tuple(name for name in before if before[name] != after.get(name))
    return SchemaEvolution(added, (), removed)


def plan_evolution(table: str, published: TableSchema, new: TableSchema) -> SchemaEvolution:
    """Plan how to extend `published` by `new`; a column that `new` lacks stays, NULL in new rows.

    Raises:
        IncompatibleSchemaError: A new type cannot hold the published values.
    """
    types = {column.name: _canonical(column.type) for column in published}
    for column in new:
        after = _canonical(column.type)
        before = types.get(column.name, after)
        if after != before and not can_widen(before, after):
            raise IncompatibleSchemaError(
                f"{table}: column '{column.name}' is published as {before} "
                f"and cannot become {column.type}",
                fix=f"declare '{column.name}' as {before}, or rebuild the table and what is built "
                f"from it: {rebuild_command(table)}",
            )
    return SchemaEvolution(
        added=tuple(column for column in new if column.name not in types),
        widened=tuple(
            c for c in new if _canonical(c.type) != types.get(c.name, _canonical(c.type))
        ),
    )


def can_widen(old: str, new: str) -> bool:
    """Whether every value of type `old` is a value of `new` and Iceberg reads it as one."""
    before, after = decimal_parts(old), decimal_parts(new)
    if before and after:
        return before[1] == after[1] and before[0] <= after[0]
    return (old, new) == ("int", "bigint")


def check_file(table: str, published: TableSchema, uri: str, columns: pa.Schema) -> None:
    """Check that a Parquet file's columns have exactly the table's types.

    Iceberg readers widen narrower types, but Sail 0.7 cannot read files of different types at once,
    not even int16 and int, or large_string and string.

    Raises:
        IncompatibleSchemaError: The file has a column that the table lacks, or another type.
    """
    types = {column.name: _canonical(column.type) for column in published}
    for column in columns:
        expected, found = types.get(column.name), type_name_of_arrow(column.type)
        if expected is None:
            raise IncompatibleSchemaError(
                f"{table}: a staged file has the column '{column.name}' ({found}), "
                f"which the schema lacks: {uri}",
                fix=f"add '{column.name}' to the schema or leave it out of the files",
            )
        if not _is_written_as(column.type, arrow_type(expected)):
            written = str(column.type) if found == expected else found
            raise IncompatibleSchemaError(
                f"{table}: column '{column.name}' is {expected}, "
                f"but {written} in a staged file: {uri}",
                fix=f"cast '{column.name}' to {expected} before it is written",
            )


def _is_written_as(found: pa.DataType, expected: pa.DataType) -> bool:
    if pa.types.is_list(expected):
        return pa.types.is_list(found) and _is_written_as(found.value_type, expected.value_type)
    # In memory, string_view is another type than string; in a file there is no difference.
    return bool(found == expected or (found == pa.string_view() and expected == pa.string()))


def iceberg_type(type_name: str, element_id: int) -> IcebergType:
    """The Iceberg type of a logical type; `element_id` is the field id of a list's elements."""
    if parts := decimal_parts(type_name):
        return DecimalType(*parts)
    if type_name == _LIST_OF_STRINGS:
        return ListType(element_id, StringType(), element_required=False)
    return _SIMPLE[type_name]


def iceberg_schema(schema: TableSchema) -> Schema:
    """The Iceberg schema. Fields are optional, as engines write them; checks audit NOT NULL."""
    count = len(schema.columns)
    return Schema(
        *(
            NestedField(
                number,
                c.name,
                iceberg_type(c.type, count + number),
                required=False,
                doc=c.description or None,
            )
            for number, c in enumerate(schema, start=1)
        )
    )


def partition_spec(schema: Schema, column: str | None) -> PartitionSpec:
    """Identity partitions by `column`; none without one.

    Raises:
        UnknownColumnError: The schema lacks the column.
    """
    if column is None:
        return PartitionSpec()
    try:
        source = schema.find_field(column).field_id
    except ValueError:
        raise UnknownColumnError(
            f"the partition column '{column}' is not in the schema",
            fix=f"use one of {', '.join(schema.column_names)}, or add the column",
        ) from None
    return PartitionSpec(
        PartitionField(source, _FIRST_PARTITION_FIELD, IdentityTransform(), column)
    )


def partition_column(table: Table) -> str | None:
    """The date column by which a table is partitioned; None for one without partitions.

    Raises:
        IncompatibleSchemaError: The table, of another program, has an unsupported partition spec.
    """
    fields = table.spec().fields
    if not fields:
        return None
    source = table.schema().find_field(fields[0].source_id)
    whole = isinstance(fields[0].transform, IdentityTransform)
    if len(fields) > 1 or not whole or source.field_type != DateType():
        raise IncompatibleSchemaError(
            f"{'.'.join(table.name())} is partitioned by {', '.join(map(str, fields))}",
            fix="read it with the program that created it; Headrace partitions by one date column",
        )
    return source.name


def widened_columns(table: Table) -> frozenset[str]:
    """The columns that may have a narrower type in older files."""
    earlier = [field for schema in table.schemas().values() for field in schema.fields]
    return frozenset(
        field.name
        for field in table.schema().fields
        if any(f.field_id == field.field_id and f.field_type != field.field_type for f in earlier)
    )


def table_schema(table: str, schema: Schema) -> TableSchema:
    """The logical schema of a published table.

    Raises:
        IncompatibleSchemaError: Another program added a column of an unsupported type.
    """
    columns = []
    for found in schema.fields:
        kind = found.field_type
        name = _SIMPLE_NAMES.get(kind, _canonical(str(kind)))
        if name not in _SIMPLE and name != _LIST_OF_STRINGS and not decimal_parts(name):
            raise IncompatibleSchemaError(
                f"{table}: column '{found.name}' has the type {kind}, which Headrace does not read",
                fix=f"drop '{found.name}', or read the table with another program",
            )
        columns.append(Column(found.name, name, nullable=True, description=found.doc or ""))
    return TableSchema(tuple(columns))


def _canonical(type_name: str) -> str:
    """A type's name without spaces: `decimal(9,2)` and `decimal(9, 2)` are one type."""
    return type_name.replace(" ", "")
