"""A dimension of two entities; `follow` holds each case against the naive answer."""

from datetime import datetime

from pyspark.sql import SparkSession

from headrace.star.scd2.late_changes import TimeLimits
from tests.star.dimension_lake import CONFIGS, Lake, follow, told
from tests.star.naive import BEGIN, State, Version, at

SHOP, CRM = 0, 1


def brands(lake: Lake) -> list[tuple[str | None, datetime | None]]:
    found = sorted(lake.versions(), key=lambda version: version.valid_from)
    return [(version.brand, version.valid_to) for version in found]


def test_changes_of_both_are_in_the_order_of_their_times(spark_nightly: SparkSession) -> None:
    lake = follow(
        spark_nightly,
        "two_entities",
        [told(0, "x", since=at(0.5))],
        [told(2, "z", since=at(2.5)), told(2, "y", since=at(1.5), entity=CRM)],
    )
    assert brands(lake) == [("x", at(1.5)), ("y", at(2.5)), ("z", None)]
    # What the other one delivers late goes between, and is no change where it says the same.
    lake.run({1: [told(1, "z", since=at(2), entity=CRM)]})
    assert brands(lake) == [("x", at(1.5)), ("y", at(2)), ("z", None)]
    assert lake.published() == lake.built()


def test_at_one_instant_the_entity_that_is_named_last_holds(spark_nightly: SparkSession) -> None:
    """Whatever its line, its source's order and its day say."""
    first = told(3, "shop", since=at(1.5), line=9, seq=2)
    last = told(1, "crm", since=at(1.5), entity=CRM, seq=1)
    for days in ([[first], [last]], [[last], [first]]):
        assert brands(follow(spark_nightly, "two_entities", *days)) == [("crm", None)]
    midnight = [told(1, "shop", line=9, seq=2), told(1, "crm", entity=CRM, seq=1)]
    assert brands(follow(spark_nightly, "two_entities_flag", midnight)) == [("crm", None)]


def test_a_column_that_one_lacks_keeps_its_value(spark_nightly: SparkSession) -> None:
    lake = follow(
        spark_nightly,
        "two_entities",
        [told(0, "x", note="n")],
        [told(1, "y", entity=CRM, since=at(1.5))],
    )
    assert {(v.brand, v.note) for v in lake.versions()} == {("x", "n"), ("y", "n")}
    assert lake.late == 0


def test_a_delete_of_one_ends_the_member_and_a_row_of_the_other_brings_it_back(
    sail: SparkSession,
) -> None:
    gone = told(1, None, gone=True, since=at(1.5), entity=CRM)
    lake = follow(sail, "two_entities", [told(0, "x")], [gone], [told(2, "x", since=at(2.5))])
    assert brands(lake) == [("x", at(1.5)), ("x", None)]
    # A file that one of them no longer has takes back its rows, and none of the other's.
    lake.run({1: []})
    assert brands(lake) == [("x", None)]
    assert lake.published() == lake.built()


def test_a_row_without_a_time_follows_the_rows_of_its_own_file(sail: SparkSession) -> None:
    day = [
        told(1, "early", since=at(1.25)),
        told(1, "placed", line=2),
        told(1, "late", since=at(1.75), entity=CRM),
    ]
    lake = follow(sail, "two_entities", day)
    assert brands(lake) == [("placed", at(1.75)), ("late", None)]


def test_a_quarantined_row_of_one_changes_nothing(sail: SparkSession) -> None:
    aside = told(1, "q", gone=True, quarantined=True, entity=CRM)
    lake = follow(sail, "two_entities_flag", [told(0, "x")], [aside, told(1, "x", line=2)])
    assert brands(lake) == [("x", None)]


def test_an_inferred_member_is_filled_in_by_either(sail: SparkSession) -> None:
    for entity in (SHOP, CRM):
        lake = Lake(sail, CONFIGS["two_entities"])
        lake.run({}, {0: [("a", 1, at(1))]})
        assert {version.is_inferred for version in lake.versions()} == {True}
        lake.run({2: [told(2, "x", since=at(2.5), entity=entity)]})
        assert lake.versions() == lake.naive() == {Version("a", 1, "x", BEGIN, None)}
        assert lake.published() == lake.built()


def test_what_one_brings_later_needs_no_history(sail: SparkSession) -> None:
    lake = follow(sail, "two_entities", [told(0, "x"), State("b", 2, 0, "x", line=2)])
    lake.run({1: [told(1, "y", since=at(1.5)), State("b", 2, 1, "y", since=at(1.5), entity=CRM)]})
    assert lake.late == 0
    assert lake.limits == TimeLimits(at(2), None, None)
    assert lake.published() == lake.built()
