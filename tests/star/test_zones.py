"""Local times, instants and days of a zone, from texts to the version that a fact joins."""

from datetime import date

import pytest
from pyspark.sql import SparkSession

from headrace.config.entities.entity import EntityConfig
from headrace.config.star.models import DimensionConfig, FactConfig
from headrace.standardize.good_rows import good_rows
from headrace.standardize.quarantine import quarantined_rows
from headrace.star.facts import build_fact
from headrace.star.scd2.dimensions import DimensionInputs, build_dimension
from tests.standardize.captured import STAMP, capture, entity
from tests.star.naive import published_rows

DAY = date(2024, 1, 2)
FACT = FactConfig.model_validate(
    {
        "name": "fact_orders",
        "entity": "shop.orders",
        "grain": ["id"],
        "event_time": "ordered_at",
        "dimensions": [{"dimension": "dim_customer", "natural_key": {"customer": "customer"}}],
        "columns": ["id"],
        "measures": ["amount"],
    }
)


def orders(kind: str, zone: str | None) -> EntityConfig:
    return entity(
        {"name": "ordered_at", "type": kind},
        {"name": "customer", "type": "string"},
        {"name": "amount", "type": "int"},
        timezone=zone,
        event_time="ordered_at",
    )


def customers(*columns: dict[str, str], zone: str | None) -> EntityConfig:
    named = [{"name": "customer", "type": "string"}, {"name": "city", "type": "string"}]
    return entity(*named, *columns, timezone=zone)


def dimension(**options: str) -> DimensionConfig:
    return DimensionConfig.model_validate(
        {
            "name": "dim_customer",
            "entity": "shop.customers",
            "natural_key": {"customer": "customer"},
            "attributes": {"city": "city"},
            "missing": "unknown",
            "unknown": {"city": "?"},
            **options,
        }
    )


@pytest.mark.parametrize(
    ("sold", "moved"),
    [
        (("timestamp", "Europe/Helsinki"), ("timestamptz", "2024-01-02T12:30:00+02:00", None)),
        (("timestamptz", "Europe/Helsinki"), ("timestamp", "2024-01-02 05:30", "America/New_York")),
        (("timestamptz", "Europe/Helsinki"), ("timestamptz", "2024-01-02 10:30", None)),
    ],
    ids=["local times join instants", "instants join local times", "both are instants"],
)
def test_a_fact_joins_the_version_of_its_instant_whatever_the_clocks(
    spark: SparkSession, sold: tuple[str, str], moved: tuple[str, str, str | None]
) -> None:
    kind, at, zone = moved
    members = customers({"name": "changed_at", "type": kind}, zone=zone)
    before = "2023-12-01T00:00:00Z" if kind == "timestamptz" else "2023-12-01 00:00"
    told = capture(spark, members, [("A", "Bonn", before), ("A", "Kiel", at)], DAY)
    config = dimension(effective_time="changed_at")
    versions = build_dimension(DimensionInputs(good_rows(told, members, STAMP)), config, members)
    shop = orders(*sold)
    texts = ["2024-01-02 11:00", "2024-01-02 12:29:59", "2024-01-02 12:30"]
    rows = good_rows(capture(spark, shop, [(t, "A", "1") for t in texts], DAY), shop, STAMP)
    published = published_rows(versions, config, members)
    facts = build_fact(rows, FACT, shop, {"dim_customer": (config, published)})
    joined = facts.join(published, "customer_key").select("id", "city").collect()
    cities = [row["city"] for row in sorted(joined, key=lambda row: int(row["id"]))]
    assert cities == ["Bonn", "Bonn", "Kiel"]


def test_a_file_of_a_local_day_keeps_its_rows_on_that_day(spark: SparkSession) -> None:
    shop = orders("timestamptz", "Australia/Sydney")
    texts = [
        "2024-01-02T00:00:00+11:00",
        "2024-01-02T10:59:59+11:00",
        "2024-01-02T12:59:59Z",
        "2024-01-02 23:59",
        "2024-01-03T00:00:00+11:00",
        "2024-01-02T13:00:00Z",
    ]
    raw = capture(spark, shop, [(text, "A", "1") for text in texts], DAY)
    bad = quarantined_rows(raw, shop, STAMP).collect()
    reason = "ordered_at: not on the partition's day in Australia/Sydney"
    assert {row["_source_position"]: row["_reasons"] for row in bad} == dict.fromkeys(
        (6, 7), reason
    )
    # Its customers are those of a file of the same local day.
    members = customers(zone="Australia/Sydney")
    told = [(("A", "Bonn"), date(2024, 1, 1)), (("A", "Kiel"), DAY)]
    frames = [capture(spark, members, [texts], day) for texts, day in told]
    config = dimension(first_version="at_effective_time")
    processed = good_rows(frames[0].unionByName(frames[1]), members, STAMP)
    published = published_rows(
        build_dimension(DimensionInputs(processed), config, members), config, members
    )
    rows = good_rows(raw, shop, STAMP)
    facts = build_fact(rows, FACT, shop, {"dim_customer": (config, published)})
    found = facts.join(published, "customer_key").select("date_key", "city").collect()
    assert [(row["date_key"], row["city"]) for row in found] == [(20240102, "Kiel")] * 4


def test_without_a_zone_the_reason_says_that_days_are_utc(sail: SparkSession) -> None:
    shop = orders("timestamptz", None)
    raw = capture(sail, shop, [("2024-01-02T08:30:00+11:00", "A", "1")], DAY)
    [bad] = quarantined_rows(raw, shop, STAMP).collect()
    assert bad["_reasons"] == "ordered_at: not on the partition's day in UTC"
