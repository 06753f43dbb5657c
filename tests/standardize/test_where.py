"""Rows that are none of the entity's, and rows that only their place tells apart."""

from datetime import UTC, date, datetime

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.sources.file_source import FileEntity
from headrace.engine.values.types import spark_schema
from headrace.raw.capture import raw_schema
from headrace.standardize.deduplication import latest_rows, repeated_keys
from headrace.standardize.good_rows import good_rows, left_out_rows
from headrace.standardize.quarantine import quarantined_rows
from headrace.standardize.schemas import RunStamp

DAY = date(2010, 12, 1)
CAPTURED = datetime(2010, 12, 2, tzinfo=UTC)
STAMP = RunStamp("run", "code", "2010-12-02T00:00:00+00:00")
CUSTOMERS = {
    "name": "customers",
    "extract": {"mode": "files", "path": "orders-{date:%Y-%m-%d}.csv"},
    "where": "customer_id is not null and country <> 'Nowhere'",
    "key": ["customer_id"],
    "columns": [
        {"name": "customer_id", "type": "bigint"},
        {"name": "country", "type": "string", "required": True},
    ],
    "rules": [{"name": "real", "expect": "customer_id > 0", "reason": "not a customer's number"}],
}


def entity(**changes: object) -> EntityConfig:
    return FileEntity.model_validate(CUSTOMERS | changes)


def raw(spark: SparkSession, *rows: tuple[str | None, str | None]) -> DataFrame:
    """Captured rows, numbered from line 2; one whose fields are both None is a corrupt record."""
    captured = []
    for line, (customer, country) in enumerate(rows, start=2):
        lost = ("1;2;3", "3 fields") if customer is country is None else (None, None)
        place = (line, "orders.csv", None, "1 orders.csv", "v1")
        stamp = ("s.customers", CAPTURED, "batch", 0, DAY)
        captured.append((customer, country, *lost, *place, *stamp))
    return spark.createDataFrame(captured, spark_schema(raw_schema(entity())))


def counts(rows: DataFrame, configured: EntityConfig) -> tuple[int, int, int]:
    """Good, quarantined and left out."""
    left_out = {
        row["_partition_date"]: row["rows"] for row in left_out_rows(rows, configured).collect()
    }
    return (
        good_rows(rows, configured, STAMP).count(),
        quarantined_rows(rows, configured, STAMP).count(),
        left_out.get(DAY, 0),
    )


def test_a_row_that_is_none_of_the_entitys_is_left_out_and_counted(spark: SparkSession) -> None:
    rows = raw(spark, ("17850", "France"), ("", "France"), ("17851", "Nowhere"), (" ", "Spain"))
    assert counts(rows, entity()) == (1, 0, 3)


def test_a_condition_that_is_null_leaves_the_row_out(spark: SparkSession) -> None:
    assert counts(raw(spark, ("17850", "")), entity()) == (0, 0, 1)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param(("x", "Nowhere"), "customer_id: not a bigint", id="unreadable value"),
        pytest.param((None, None), "3 fields", id="corrupt record"),
        pytest.param(("-5", "France"), "not a customer's number", id="broken rule"),
    ],
)
def test_a_bad_row_is_quarantined_rather_than_left_out(
    spark: SparkSession, row: tuple[str | None, str | None], reason: str
) -> None:
    rows = raw(spark, row)
    assert counts(rows, entity()) == (0, 1, 0)
    [quarantined] = quarantined_rows(rows, entity(), STAMP).collect()
    assert quarantined["_reasons"] == reason


def test_without_a_condition_every_row_is_the_entitys(spark: SparkSession) -> None:
    rows = raw(spark, ("17850", "France"), ("", "France"), ("17851", "Nowhere"))
    assert counts(rows, entity(where=None)) == (2, 1, 0)


@pytest.mark.parametrize(
    ("key", "lines"),
    [(["customer_id"], [3, 4]), (["customer_id", "_source_position"], [2, 3, 4])],
    ids=["by what the source says", "by the line too"],
)
def test_rows_that_repeat_a_key_all_count_where_the_line_is_part_of_it(
    spark: SparkSession, key: list[str], lines: list[int]
) -> None:
    configured = entity(key=key)
    rows = raw(spark, ("17850", "France"), ("17850", "France"), ("17851", "Spain"))
    good = good_rows(rows, configured, STAMP)
    [counted] = repeated_keys(good, configured).collect()
    assert (counted["rows"], counted["keys"]) == (3, len(lines))
    assert (
        sorted(row["_source_position"] for row in latest_rows(good, configured).collect()) == lines
    )


@pytest.mark.parametrize(
    ("orders", "kept"), [((), [2]), (("version",), [3])], ids=["by place", "by the source's order"]
)
def test_of_rows_that_repeat_a_key_the_sources_order_keeps_the_last(
    spark: SparkSession, orders: tuple[str, ...], kept: list[int]
) -> None:
    columns = [*CUSTOMERS["columns"], {"name": "version", "type": "int"}]
    rows = raw(spark, ("17850", "France"), ("17850", "Spain"))
    good = good_rows(rows, entity(), STAMP)
    numbered = good.withColumn("version", F.when(F.col("_source_position") == 3, 1).otherwise(2))
    kept_rows = latest_rows(numbered, entity(columns=columns), orders).collect()
    # Without an order the later line counts; with one, the larger number.
    assert [5 - row["_source_position"] for row in kept_rows] == kept


def few_customers(rows: DataFrame) -> DataFrame:
    """A user's transform that filters, and repeats what is left."""
    kept = rows.where(F.col("customer_id") == 17850)
    return kept.unionByName(kept)


def test_what_a_transform_leaves_out_is_counted(spark: SparkSession) -> None:
    configured = entity(transform=f"{__name__}:few_customers")
    rows = raw(spark, ("17850", "France"), ("17851", "France"), ("17852", "Spain"), ("", "Spain"))
    # One by `where`; two of three by the transform, and one that it added.
    assert counts(rows, configured) == (2, 0, 2)
