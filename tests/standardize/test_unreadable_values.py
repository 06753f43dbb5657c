"""Values that their columns cannot hold: set aside with a reason, or rounded and counted."""

from datetime import date

from pyspark.sql import SparkSession

from headrace.standardize.good_rows import good_rows
from headrace.standardize.quarantine import quarantined_rows
from headrace.standardize.typed_columns import rounded_values
from tests.standardize.captured import DAY, STAMP, capture, entity

PRICES = ["1.10", "0.00345", "1.005", "1,50", "19.999", "2.500", "1e-3"]


def test_a_row_with_more_places_than_declared_is_set_aside_and_says_so(spark: SparkSession) -> None:
    shop = entity(
        {"name": "amount", "type": "decimal(12,2)"},
        {"name": "paid", "type": "decimal(12,2)", "grouping": ".", "currency": "EUR"},
        {"name": "at", "type": "timestamp"},
    )
    time = "2024-01-02 10:00:00"
    rows = capture(
        spark,
        shop,
        [
            *((price, "1,00", time) for price in PRICES),
            ("1", "1.234,567 EUR", time),
            ("1", "1.23 EUR", time),
            ("1", "1,00", f"{time}.1234567"),
            ("1", "1,00", f"{time}.12x"),
        ],
    )
    found = quarantined_rows(rows, shop, STAMP).collect()
    assert {row["_source_position"]: row["_reasons"] for row in found} == {
        3: "amount: more than 2 places",
        4: "amount: more than 2 places",
        5: "amount: not a decimal(12,2)",
        6: "amount: more than 2 places",
        8: "amount: not a decimal(12,2)",
        9: "paid: more than 2 places",
        10: "paid: not a decimal(12,2)",
        11: "at: parts of a microsecond",
        12: "at: not a timestamp",
    }
    assert {row["_source_position"] for row in good_rows(rows, shop, STAMP).collect()} == {2, 7}


def test_values_that_are_rounded_as_declared_are_counted(spark: SparkSession) -> None:
    shop = entity(
        {"name": "amount", "type": "decimal(12,2)", "round": "half_up"},
        {"name": "at", "type": "timestamp", "round": "down"},
    )
    times = ["2024-01-02", "2024-01-02 00:00:00.1234567", "2024-01-02 00:00:00.1230000"]
    texts = [(price, times[n % 3]) for n, price in enumerate(PRICES)]
    rows = capture(spark, shop, texts)
    good = {str(row["amount"]) for row in good_rows(rows, shop, STAMP).collect()}
    assert good == {"1.10", "0.00", "1.01", "20.00", "2.50"}
    [counted] = rounded_values(rows, shop).collect()
    # Four amounts, and two times of seven; a text that is no number is not rounded.
    assert (counted["_partition_date"], counted["values"]) == (DAY, 4 + 2)


def test_texts_that_stand_for_no_value_are_null(spark: SparkSession) -> None:
    shop = entity(
        {"name": "ends_on", "type": "date", "null_texts": [date(9999, 12, 31), "0000-00-00"]},
        {"name": "score", "type": "int", "null_texts": [-999]},
        extract={
            "mode": "files",
            "path": "orders-{date:%Y-%m-%d}.csv",
            "format": {"null_texts": ["NA"]},
        },
    )
    texts = [("9999-12-31", "7"), ("0000-00-00", "-999"), (" NA ", "NA"), ("9999-12-30", "0")]
    rows = good_rows(capture(spark, shop, texts), shop, STAMP).collect()
    found = {row["id"]: (str(row["ends_on"]), row["score"]) for row in rows}
    assert found == {2: ("None", 7), 3: ("None", None), 4: ("None", None), 5: ("9999-12-30", 0)}
