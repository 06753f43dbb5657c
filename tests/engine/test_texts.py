from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from headrace.config.entities.columns import ColumnConfig
from headrace.engine import functions as parse
from tests.engine.evaluating import each

BLANKS = ["", " ", "\t\r\n", "\u00a0", "\u3000", "\ufeff", "\u2007\u202f"]


def test_text_loses_the_blanks_around_it_and_nothing_else(spark: SparkSession) -> None:
    texts = [" a  b ", "\u00a0c\u3000", "\ufeffd", "\te\r\n", "\u200bz", *BLANKS, None]
    found = each(spark, texts, parse.parse_text)
    assert found == ["a  b", "c", "d", "e", "\u200bz", *[None] * len(BLANKS), None]


def test_text_may_keep_its_blanks_and_its_emptiness(spark: SparkSession) -> None:
    texts = [" a ", "", " ", None]
    assert each(spark, texts, lambda c: parse.parse_text(c, trim=False)) == [" a ", None, " ", None]
    kept = each(spark, texts, lambda c: parse.parse_text(c, empty_as_null=False))
    assert kept == ["a", "", "", None]


def test_given_tells_what_did_not_parse_from_what_was_never_there(spark: SparkSession) -> None:
    assert each(spark, ["x", " 0 ", *BLANKS, None], parse.is_given) == [
        True,
        True,
        *[False] * len(BLANKS),
        False,
    ]


def test_a_boolean_is_one_of_the_known_texts(spark: SparkSession) -> None:
    texts = ["true", " T ", "YES", "y", "1", "False", "f", "no", "N", "0", "2", "on", "", None]
    expected = [*[True] * 5, *[False] * 5, *[None] * 4]
    assert each(spark, texts, parse.parse_boolean) == expected


def test_a_boolean_may_be_spelled_otherwise(spark: SparkSession) -> None:
    found = each(spark, ["JA", "nein", "yes"], lambda c: parse.parse_boolean(c, ["ja"], ["nein"]))
    assert found == [True, False, None]


DECLARED = {
    "string": (" a ", "a"),
    "int": ("7", "7"),
    "bigint": ("-12.0", "-12"),
    "double": ("1e1", "10.0"),
    "boolean": ("yes", "True"),
    "date": ("2017-01-31", "2017-01-31"),
    "timestamp": ("2017-01-31 08:00", "2017-01-31 08:00:00"),
    "timestamptz": ("2017-01-31T08:00:00+02:00", "2017-01-31 06:00:00"),
    "decimal(12,2)": ("12.340", "12.34"),
}


@pytest.mark.parametrize("kind", DECLARED)
def test_a_configured_column_is_parsed_by_its_type(spark: SparkSession, kind: str) -> None:
    column = ColumnConfig(name="c", type=kind)
    text, value = DECLARED[kind]
    assert [str(f) for f in each(spark, [text], lambda c: parse.parse_declared(column, c))] == [
        value
    ]


def test_a_configured_column_is_parsed_by_its_options(spark: SparkSession) -> None:
    price = ColumnConfig(
        name="price", type="decimal(12,2)", decimal_mark=",", grouping=".", currency="\u20ac"
    )
    day = ColumnConfig(name="day", type="date", formats=("d.M.yyyy", "M/d/yyyy"))
    birthday = ColumnConfig(name="birthday", type="date", formats=("dd/MM/yy",), pivot=1925)
    count = ColumnConfig(name="count", type="int", grouping=",", currency="pcs")
    weight = ColumnConfig(name="weight", type="double", grouping=".", currency="kg")
    rate = ColumnConfig(name="rate", type="decimal(5,2)", round="half_up")
    at = ColumnConfig(name="at", type="timestamp", round="down")
    found = [
        *each(spark, ["1.234,50 \u20ac"], lambda c: parse.parse_declared(price, c)),
        *each(spark, ["31.1.2017", "1/31/2017"], lambda c: parse.parse_declared(day, c)),
        *each(spark, ["31/12/24", "01/01/25"], lambda c: parse.parse_declared(birthday, c)),
        *each(spark, ["1,234 pcs"], lambda c: parse.parse_declared(count, c)),
        *each(spark, ["1.234", "1.234,5 kg"], lambda c: parse.parse_declared(weight, c)),
        *each(spark, ["1.005"], lambda c: parse.parse_declared(rate, c)),
        *each(spark, ["2017-01-31 08:00:00.123456789"], lambda c: parse.parse_declared(at, c)),
    ]
    assert [str(value) for value in found] == [
        *("1234.50", "2017-01-31", "2017-01-31", "2024-12-31", "1925-01-01", "1234", "1234.0"),
        *("1234.5", "1.01", "2017-01-31 08:00:00.123456"),
    ]


CASTS: dict[tuple[str, str], list[tuple[Any, str]]] = {
    ("bigint", "int"): [(7, "7"), (2**31, "None"), (None, "None")],
    ("int", "decimal(5,2)"): [(999, "999.00"), (1000, "None")],
    ("bigint", "string"): [(10, "10")],
    ("double", "int"): [(7.9, "7"), (-7.9, "-7"), (1e10, "None"), (float("nan"), "None")],
    ("boolean", "int"): [(True, "1")],
    ("date", "timestamp"): [("2017-01-31", "2017-01-31 00:00:00")],
    ("string", "date"): [(" 2017-01-31", "2017-01-31"), ("2017-02-30", "None")],
    ("string", "bigint"): [("1000002", "1000002"), ("x", "None")],
    ("string", "decimal(12,2)"): [("1e3", "1000.00"), ("1.005", "1.01")],
    ("string", "string"): [(" a ", " a ")],
}


@pytest.mark.parametrize("types", CASTS, ids=" to ".join)
def test_a_value_is_cast_or_becomes_null(spark: SparkSession, types: tuple[str, str]) -> None:
    source, target = types

    def build(column: Column) -> Column:
        typed = column if source != "date" else column.try_cast("date")
        return parse.cast_to(typed, target, source)

    values, texts = zip(*CASTS[types], strict=True)
    kind = "string" if source == "date" else source
    assert [str(f) for f in each(spark, values, build, kind)] == [*texts]


def test_numbers_in_a_text_column_have_their_own_minimum(
    spark: SparkSession, tmp_path: Path
) -> None:
    # In the order of texts, 1000002 is the smallest of these and 999992 the largest.
    texts = ["999992", "1000002", "1000003", "5"]
    rows = spark.createDataFrame([(text,) for text in texts], "k string").coalesce(1)
    rows.write.parquet(str(tmp_path / "rows"))
    read = spark.read.schema("k string").parquet(str(tmp_path / "rows"))
    numbers = read.select(parse.parse_integer(F.col("k")).alias("n"))
    lowest, highest = numbers.agg(F.min("n"), F.max("n")).collect()[0]
    assert (lowest, highest) == (5, 1000003)
    assert [row["n"] for row in numbers.where(F.col("n").between(5, 6)).collect()] == [5]


def test_texts_of_numbers_have_their_own_minimum(spark: SparkSession, tmp_path: Path) -> None:
    spark.createDataFrame([(2,), (10,), (30,)], "n bigint").write.parquet(str(tmp_path / "rows"))
    read = spark.read.schema("n bigint").parquet(str(tmp_path / "rows"))
    texts = read.select(parse.canonical_text(F.col("n"), "bigint").alias("t"))
    assert [*texts.agg(F.min("t"), F.max("t")).collect()[0]] == ["10", "30"]
