import pytest
from pyspark.sql import types as spark_types

from headrace.engine.values.types import (
    spark_schema,
    spark_type,
    sql_type,
    table_schema,
    type_name_of,
)
from headrace.errors import ConfigError
from headrace.schema import TYPE_NAMES, Column, TableSchema

KINDS = [*(name for name in TYPE_NAMES if "(" not in name), "decimal(12,2)", "decimal(38,0)"]
SCHEMA = TableSchema(tuple(Column(f"c{n}", kind) for n, kind in enumerate(KINDS)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_of_ours_has_one_of_sparks_and_back(kind: str) -> None:
    assert type_name_of(spark_type(kind)) == kind


def test_a_schema_goes_to_spark_and_back() -> None:
    assert table_schema(spark_schema(SCHEMA)) == SCHEMA


def test_a_wall_clock_time_has_no_zone_and_an_instant_has() -> None:
    assert sql_type("timestamp") == "timestamp_ntz"
    assert sql_type("timestamptz") == "timestamp"


def test_sparks_columns_may_always_be_null() -> None:
    schema = TableSchema((Column("id", "bigint", nullable=False),))
    assert [field.nullable for field in spark_schema(schema).fields] == [True]


@pytest.mark.parametrize("kind", ["float", "decimal(39,0)", "decimal(2,3)", "timestamp_ntz"])
def test_a_type_that_is_not_ours_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="is not a column type"):
        spark_type(kind)


@pytest.mark.parametrize("kind", [spark_types.FloatType(), spark_types.BinaryType()])
def test_a_type_of_sparks_that_we_lack_is_refused(kind: spark_types.DataType) -> None:
    with pytest.raises(ConfigError, match="is not a column type"):
        type_name_of(kind)
