"""Control totals: exact sums of values that fit their type while their sum does not."""

from collections.abc import Sequence
from decimal import Context, Decimal
from functools import reduce

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from headrace.engine.values.types import spark_schema
from headrace.pipeline.curated.fact_audit import engine_sums, plus, summable, totals_of
from headrace.quality.partition_checks import ROWS
from headrace.schema import Column, TableSchema, arrow_type

LARGEST = 2**63 - 1
WIDE = "9" * 38
VALUES: dict[str, Sequence[int | str | None]] = {
    "int": [2**31 - 1, 2**31 - 1, -5, None],
    "bigint": [LARGEST, LARGEST, -(2**63), LARGEST],
    "decimal(12,2)": ["0.01", "9999999999.99", None, "-0.02"],
    "decimal(28,10)": [f"{WIDE[:18]}.{WIDE[:10]}"] * 3 + ["-0.0000000001"],
    "decimal(38,0)": [WIDE, WIDE, "-1", "-" + WIDE],
    "decimal(38,2)": [f"{WIDE[:36]}.99", f"{WIDE[:36]}.99", "-0.05", "7.00"],
    "decimal(38,38)": [f"0.{WIDE}", f"-0.{'0' * 37}1", "0", f"0.{WIDE}"],
    "decimal(38,6)": [None, None, None, None],
}
# Measures may be called as a count or a sum might be.
_NAMED = ("rows", "count_all", "sum", "a", "a_sum", "count", "key", "n")
NAMES = dict(zip(VALUES, _NAMED, strict=True))
SCHEMA = TableSchema(tuple(Column(NAMES[kind], kind) for kind in VALUES))


def table() -> pa.Table:
    columns = []
    for kind, values in VALUES.items():
        exact = [None if value is None else Decimal(value) for value in values]
        columns.append(pa.array(exact, pa.decimal128(38, 0) if "int" in kind else arrow_type(kind)))
    found = pa.Table.from_arrays(columns, names=SCHEMA.names)
    return found.cast(SCHEMA.arrow())


def expected() -> dict[str, Decimal]:
    exact = Context(prec=100)
    sums = {
        NAMES[kind]: reduce(exact.add, [Decimal(value or 0) for value in values], Decimal(0))
        for kind, values in VALUES.items()
    }
    return {ROWS: Decimal(4), **sums}


def test_the_engine_adds_up_to_the_last_digit(spark: SparkSession) -> None:
    frame = spark.createDataFrame(table(), spark_schema(SCHEMA))
    found = frame.agg(*engine_sums(SCHEMA.names, SCHEMA)).collect()[0]
    assert totals_of(found, SCHEMA.names, SCHEMA) == expected()


@pytest.mark.parametrize("cut", [0, 1, 4])
def test_arrow_adds_up_to_the_last_digit_in_any_batches(cut: int) -> None:
    whole = table()
    names = SCHEMA.names
    found: dict[str, Decimal] = {}
    for part in (whole.slice(0, cut), whole.slice(cut)):
        columns = {name: summable(part[name]) for name in names}
        sums = pa.table(columns).group_by([]).aggregate([(name, "sum") for name in names])
        row = sums.to_pylist()[0] if sums.num_rows else {}
        totals = {name: Decimal(row.get(f"{name}_sum") or 0) for name in names}
        found = dict(plus(found, {ROWS: Decimal(part.num_rows), **totals}))
    assert found == expected()
