"""Exact repeats of rows, dropped where the entity says so."""

from pyspark.sql import SparkSession

from headrace.standardize.deduplication import repeated_keys, without_duplicates
from headrace.standardize.good_rows import good_rows
from tests.standardize.captured import STAMP, capture, entity

COLUMNS = ({"name": "item", "type": "string"}, {"name": "amount", "type": "decimal(12,2)"})
ROWS = [
    ("7", "a", "1.00"),
    ("7", "a", "1.00"),
    ("7", "a", "1.01"),
    ("7", "", "1.00"),
    ("7", "", "1.0"),  # The same value, otherwise written.
    ("8", "", ""),
    ("8", "", ""),
    ("8", "a", "1.00"),
]


def test_dropping_exact_repeats_loses_no_row_that_differs(spark: SparkSession) -> None:
    order = {"name": "order", "type": "int"}
    shop = entity(order, *COLUMNS, key=["_source_position"], duplicates="drop")
    rows = good_rows(capture(spark, shop, [(*row,) for row in ROWS]), shop, STAMP)
    # `id` is the line, so that no row repeats another.
    [counted] = repeated_keys(rows, shop).collect()
    assert counted["contents"] == len(ROWS)
    unnumbered = shop.model_copy(update={"columns": shop.columns[1:]})
    [counted] = repeated_keys(rows, unnumbered).collect()
    assert (counted["rows"], counted["keys"], counted["contents"]) == (8, 8, 5)
    kept = without_duplicates(rows, unnumbered).collect()
    assert sorted(row["_source_position"] for row in kept) == [2, 4, 5, 7, 9]
