"""Facts: keys as of the event time, nothing lost, nothing doubled."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from headrace.config.sources.file_source import FileEntity
from headrace.config.star.models import CalendarConfig, DimensionConfig, FactConfig, StarConfig
from headrace.date_keys import date_key
from headrace.engine.values.types import spark_schema
from headrace.standardize.schemas import processed_schema
from headrace.star.calendar import build_calendar
from headrace.star.facts import build_fact
from headrace.star.scd2.dimensions import UNKNOWN_KEY

ENTITY = FileEntity.model_validate(
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


def facts(
    spark: SparkSession,
    *sales: tuple[int, int | None, datetime],
    dimension: DimensionConfig = DIMENSION,
) -> list[tuple[int, int]]:
    """Product key and date key of each sale, by basket."""
    stamp = datetime(2017, 6, 1, tzinfo=UTC)
    rows = [
        (
            basket,
            sku,
            Decimal("1.50"),
            sold,
            stamp,
            "1 f",
            "f",
            1,
            None,
            stamp,
            "run",
            "code",
            sold.date(),
        )
        for basket, sku, sold in sales
    ]
    frame = spark.createDataFrame(rows, spark_schema(processed_schema(ENTITY)))
    found = build_fact(frame, FACT, ENTITY, {"dim_product": (dimension, versions(spark))})
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


def test_the_calendar_has_the_days_that_stand_for_never_too() -> None:
    never = date(9999, 12, 31)
    days = [date(1900, 1, 1), date(2017, 1, 1), never]
    config = CalendarConfig(start=days[1], end=days[1], sentinels=(never, days[1], days[0]))
    assert build_calendar(config)["date"].to_pylist() == days


SHIPMENTS = FileEntity.model_validate(
    {
        "name": "shipments",
        "extract": {"mode": "files", "path": "h-{date:%Y-%m-%d}.csv"},
        "key": ["parcel"],
        "event_time": "ordered_at",
        "columns": [
            {"name": "parcel", "type": "bigint"},
            {"name": "payer", "type": "bigint"},
            {"name": "receiver", "type": "bigint"},
            {"name": "weight", "type": "int"},
            {"name": "ordered_at", "type": "timestamp", "required": True},
            {"name": "shipped_on", "type": "date"},
        ],
    }
)
ROLES = FactConfig.model_validate(
    {
        "name": "fact_shipments",
        "entity": "s.shipments",
        "grain": ["parcel"],
        "event_time": "ordered_at",
        "dates": {"ship_date_key": "shipped_on"},
        "dimensions": [
            {"dimension": "dim_product", "role": "payer", "natural_key": {"sku": "payer"}},
            {
                "dimension": "dim_product",
                "role": "receiver",
                "natural_key": {"sku": "receiver"},
                "event_time": "shipped_on",
            },
        ],
        "columns": ["parcel"],
        "measures": ["weight"],
    }
)


def shipments(spark: SparkSession, shipped: date | None) -> DataFrame:
    stamp, ordered = datetime(2017, 6, 1, tzinfo=UTC), datetime(2017, 1, 2, 11)
    place = (stamp, "1 f", "f", 1, None)
    row = (7, 1, 1, 3, ordered, shipped, *place, stamp, "run", "code", ordered.date())
    return spark.createDataFrame([row], spark_schema(processed_schema(SHIPMENTS)))


def shipped(spark: SparkSession, rows: DataFrame, config: DimensionConfig = DIMENSION) -> DataFrame:
    return build_fact(rows, ROLES, SHIPMENTS, {"dim_product": (config, versions(spark))})


def test_a_dimension_plays_two_roles_each_as_of_its_own_time(spark: SparkSession) -> None:
    [fact] = shipped(spark, shipments(spark, date(2017, 1, 3))).collect()
    assert (fact["payer_key"], fact["receiver_key"]) == (10, 11)
    assert (fact["date_key"], fact["ship_date_key"]) == (20170102, 20170103)


def test_what_has_no_date_yet_has_no_date_key(spark: SparkSession) -> None:
    [fact] = shipped(spark, shipments(spark, None)).collect()
    assert (fact["ship_date_key"], fact["receiver_key"]) == (None, UNKNOWN_KEY)


def test_facts_of_the_lake_are_joined_again_as_their_rows_were(spark: SparkSession) -> None:
    once = shipped(spark, shipments(spark, date(2017, 1, 3)))
    # As if a version had come late: the keys that are there must not be kept.
    outdated = once.withColumn("payer_key", F.lit(99).cast("bigint"))
    assert shipped(spark, outdated).collect() == once.collect()


def test_a_refused_member_leaves_no_key_and_nobody_named_is_unknown(spark: SparkSession) -> None:
    refuses = DIMENSION.model_copy(update={"missing": "refuse"})
    sales = [(1, 404, datetime(2017, 1, 1)), (2, None, datetime(2017, 1, 1))]
    assert [key for key, _ in facts(spark, *sales, dimension=refuses)] == [None, UNKNOWN_KEY]


def test_without_an_unknown_member_no_key_points_to_it(spark: SparkSession) -> None:
    none = DIMENSION.model_copy(update={"unknown": False})
    sales = [(1, 404, datetime(2017, 1, 1)), (2, None, datetime(2017, 1, 1))]
    assert [key for key, _ in facts(spark, *sales, dimension=none)] == [None, None]


def test_a_dimension_joined_twice_needs_a_role() -> None:
    joins = [{"dimension": "dim_product", "natural_key": {"sku": "sku"}}] * 2
    fact = FACT.model_dump() | {"dimensions": joins}
    star = {
        "calendar": {"start": "2017-01-01", "end": "2017-12-31"},
        "dimensions": [DIMENSION.model_dump(exclude_unset=True)],
        "facts": [fact],
    }
    with pytest.raises(ValidationError, match=r"columns named twice: product_key.*needs a role"):
        StarConfig.model_validate(star)


@pytest.mark.parametrize(
    "fact",
    [
        {"dates": {"sold_at": "sold_at"}},
        {"dates": {"ship_date_key": "sold_at"}, "event_time": "ship_date_key"},
        {"event_time": "date_key"},
    ],
)
def test_no_key_has_the_name_of_a_column_that_it_is_made_from(fact: dict[str, object]) -> None:
    star = {
        "calendar": {"start": "2017-01-01", "end": "2017-12-31"},
        "dimensions": [DIMENSION.model_dump(exclude_unset=True)],
        "facts": [FACT.model_dump() | fact],
    }
    with pytest.raises(ValidationError, match="a column of the entity has a key's name"):
        StarConfig.model_validate(star)
