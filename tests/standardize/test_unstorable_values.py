"""Values that a transform makes and Postgres refuses are counted, by column, with a place."""

from unittest import mock

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from headrace.standardize.good_rows import good_rows
from headrace.standardize.typed_columns import unstorable_values
from headrace.warehouse import identifiers
from tests.standardize.captured import STAMP, capture, entity


def test_values_that_postgres_does_not_store_are_counted_by_column(spark: SparkSession) -> None:
    shop = entity(
        {"name": "name", "type": "string"},
        {"name": "on", "type": "date"},
        {"name": "at", "type": "timestamp"},
        {"name": "since", "type": "timestamptz"},
        {"name": "amount", "type": "decimal(38,2)"},
    )
    time = "2024-01-02 10:00:00"
    text = ("a", "2024-01-02", time, f"{time}+00:00", "9" * 36)
    rows = good_rows(capture(spark, shop, [text, text, text, text]), shop, STAMP)
    is_odd = F.col("id").isin(3, 4)
    long_ago = F.timestamp_micros(F.lit(-220_000_000_000_000_000))
    spoiled = rows.withColumns(
        {
            "name": F.when(is_odd, F.concat("name", F.lit("\0"))).otherwise(F.col("name")),
            "on": F.when(is_odd, F.date_add("on", -2_500_000)).otherwise(F.col("on")),
            "at": F.when(is_odd, long_ago.cast("timestamp_ntz")).otherwise(F.col("at")),
            "since": F.when(is_odd, long_ago).otherwise(F.col("since")),
        }
    )
    [clean] = unstorable_values(rows, shop).collect()
    [found] = unstorable_values(spoiled, shop).collect()
    for name in ("name", "on", "at", "since"):
        assert (clean[f"_rows_{name}"], clean[f"_place_{name}"]) == (0, None), name
        assert (found[f"_rows_{name}"], found[f"_place_{name}"]) == (2, "orders.csv line 3"), name
    assert "_rows_amount" not in found
    with mock.patch.object(identifiers, "LONGEST_TEXT_BYTES", 0):
        [long] = unstorable_values(rows, shop).collect()
    assert long["_rows_name"] == 4
