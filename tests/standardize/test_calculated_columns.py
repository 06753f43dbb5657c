"""Calculated columns of processed rows, and rows for which one has no result."""

from decimal import Decimal

import pytest
from pydantic import ValidationError
from pyspark.sql import SparkSession

from headrace.config.entities.entity import EntityConfig
from headrace.errors import ConfigError
from headrace.standardize.calculated_columns import calculation_faults, require_valid_calculations
from headrace.standardize.good_rows import good_rows, left_out_rows
from headrace.standardize.quarantine import quarantined_rows, typed_values
from headrace.standardize.schemas import processed_schema, quarantine_schema
from tests.standardize.captured import DAY, STAMP, capture, entity

COLUMNS = (
    {"name": "units", "type": "int"},
    {"name": "price", "type": "decimal(12,2)"},
    {"name": "code", "type": "string"},
)
NET = {"name": "net", "type": "decimal(14,2)", "expression": "units * price"}
CALCULATED = [
    NET,
    {"name": "gross", "type": "decimal(14,2)", "expression": "net * 1.19", "required": True},
    {"name": "each", "type": "decimal(12,4)", "expression": "gross / units"},
    {"name": "number", "type": "bigint", "expression": "cast(code as bigint) * 1000000000000"},
]


def shop(**options: object) -> EntityConfig:
    return entity(*COLUMNS, **({"calculated": CALCULATED} | options))


def test_later_columns_are_calculated_from_earlier_ones(spark: SparkSession) -> None:
    rows = good_rows(capture(spark, shop(), [("3", "0.35", "12")]), shop(), STAMP)
    assert rows.columns == [*processed_schema(shop()).names]
    [row] = rows.collect()
    # 3 * 0.35 * 1.19 = 1.2495, rounded away from zero; 1.25 / 3.
    assert (row["net"], row["gross"]) == (Decimal("1.05"), Decimal("1.25"))
    assert (row["each"], row["number"]) == (Decimal("0.4167"), 12_000_000_000_000)


def test_a_row_without_a_result_is_quarantined_with_the_columns_name(spark: SparkSession) -> None:
    rows = [
        ("3", "0.35", "12"),
        ("0", "0.35", "12"),
        ("1", "1.00", "a12"),
        ("1", "1.00", "9999999999"),
        ("1", "", "12"),
        ("x", "1.00", "12"),
    ]
    raw = capture(spark, shop(), rows)
    assert [row["id"] for row in good_rows(raw, shop(), STAMP).collect()] == [2]
    broken = quarantined_rows(raw, shop(), STAMP)
    assert broken.columns == [*quarantine_schema(shop()).names]
    found = {row["_source_position"]: row["_reasons"] for row in broken.collect()}
    assert found == {
        3: "each: division by zero",
        4: "number: a text that cannot be cast",
        5: "number: a result out of range",
        6: "gross: missing",
        7: "units: not an int; gross: missing",
    }


def test_a_rule_and_the_event_time_may_use_a_calculated_column(spark: SparkSession) -> None:
    day = {"name": "day", "type": "date", "expression": "cast(code as date)"}
    rule = {"name": "small", "expect": "net < 10", "reason": "net of 10 or more"}
    configured = shop(calculated=[NET, day], rules=[rule], event_time="day")
    rows = [("1", "9.99", f"{DAY}"), ("1", "10", f"{DAY}"), ("1", "1", "2024-01-01")]
    raw = capture(spark, configured, rows)
    assert [row["id"] for row in good_rows(raw, configured, STAMP).collect()] == [2]
    found = {r["id"]: r["_reasons"] for r in quarantined_rows(raw, configured, STAMP).collect()}
    assert found == {"3": "net of 10 or more", "4": "day: not on the partition's day"}


def test_a_row_that_where_leaves_out_has_no_fault(spark: SparkSession) -> None:
    configured = shop(where="units > 0")
    raw = capture(spark, configured, [("0", "0.35", "12"), ("1", "1", "1")])
    assert quarantined_rows(raw, configured, STAMP).collect() == []
    assert [row["rows"] for row in left_out_rows(raw, configured).collect()] == [1]


def test_calculated_values_of_quarantined_rows_are_those_of_good_ones(
    spark: SparkSession,
) -> None:
    configured = shop()
    raw = capture(spark, configured, [("2", "1.50", "a12"), ("3", "", "12")])
    broken = quarantined_rows(raw, configured, STAMP)
    values = typed_values(broken, ["id", "net"], configured).collect()
    assert sorted((row["id"], row["net"]) for row in values) == [(2, Decimal("3.00")), (3, None)]


def test_a_calculated_text_that_the_star_joins_by_is_normalized(spark: SparkSession) -> None:
    key = {"name": "article", "type": "string", "expression": "code || '\u0301'"}
    configured = shop(calculated=[key]).with_joined({"article"})
    [row] = good_rows(capture(spark, configured, [("1", "1", "Cafe")]), configured, STAMP).collect()
    assert row["article"] == "Caf\u00e9"


def test_a_wrong_expression_is_refused_with_its_path_before_a_run() -> None:
    wrong = shop(
        calculated=[
            {"name": "late", "type": "decimal(14,2)", "expression": "net * 2"},
            NET,
            {"name": "seen", "type": "date", "expression": "current_date()"},
        ]
    )
    faults = dict(calculation_faults(wrong))
    assert [*faults] == [
        "entities[orders].calculated[late].expression",
        "entities[orders].calculated[seen].expression",
    ]
    late, seen = faults.values()
    assert late.startswith("there is no column 'net'")
    assert "calculated before" in late
    assert "'current_date' is not one of" in seen
    with pytest.raises(ConfigError, match=r"calculated\[late\]\.expression"):
        require_valid_calculations(wrong)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"calculated": [NET, NET]}, "calculated[1].name: 'net' is declared twice"),
        ({"calculated": [NET | {"name": "units"}]}, "calculated[0].name: 'units' is declared"),
        ({"where": "Net > 1 or code = 'net'"}, "where: 'net' is calculated for rows"),
        ({"key": ["net"]}, "key: net: not among the columns"),
        ({"event_time": "net"}, "event_time: 'net' says the day, and is no date"),
        ({"calculated": [NET | {"type": "list<string>"}]}, "no expression gives a list"),
        ({"calculated": [NET | {"normalize": ["nfc"]}]}, "normalize: is for string"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused(options: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError) as refused:
        shop(**options)
    assert why in str(refused.value)


def test_a_text_in_where_may_equal_a_columns_name() -> None:
    assert shop(where="code = 'net'").where
