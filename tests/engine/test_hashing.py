import math
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from headrace.engine import functions as parse
from tests.engine import xxh64
from tests.engine.evaluating import each, each_row

TYPES = (
    "string",
    "int",
    "bigint",
    "boolean",
    "double",
    "date",
    "timestamp",
    "timestamptz",
    "decimal(12,2)",
    "decimal(30,4)",
    "list<string>",
)
ROWS: list[tuple[Any, ...]] = [
    (
        "a",
        1,
        2,
        True,
        1.5,
        date(2024, 2, 29),
        datetime(2024, 2, 29, 23, 59, 59, 123456),
        datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC),
        Decimal("12.50"),
        Decimal("12345678901234567890.1234"),
        ["a", "b"],
    ),
    (None,) * len(TYPES),
    (
        "",
        0,
        -(2**63),
        False,
        -0.0,
        date(1, 1, 1),
        datetime(1, 1, 1),
        datetime(1900, 1, 1, tzinfo=UTC),
        Decimal("-0.05"),
        Decimal("0.0001"),
        [],
    ),
    (
        "日本語 ünïcode \U0001f600",
        -(2**31),
        2**63 - 1,
        True,
        1e-300,
        date(9999, 12, 31),
        datetime(9999, 12, 31, 23, 59, 59, 999999),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        Decimal("9999999999.99"),
        Decimal(-1),
        [None, "", "x,y", "\U0001f600"],
    ),
]


def hashes(spark: SparkSession, rows: Sequence[Sequence[Any]], types: Sequence[str]) -> list[int]:
    def build(*columns: Any) -> Any:
        return parse.row_hash([*zip(columns, types, strict=True)])

    return each_row(spark, rows, build, types)


def test_the_oracle_is_xxhash64() -> None:
    # Values of the reference implementation.
    assert xxh64.xxh64(b"", 0) == 0xEF46DB3751D8E999
    assert xxh64.xxh64(b"abc", 0) == 0x44BC2CF5AD770999
    assert xxh64.xxh64(bytes(range(100)), 0) == 0x6AC1E58032166597


def test_a_row_has_one_hash_on_every_engine(spark: SparkSession) -> None:
    assert hashes(spark, ROWS, TYPES) == [xxh64.row_hash(row, TYPES) for row in ROWS]


@pytest.mark.property
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(
        st.tuples(
            st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=70),
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.floats(allow_nan=False),
            st.none() | st.decimals(-(10**9), 10**9, places=2),
        ),
        max_size=40,
    )
)
def test_hashes_equal_the_oracles(spark: SparkSession, rows: list[tuple[Any, ...]]) -> None:
    types = ("string", "bigint", "double", "decimal(12,2)")
    assert hashes(spark, rows, types) == [xxh64.row_hash(row, types) for row in rows]


def test_what_is_alike_at_a_glance_differs(spark: SparkSession) -> None:
    pairs = [("a", "bc"), ("ab", "c"), (None, ""), ("", None), ("", ""), (None, None), ("abc", "")]
    assert len({*hashes(spark, pairs, ("string", "string"))}) == len(pairs)
    lists = [(["a", "b"],), (["a,1:b"],), (["a", None],), (["a"],), ([],), ([None],), (None,)]
    assert len({*hashes(spark, lists, ("list<string>",))}) == len(lists)


def test_an_int_and_a_bigint_of_one_value_give_one_key(spark: SparkSession) -> None:
    assert hashes(spark, [(7,)], ("int",)) == hashes(spark, [(7,)], ("bigint",))


def test_every_nan_is_one_value_and_so_are_both_zeros(spark: SparkSession) -> None:
    found = hashes(spark, [(math.nan,), (-math.nan,), (0.0,), (-0.0,)], ("double",))
    assert found[0] == found[1]
    assert found[2] == found[3]


def test_a_key_is_never_negative(spark: SparkSession) -> None:
    numbers = [(number,) for number in range(50)]
    keys = each_row(spark, numbers, lambda c: parse.hash_key([(c, "bigint")]), ("bigint",))
    assert keys == [xxh64.row_hash(n, ("bigint",)) & (2**63 - 1) for n in numbers]
    assert any(xxh64.row_hash(number, ("bigint",)) < 0 for number in numbers)


def test_the_order_of_columns_is_part_of_the_key(spark: SparkSession) -> None:
    assert hashes(spark, [(1, 2)], ("int", "int")) != hashes(spark, [(2, 1)], ("int", "int"))


TEXTS: dict[str, list[tuple[Any, str | None]]] = {
    "string": [("a b", "a b"), ("", ""), (None, None)],
    "int": [(-5, "-5"), (None, None)],
    "bigint": [(-(2**63), "-9223372036854775808")],
    "boolean": [(True, "true"), (False, "false")],
    "date": [(date(2024, 2, 29), "2024-02-29"), (date(1, 1, 1), "0001-01-01")],
    "timestamp": [
        (datetime(2024, 2, 29, 8), "2024-02-29 08:00:00"),
        (datetime(2024, 2, 29, 8, 0, 0, 120000), "2024-02-29 08:00:00.12"),
    ],
    "timestamptz": [(datetime(2024, 2, 29, 8, tzinfo=UTC), "2024-02-29 08:00:00")],
    "decimal(12,2)": [(Decimal("12.5"), "12.50"), (Decimal(0), "0.00")],
    # Spark prints small ones with an exponent elsewhere.
    "decimal(38,18)": [(Decimal("0.000000000000001332"), "0.000000000000001332")],
    "list<string>": [(["a", None], "1:a,N"), ([], ""), (None, None)],
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_value_has_one_text_on_every_engine(spark: SparkSession, kind: str) -> None:
    values = [value for value, _ in TEXTS[kind]]
    found = each(spark, values, lambda c: parse.canonical_text(c, kind), kind)
    assert found == [text for _, text in TEXTS[kind]]


def test_doubles_have_equal_texts_where_they_are_equal(spark: SparkSession) -> None:
    # The engines print them 10000000000.0 and 1.0E10.
    values = [1e10, 1e10 + 1, 1e-7, None]
    found = each(spark, values, lambda c: parse.canonical_text(c, "double"), "double")
    expected = [f"{xxh64.xxh64(xxh64._bytes(v, 'double')):X}" for v in values[:3]]
    assert found == [*expected, None]


def test_finer_timestamps_of_other_writers_hash_as_ours(
    spark: SparkSession, tmp_path: Path
) -> None:
    at = datetime(2017, 1, 1, 8)
    rows = pa.table({"at": pa.array([at], pa.timestamp("ms")), "n": pa.array([1], pa.int16())})
    pq.write_table(rows, tmp_path / "rows.parquet")
    frame = spark.read.parquet(str(tmp_path / "rows.parquet"))
    key = parse.row_hash([(F.col("at"), "timestamp"), (F.col("n"), "bigint")])
    (found,) = frame.select(key.alias("found")).collect()
    assert found["found"] == xxh64.row_hash((at, 1), ("timestamp", "bigint"))
