"""A condition on parsed columns, and what engines make of it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from headrace.engine import functions as parse

TEXTS = ["5", "x", "12", None, "-3"]


@pytest.fixture
def rows(spark: SparkSession, tmp_path: Path) -> DataFrame:
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "rows.parquet")
    return spark.read.schema("text string").parquet(str(tmp_path / "rows.parquet"))


def parsed() -> list[Column]:
    return [parse.parse_integer(F.col("text")).alias("n"), F.col("text")]


def test_rows_are_kept_for_which_the_condition_is_true(rows: DataFrame) -> None:
    kept = parse.select_where(rows, parsed(), F.col("n") > 4)
    assert kept.columns == ["n", "text"]
    assert sorted(tuple(row) for row in kept.collect()) == [(5, "5"), (12, "12")]


def test_what_is_selected_is_computed_once(
    rows: DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    # Of each column once, however often a condition of several parts names it.
    condition = F.col("n").isNotNull() & (F.col("n") > 4) & (F.col("text") != "x")
    parse.select_where(rows, parsed(), condition).explain(mode="simple")
    plan = capsys.readouterr().out
    assert plan.count("[0-9]+") == 1
