"""Typed raw columns: values of the declared type pass, others are converted or quarantined."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from headrace.config.entities.entity import EntityConfig
from headrace.engine.values.types import spark_schema
from headrace.raw.capture import raw_schema
from headrace.standardize.good_rows import good_rows
from headrace.standardize.quarantine import quarantined_rows, typed_values
from tests.standardize.captured import CAPTURED, DAY, STAMP, entity

AT = datetime(2024, 1, 2, 8, 30, 15, 250_000)  # wall-clock time
PARQUET = {"mode": "files", "path": "o-{date:%Y-%m-%d}.parquet", "format": {"type": "parquet"}}


def typed(*columns: Mapping[str, Any], **options: Any) -> EntityConfig:
    return entity(*columns, extract=PARQUET, **options)


def capture(
    spark: SparkSession, configured: EntityConfig, rows: Sequence[Sequence[Any]]
) -> DataFrame:
    schema = raw_schema(configured)
    lineage = {"_source_object": "o.parquet", "_captured_at": CAPTURED, "_partition_date": DAY}
    captured = []
    for number, values in enumerate(rows, start=1):
        row = dict.fromkeys(schema.names) | lineage | {"_source_position": number, "id": number}
        names = [column.name for column in configured.columns if column.name != "id"]
        captured.append(tuple((row | dict(zip(names, values, strict=True))).values()))
    return spark.createDataFrame(captured, spark_schema(schema))


def test_values_of_the_declared_type_pass_unparsed(spark: SparkSession) -> None:
    shop = typed(
        {"name": "amount", "type": "decimal(12,2)", "required": True},
        {"name": "sold_at", "type": "timestamp"},
        {"name": "seen_at", "type": "timestamptz"},
        {"name": "day", "type": "date"},
        {"name": "share", "type": "double"},
        {"name": "is_new", "type": "boolean"},
        {"name": "note", "type": "string"},
    )
    seen = datetime(2024, 1, 2, 9, tzinfo=UTC)
    values = (Decimal("1.50"), AT, seen, DAY, 0.1, True, " a ")
    missing = (None, None, None, None, None, None, None)
    rows = capture(spark, shop, [values, missing])
    (good,) = good_rows(rows, shop, STAMP).collect()
    assert [good[c] for c in ("amount", "sold_at", "day", "share", "is_new")] == [
        Decimal("1.50"),
        AT,
        DAY,
        0.1,
        True,
    ]
    (bad,) = quarantined_rows(rows, shop, STAMP).collect()
    assert (bad["_source_position"], bad["_reasons"]) == (2, "amount: missing")


@pytest.mark.parametrize(
    ("source_type", "target", "fits", "wanted", "surplus"),
    [
        ("decimal(20,6)", "decimal(12,2)", Decimal("1.500000"), Decimal("1.50"), Decimal("1.505")),
        ("decimal(20,6)", "decimal(5,2)", Decimal("1.5"), Decimal("1.50"), Decimal(12345)),
        ("double", "decimal(12,2)", 1.25, Decimal("1.25"), 1e30),
        ("double", "bigint", 3.0, 3, 3.5),
        ("bigint", "int", 7, 7, 2**40),
        ("timestamp", "date", datetime(2024, 1, 2), date(2024, 1, 2), AT),
        ("date", "timestamp", DAY, datetime(2024, 1, 2), None),
        ("string", "decimal(12,2)", " 1.5", Decimal("1.50"), "x"),
        ("bigint", "string", 7, "7", None),
    ],
)
def test_values_of_another_type_are_converted_and_quarantined_where_they_do_not_fit(
    spark: SparkSession, source_type: str, target: str, fits: Any, wanted: Any, surplus: Any
) -> None:
    shop = typed({"name": "value", "type": target, "source_type": source_type})
    rows = capture(spark, shop, [(fits,), (surplus,)])
    found = {row["id"]: row["value"] for row in good_rows(rows, shop, STAMP).collect()}
    assert found[1] == wanted
    bad = quarantined_rows(rows, shop, STAMP)
    if surplus is None:
        assert (found[2], bad.count()) == (None, 0)
        return
    (row,) = bad.collect()
    assert 2 not in found
    assert row["_reasons"].startswith("value: ")
    assert row["value"] is not None


def test_quarantined_values_are_typed_again_from_their_text(spark: SparkSession) -> None:
    shop = typed(
        {"name": "sold_at", "type": "timestamp"},
        {"name": "amount", "type": "decimal(12,2)"},
        {"name": "note", "type": "string", "required": True},
    )
    rows = capture(spark, shop, [(AT, Decimal("1.50"), None)])
    bad = quarantined_rows(rows, shop, STAMP)
    (row,) = typed_values(bad, ["id", "sold_at", "amount"], shop).collect()
    assert (row["id"], row["sold_at"], row["amount"]) == (1, AT, Decimal("1.50"))


def test_a_null_of_a_typed_source_takes_the_default(spark: SparkSession) -> None:
    shop = typed({"name": "channel", "type": "int", "optional": True, "default": "9"})
    rows = capture(spark, shop, [(None,), (1,)])
    assert {r["id"]: r["channel"] for r in good_rows(rows, shop, STAMP).collect()} == {1: 9, 2: 1}
