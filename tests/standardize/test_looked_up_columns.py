"""Columns that are looked up in the processed rows of a reference entity."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from headrace.config.entities.columns import ColumnConfig
from headrace.config.entities.entity import EntityConfig
from headrace.standardize.good_rows import good_rows
from headrace.standardize.quarantine import quarantined_rows, typed_values
from headrace.standardize.schemas import processed_schema
from headrace.standardize.typed_columns import with_references
from tests.standardize.captured import STAMP, capture, entity

COLUMNS = ({"name": "store", "type": "string"}, {"name": "units", "type": "int"})
LOOKUP: dict[str, Any] = {
    "entity": "shop.stores",
    "match": {"store": "store_id"},
    "columns": {"region": "region", "factor": "factor"},
}
TYPES = {"region": "string", "factor": "decimal(6,3)"}
# Store, region, factor, and the partition on which a version of the file brought them.
STATES = [
    ("s1", "north", "1.5", date(2024, 1, 1)),
    ("s2", None, "2", date(2024, 1, 1)),
    ("s1", "south", "1.25", date(2024, 1, 4)),
    ("s3", "east", "3", date(2024, 1, 4)),
]


def shop(lookup: dict[str, Any] = LOOKUP, **options: object) -> EntityConfig:
    found = entity(*COLUMNS, lookups=[lookup], **options).with_joined({"store"})
    return found.resolved(
        {name: ColumnConfig(name=name, type=kind) for name, kind in TYPES.items()}
    )


def joined(
    spark: SparkSession, configured: EntityConfig, *rows: tuple[str, ...], day: date
) -> DataFrame:
    states = spark.createDataFrame(
        STATES, "store_id string, region string, factor string, _partition_date date"
    )
    typed = states.withColumn("factor", states.factor.cast("decimal(6,3)"))
    raw = capture(spark, configured, rows, day)
    return with_references(raw, configured, {"shop.stores": typed})


def looked_up(rows: DataFrame, configured: EntityConfig) -> dict[int, tuple[str | None, str]]:
    found = good_rows(rows, configured, STAMP).collect()
    return {row["id"]: (row["region"], str(row["factor"])) for row in found}


@pytest.mark.parametrize(
    ("day", "s1"),
    [
        # Before the first version, its state.
        (date(2023, 12, 1), ("north", "1.500")),
        (date(2024, 1, 1), ("north", "1.500")),
        (date(2024, 1, 3), ("north", "1.500")),
        (date(2024, 1, 4), ("south", "1.250")),
        (date(2025, 1, 1), ("south", "1.250")),
    ],
)
def test_a_row_reads_the_state_as_of_the_end_of_its_partition(
    spark: SparkSession, day: date, s1: tuple[str, str]
) -> None:
    rows = joined(spark, shop(), ("s1", "1"), ("s2", "1"), ("s3", "1"), ("", "1"), day=day)
    s3 = ("east", "3.000") if day >= date(2024, 1, 4) else (None, "None")
    assert looked_up(rows, shop()) == {
        2: s1,
        3: (None, "2.000"),
        4: s3,
        5: (None, "None"),
    }
    assert good_rows(rows, shop(), STAMP).columns == [*processed_schema(shop()).names]


@pytest.mark.parametrize(
    ("partition", "day", "region"),
    [
        ("month", date(2023, 12, 1), "north"),
        ("month", date(2024, 1, 1), "south"),
        ("week", date(2024, 1, 1), "south"),
        ("year", date(2024, 1, 1), "south"),
        ("none", date(1900, 1, 1), "south"),
    ],
)
def test_a_longer_partition_reads_the_state_at_its_end(
    spark: SparkSession, partition: str, day: date, region: str
) -> None:
    configured = shop(partition=partition)
    rows = joined(spark, configured, ("s1", "1"), day=day)
    assert looked_up(rows, configured)[2][0] == region


def test_a_key_that_is_missing_gives_null_a_default_or_quarantines_the_row(
    spark: SparkSession,
) -> None:
    rows = [("s1", "1"), ("s9", "2"), ("", "3"), ("s2", "4")]
    default = {"region": "nowhere", "factor": "1"}
    with_default = shop(LOOKUP | {"missing": "default", "default": default})
    found = looked_up(joined(spark, with_default, *rows, day=date(2024, 1, 1)), with_default)
    # A row that is found keeps its NULL.
    assert found == {
        2: ("north", "1.500"),
        3: ("nowhere", "1.000"),
        4: ("nowhere", "1.000"),
        5: (None, "2.000"),
    }
    strict = shop(LOOKUP | {"missing": "quarantine"})
    raw = joined(spark, strict, *rows, day=date(2024, 1, 1))
    assert [*looked_up(raw, strict)] == [2, 5]
    broken = quarantined_rows(raw, strict, STAMP)
    assert {row["id"]: row["_reasons"] for row in broken.collect()} == {
        "3": "store: not in shop.stores",
        "4": "store: not in shop.stores",
    }
    assert {row["id"] for row in typed_values(broken, ["id"], strict).collect()} == {3, 4}


def test_calculated_columns_and_rules_read_looked_up_columns(spark: SparkSession) -> None:
    total = {"name": "total", "type": "decimal(12,2)", "expression": "units * factor"}
    rule = {"name": "home", "expect": "region = 'north'", "reason": "another region"}
    configured = shop(calculated=[total], rules=[rule])
    rows = joined(spark, configured, ("s1", "3"), ("s3", "1"), day=date(2024, 1, 1))
    found = good_rows(rows, configured, STAMP).collect()
    assert {row["id"]: str(row["total"]) for row in found} == {2: "4.50", 3: "None"}
    later = joined(spark, configured, ("s1", "3"), day=date(2024, 1, 4))
    [broken] = quarantined_rows(later, configured, STAMP).collect()
    assert broken["_reasons"] == "another region"


def test_keys_that_look_alike_match(spark: SparkSession) -> None:
    rows = joined(spark, shop(), ("s1\u200b", "1"), day=date(2024, 1, 1))
    assert looked_up(rows, shop())[2][0] == "north"


RATE: dict[str, Any] = {
    "entity": "shop.rates",
    "match": {"currency": "currency"},
    "as_of": {"sold_on": "rate_date"},
    "max_age_days": 3,
    "columns": {"rate": "rate", "rate_of": "rate_date"},
}
# Currency, day, rate, and the partition on which a version of the file brought it.
RATES = [
    ("USD", date(2024, 1, 4), "1.10", date(2024, 1, 5)),
    ("USD", date(2024, 1, 5), "1.11", date(2024, 1, 5)),
    ("CHF", date(2024, 1, 4), "0.90", date(2024, 1, 5)),
    # The next version corrects a rate and has one day more.
    ("USD", date(2024, 1, 5), "1.12", date(2024, 1, 9)),
    ("USD", date(2024, 1, 8), "1.20", date(2024, 1, 9)),
]


def rate_of(
    known: list[tuple[str, date, str, date]], currency: str, day: date, partition: date
) -> str | None:
    """The last rate of a currency, at most three days old, as known at a partition's end."""
    begin = min(one[3] for one in known)
    rates: dict[date, tuple[date, str]] = {}
    for name, on, rate, version in known:
        is_known = version <= partition or version == begin
        if name == currency and is_known and 0 <= (day - on).days <= 3:
            rates[on] = max(rates.get(on, (date.min, "")), (version, rate))
    return rates[max(rates)][1] if rates else None


