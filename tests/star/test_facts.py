"""Facts: keys as of the event time, nothing lost, nothing doubled."""

from datetime import UTC, date, datetime
from decimal import Decimal

from pyspark.sql import DataFrame, SparkSession

from headrace.config.sources import EntityConfig
from headrace.config.star import CalendarConfig, DimensionConfig, FactConfig
from headrace.engine.types import spark_schema
from headrace.standardize.rows import processed_schema
from headrace.star.calendar import build_calendar, date_key
from headrace.star.dimensions import UNKNOWN_KEY
from headrace.star.facts import build_fact

ENTITY = EntityConfig.model_validate(
    {
        "name": "sales",
        "extract": {"mode": "files", "path": "s-{date:%Y-%m-%d}.csv"},
        "key": ["basket", "sku"],
        "event_time": "sold_at",
        "columns": [
            {"name": "basket", "type": "bigint"},
            {"name": "sku", "type": "bigint"},
            {"name": "amount", "type": "decimal(12,2)"},
            {"name": "sold_at", "type": "timestamp", "required": True},
        ],
    }
)
DIMENSION = DimensionConfig.model_validate(
    {"name": "dim_product", "entity": "s.products", "natural_key": {"sku": "sku"}}
)
FACT = FactConfig.model_validate(
    {
        "name": "fact_sales",
        "entity": "s.sales",
        "grain": ["basket", "sku"],
        "event_time": "sold_at",
        "dimensions": [{"dimension": "dim_product", "natural_key": {"sku": "sku"}}],
        "columns": ["basket"],
        "measures": ["amount"],
    }
)
CHANGE = datetime(2017, 1, 2, 12)
VERSIONS = [
    (UNKNOWN_KEY, -1, datetime(1900, 1, 1), None),
    (10, 1, datetime(1900, 1, 1), CHANGE),
    (11, 1, CHANGE, None),
    (20, 2, CHANGE, None),
]


def facts(spark: SparkSession, *sales: tuple[int, int | None, datetime]) -> list[tuple[int, int]]:
    """Product key and date key of each sale, by basket."""
    stamp = datetime(2017, 6, 1, tzinfo=UTC)
    rows = [
        (basket, sku, Decimal("1.50"), sold, stamp, "f", 1, stamp, "run", "code", sold.date())
        for basket, sku, sold in sales
    ]
    frame = spark.createDataFrame(rows, spark_schema(processed_schema(ENTITY)))
    found = build_fact(frame, FACT, ENTITY, {"dim_product": (DIMENSION, versions(spark))})
    return [(r["product_key"], r["date_key"]) for r in found.orderBy("basket").collect()]


def versions(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(
        VERSIONS,
        "product_key bigint, sku bigint, valid_from timestamp_ntz, valid_to timestamp_ntz",
    )


def test_a_fact_points_at_the_version_valid_when_it_happened(spark: SparkSession) -> None:
    before = datetime(2017, 1, 2, 11, 59, 59)
    assert facts(spark, (1, 1, before), (2, 1, CHANGE)) == [(10, 20170102), (11, 20170102)]


def test_a_member_not_yet_valid_is_unknown(spark: SparkSession) -> None:
    assert facts(spark, (1, 2, datetime(2017, 1, 1))) == [(UNKNOWN_KEY, 20170101)]


def test_a_member_that_nobody_knows_is_unknown_and_the_fact_is_kept(spark: SparkSession) -> None:
    sales = [(1, 404, datetime(2017, 1, 1)), (2, None, datetime(2017, 1, 1))]
    assert facts(spark, *sales) == [(UNKNOWN_KEY, 20170101)] * 2


def test_a_natural_key_that_looks_like_the_unknown_members_does_not_double_a_fact(
    spark: SparkSession,
) -> None:
    assert facts(spark, (1, -1, datetime(2017, 1, 1))) == [(UNKNOWN_KEY, 20170101)]


def test_the_calendar_has_every_day_once_with_iso_weeks() -> None:
    config = CalendarConfig(start=date(2016, 12, 31), end=date(2017, 1, 2))
    rows = build_calendar(config).to_pylist()
    assert [row["date_key"] for row in rows] == [20161231, 20170101, 20170102]
    assert [(row["iso_week"], row["day_of_week"], row["is_weekend"]) for row in rows] == [
        (52, 6, True),
        (52, 7, True),
        (1, 1, False),
    ]
    assert date_key(date(2017, 12, 5)) == 20171205
