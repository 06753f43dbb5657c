"""Keys that look equal are equal, unless their column says otherwise."""

import pytest
from pyspark.sql import DataFrame, SparkSession

from headrace.standardize.deduplication import repeated_keys
from headrace.standardize.good_rows import good_rows
from tests.standardize.captured import STAMP, capture, entity

LOOK_EQUAL = ["Zo\u00eb", "Zoe\u0308", " Zoe\u0308\u200b", "Zoë\u00a0", "\ufeffZo\u00adë"]
OTHERS = ["zoë", "Zoe"]


@pytest.mark.parametrize(
    ("declared", "keys"),
    [({}, 3), ({"normalize": ["casefold", "nfc", "strip_invisible"]}, 2), ({"normalize": []}, 6)],
    ids=["by default", "without case", "not at all"],
)
def test_keys_that_look_equal_are_one(
    spark: SparkSession, declared: dict[str, list[str]], keys: int
) -> None:
    shop = entity({"name": "customer", "type": "string", **declared}, key=["customer"])
    texts = [*LOOK_EQUAL, *OTHERS]
    rows = good_rows(capture(spark, shop, [(text,) for text in texts]), shop, STAMP)
    [counted] = repeated_keys(rows, shop).collect()
    assert (counted["rows"], counted["keys"]) == (len(texts), keys)


def test_texts_that_are_no_keys_stay_as_they_are(sail: SparkSession) -> None:
    shop = entity({"name": "note", "type": "string"})
    texts = ["Zoe\u0308", "a\u200db"]
    rows = good_rows(capture(sail, shop, [(text,) for text in texts]), shop, STAMP)
    assert {row["note"] for row in rows.collect()} == {*texts}


def test_a_key_of_nothing_visible_is_none(sail: SparkSession) -> None:
    shop = entity({"name": "customer", "type": "string"}, key=["customer"])
    rows = capture(sail, shop, [("\u200b",), ("A",)])
    assert good_rows(rows, shop, STAMP).count() == 1


def test_a_transform_may_filter_by_a_key_in_its_composed_form(spark: SparkSession) -> None:
    shop = entity(
        {"name": "customer", "type": "string"},
        key=["customer"],
        transform="tests.standardize.test_equal_looking_keys:without_zoe",
    )
    rows = capture(spark, shop, [("Zoe\u0308",), ("Anna",)])
    assert [row["customer"] for row in good_rows(rows, shop, STAMP).collect()] == ["Anna"]


def without_zoe(rows: DataFrame) -> DataFrame:
    """A user's transform."""
    return rows.where("customer <> 'Zo\u00eb'")