@pytest.mark.parametrize("partition", [date(2024, 1, n) for n in (1, 5, 8, 9, 20)])
def test_the_last_rate_of_a_limited_age_is_read_as_of_the_end_of_the_partition(
    spark: SparkSession, partition: date
) -> None:
    declared = (
        {"name": "currency", "type": "string"},
        {"name": "sold_on", "type": "date"},
        {"name": "amount", "type": "decimal(12,2)"},
    )
    euros = {"name": "euros", "type": "decimal(12,2)", "expression": "amount * rate"}
    configured = (
        entity(*declared, lookups=[RATE], calculated=[euros])
        .with_joined({"currency"})
        .resolved(
            {
                "rate": ColumnConfig(name="rate", type="decimal(8,4)"),
                "rate_of": ColumnConfig(name="rate_of", type="date"),
            }
        )
    )
    sold = [(c, date(2024, 1, n)) for c in ("USD", "CHF", "GBP") for n in range(1, 14)]
    rates = spark.createDataFrame(
        RATES, "currency string, rate_date date, rate string, _partition_date date"
    )
    typed = rates.withColumn("rate", rates.rate.cast("decimal(8,4)"))
    raw = capture(spark, configured, [(c, str(day), "100") for c, day in sold], partition)
    rows = with_references(raw, configured, {"shop.rates": typed})
    found = good_rows(rows, configured, STAMP).orderBy("id").collect()
    wanted = [rate_of(RATES, currency, day, partition) for currency, day in sold]
    assert [None if row["rate"] is None else f"{row['rate']:.2f}" for row in found] == wanted
    ages = {(row["sold_on"] - row["rate_of"]).days for row in found if row["rate_of"]}
    assert ages == {0, 1, 2, 3}
    assert [row["euros"] for row in found] == [w if w is None else Decimal(w) * 100 for w in wanted]
