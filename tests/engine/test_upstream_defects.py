"""Defects of Sail 0.7.2 that the engine package works around: each turns red once it is mended.

Then its work-around can go, and the test with it.
"""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.connect.session import SparkSession as ConnectSession

from headrace.engine import functions as parse
from tests.engine.evaluating import each


@pytest.fixture(scope="module")
def unguarded(sail: SparkSession) -> Iterator[SparkSession]:
    """Sail as it comes: with column statistics, which `connect` turns off."""
    from pysail.spark import SparkConnectServer  # noqa: PLC0415

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAIL_EXECUTION__COLLECT_STATISTICS", "true")
        server = SparkConnectServer("127.0.0.1", 0)
        server.start()
    session = ConnectSession.builder.remote(
        f"sc://127.0.0.1:{server.listening_address[1]}"
    ).create()
    yield cast(SparkSession, session)
    session.stop()
    server.stop()


@pytest.fixture(scope="module")
def texts(unguarded: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    path = tmp_path_factory.mktemp("texts") / "rows.parquet"
    pq.write_table(pa.table({"k": ["999992", "1000002", "1000003", "5"]}), path)
    return unguarded.read.parquet(str(path))


def between(numbers: DataFrame) -> list[int]:
    return [row["n"] for row in numbers.where(F.col("n").between(5, 6)).collect()]


def extremes(numbers: DataFrame) -> list[int]:
    return [*numbers.agg(F.min("n"), F.max("n")).collect()[0]]


@pytest.mark.xfail(raises=PySparkException, reason="apache/datafusion#25532: interval of a cast")
def test_a_filter_on_a_cast_text_column_finds_its_rows(texts: DataFrame) -> None:
    assert between(texts.select(F.col("k").cast("bigint").alias("n"))) == [5]


@pytest.mark.xfail(raises=AssertionError, reason="apache/datafusion#25221: statistics of a cast")
def test_the_extremes_of_a_cast_text_column_are_those_of_its_numbers(texts: DataFrame) -> None:
    assert extremes(texts.select(F.col("k").cast("bigint").alias("n"))) == [5, 1000003]


def test_parsed_numbers_are_not_touched_by_the_statistics_of_texts(texts: DataFrame) -> None:
    numbers = texts.select(parse.parse_integer(F.col("k")).alias("n"))
    assert between(numbers) == [5]
    assert extremes(numbers) == [5, 1000003]


def raw(column: Column) -> Column:
    return column.try_cast("decimal(12,2)")


@pytest.mark.xfail(raises=AssertionError, reason="Sail reads no exponent in a decimal's text")
def test_an_exponent_is_read(sail: SparkSession) -> None:
    assert each(sail, ["1e3"], raw) == [Decimal(1000)]


@pytest.mark.xfail(raises=AssertionError, reason="Sail reads no text of more than 76 digits")
def test_a_long_fraction_is_read(sail: SparkSession) -> None:
    assert each(sail, ["1.5" + "0" * 80], raw) == [Decimal("1.5")]


@pytest.mark.xfail(raises=AssertionError, reason="Sail rounds the binary double, not its digits")
def test_a_double_rounds_as_it_is_printed(sail: SparkSession) -> None:
    assert each(sail, [1.005], raw, "double") == [Decimal("1.01")]


@pytest.mark.xfail(raises=AssertionError, reason="Sail hashes all 128 bits of a wide decimal")
def test_a_wide_decimal_hashes_as_in_spark(sail: SparkSession) -> None:
    # What Spark 4.1.4 gives for xxhash64(cast(1 as decimal(38,18))).
    found = each(sail, [Decimal(1)], F.xxhash64, "decimal(38,18)")
    assert found == [-1012199175776213219]


@pytest.mark.xfail(raises=PySparkException, reason="Sail has no try_to_date")
def test_a_date_has_a_try_of_its_own(sail: SparkSession) -> None:
    assert sail.sql("SELECT try_to_date('2017-02-30')").collect()[0][0] is None


def fails(frame: DataFrame) -> bool:
    try:
        frame.collect()
    except PySparkException:
        return True
    return False


@pytest.mark.xfail(raises=AssertionError, reason="Sail's sums of bigints wrap around")
def test_an_overflow_of_bigints_is_an_error(sail: SparkSession) -> None:
    assert fails(sail.sql("SELECT id + 9223372036854775807 FROM range(2)"))


@pytest.mark.xfail(raises=AssertionError, reason="Sail finds no rows where there is no file")
def test_a_path_without_files_is_an_error(sail: SparkSession, tmp_path: Path) -> None:
    assert fails(sail.read.schema("k string").parquet(str(tmp_path / "nothing")))
