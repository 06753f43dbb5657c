"""Conversion between the logical types of `headrace.schema` and Spark's types."""

from pyspark.sql import types as spark_types

from headrace.errors import ConfigError
from headrace.schema import Column, TableSchema, arrow_type, decimal_parts

_SPARK: dict[str, spark_types.DataType] = {
    "string": spark_types.StringType(),
    "boolean": spark_types.BooleanType(),
    "int": spark_types.IntegerType(),
    "bigint": spark_types.LongType(),
    "double": spark_types.DoubleType(),
    "date": spark_types.DateType(),
    "timestamp": spark_types.TimestampNTZType(),
    "timestamptz": spark_types.TimestampType(),
    "list<string>": spark_types.ArrayType(spark_types.StringType()),
}


def spark_type(type_name: str) -> spark_types.DataType:
    """Spark's type for a logical type.

    Raises:
        ConfigError: `type_name` is no logical type.
    """
    arrow_type(type_name)
    parts = decimal_parts(type_name)
    return spark_types.DecimalType(*parts) if parts else _SPARK[type_name]


def sql_type(type_name: str) -> str:
    """The name of a logical type in `CAST` on both engines, such as `timestamp_ntz`."""
    return spark_type(type_name).simpleString()


def spark_schema(schema: TableSchema) -> spark_types.StructType:
    """Spark's schema of a table. Every field is nullable: an audit enforces not-null."""
    return spark_types.StructType(
        [spark_types.StructField(column.name, spark_type(column.type)) for column in schema]
    )


def type_name_of(data_type: spark_types.DataType) -> str:
    """The logical type of one of Spark's types.

    Raises:
        ConfigError: There is no such logical type (binary, float, map, struct, ...).
    """
    if isinstance(data_type, spark_types.DecimalType):
        return f"decimal({data_type.precision},{data_type.scale})"
    for name, candidate in _SPARK.items():
        if candidate.simpleString() == data_type.simpleString():
            return name
    raise ConfigError(
        f"'{data_type.simpleString()}' is not a column type",
        fix=f"cast the column to one of {', '.join(_SPARK)} or a decimal",
    )


def table_schema(struct: spark_types.StructType) -> TableSchema:
    """The table schema of a DataFrame's schema, every column nullable."""
    return TableSchema(
        tuple(Column(field.name, type_name_of(field.dataType)) for field in struct.fields)
    )
