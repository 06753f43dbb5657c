"""Rows of files that lack a declared column, and rows of raw from before it was declared."""

from datetime import date
from typing import Any

import pytest
from pyspark.sql import SparkSession

from headrace.standardize.good_rows import good_rows
from headrace.standardize.quarantine import quarantined_rows
from headrace.standardize.schemas import processed_schema
from tests.standardize.captured import DAY, STAMP, capture, entity

CHANNEL = {"name": "channel", "type": "string"}
POSITIVE = {"name": "positive", "expect": "amount > 0", "reason": "not positive"}


def test_a_new_rule_reaches_rows_from_before_a_column(spark: SparkSession) -> None:
    shop = entity(CHANNEL | {"optional": True}, {"name": "amount", "type": "int"}, rules=[POSITIVE])
    rows = capture(spark, shop, [(None, "-1"), (None, "2"), ("web", "3")])
    found = [(r["id"], r["channel"], r["amount"]) for r in good_rows(rows, shop, STAMP).collect()]
    assert sorted(found) == [(3, None, 2), (4, "web", 3)]
    [bad] = quarantined_rows(rows, shop, STAMP).collect()
    assert bad["_reasons"] == "not positive"


def test_a_default_stands_for_a_column_that_the_file_lacks_and_for_no_blank(
    spark: SparkSession,
) -> None:
    shop = entity(
        CHANNEL | {"since": DAY, "default": "shop", "required": True},
        {
            "name": "rate",
            "type": "decimal(5,2)",
            "decimal_mark": ",",
            "optional": True,
            "default": 1.5,
            "required": True,
        },
        {"name": "on", "type": "date", "optional": True, "default": date(2024, 1, 1)},
    )
    rows = capture(spark, shop, [(None, None, None), ("web", "2,5", "2024-01-02"), ("web", "", "")])
    good = sorted(good_rows(rows, shop, STAMP).collect(), key=lambda row: int(row["id"]))
    assert [(r["channel"], str(r["rate"]), str(r["on"])) for r in good] == [
        ("shop", "1.50", "2024-01-01"),
        ("web", "2.50", "2024-01-02"),
    ]
    [bad] = quarantined_rows(rows, shop, STAMP).collect()
    assert (bad["_source_position"], bad["_reasons"]) == (4, "rate: missing")
    assert not any(processed_schema(shop).column(name).nullable for name in ("channel", "rate"))


@pytest.mark.parametrize(
    ("declared", "is_good"),
    [
        ({"since": date(2024, 1, 3)}, True),
        ({"since": DAY}, False),
        ({"until": DAY}, True),
        ({"until": date(2024, 1, 3)}, False),
        ({"optional": True}, True),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["string", "int"])
def test_a_required_column_may_be_absent_on_days_whose_files_may_lack_it(
    sail: SparkSession, declared: dict[str, Any], kind: str, *, is_good: bool
) -> None:
    shop = entity({"name": "channel", "type": kind, "required": True, **declared})
    rows = capture(sail, shop, [(None,), ("",), ("7",)])
    lines = {row["_source_position"] for row in good_rows(rows, shop, STAMP).collect()}
    assert lines == ({2, 4} if is_good else {4})
    bad = {
        row["_source_position"]: row["_reasons"]
        for row in quarantined_rows(rows, shop, STAMP).collect()
    }
    expected = {3: "channel: missing"} | ({} if is_good else {2: "channel: missing"})
    assert bad == expected
    assert processed_schema(shop).column("channel").nullable
