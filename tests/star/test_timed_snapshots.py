"""Full snapshots whose rows say since when they hold: `follow` compares with a naive answer."""

import pytest
from pyspark.sql import SparkSession

from headrace.config.star.models import DimensionConfig
from tests.star.dimension_lake import BASE, Lake, follow, told
from tests.star.naive import BEGIN, State, at


def other(day: int) -> State:
    """A member that every snapshot has."""
    return State("b", 2, day, "o", line=9, since=at(0))


def snapshot(day: int, *rows: State) -> list[State]:
    return [*rows, other(day)]


def of(lake: Lake, sku: int = 1) -> list[tuple[object, ...]]:
    """Brand and bounds of a product's versions."""
    found = sorted((v for v in lake.versions() if v.sku == sku), key=lambda v: v.valid_from)
    return [(v.brand, v.valid_from, v.valid_to) for v in found]


def test_changes_take_their_rows_times_and_absences_their_snapshots_day(sail: SparkSession) -> None:
    days = [
        snapshot(0, told(0, "x", since=at(-3), note="n")),
        snapshot(1, told(1, "x", since=at(-3), note="n")),
        snapshot(2, told(2, "y", since=at(1.25), note="n")),
        snapshot(3),
    ]
    lake = follow(sail, "timed_snapshot", *days)
    assert of(lake) == [("x", BEGIN, at(1.25)), ("y", at(1.25), at(3))]
    # Neither repeated rows nor changes in order read the history.
    assert lake.late == 0


def test_a_member_that_vanished_is_there_again_when_its_row_or_its_snapshot_says(
    sail: SparkSession,
) -> None:
    # An unchanged row, one of a time at which the last snapshot lacked it, and one of after it.
    back = {3: (-3.0, 4), 4: (2.5, 4), 5: (3.25, 3.25)}
    first = [State("a", sku, 0, "x", line=sku, since=at(-3)) for sku in back]
    days = [
        [State("a", sku, day, "x", line=sku, since=at(since)) for sku, (since, _) in back.items()]
        for day in (4, 5)
    ]
    lake = follow(sail, "timed_snapshot", snapshot(0, *first), snapshot(2), snapshot(3))
    for rows in days:
        lake.run({rows[0].day: snapshot(rows[0].day, *rows)})
        for sku, (_, begins) in back.items():
            assert of(lake, sku) == [("x", BEGIN, at(2)), ("x", at(begins), None)]
    assert lake.published() == lake.built()


def test_what_a_later_snapshot_says_overrules_what_earlier_ones_said(sail: SparkSession) -> None:
    overruled = [("x", -9.0), ("y", 6.0), ("z", -2.0)]
    days = [
        snapshot(
            day,
            told(day, brand, since=at(since)),
            # Of another one, a change of the future; the day after lacks it.
            *([State("a", 3, day, brand, line=3, since=at(since))] if day < 2 else []),
        )
        for day, (brand, since) in enumerate(overruled)
    ]
    lake = follow(sail, "timed_snapshot", *days)
    assert of(lake) == [("x", BEGIN, at(-2)), ("z", at(-2), None)]
    assert of(lake, 3) == [("x", BEGIN, at(2))]


def test_late_snapshots_give_the_versions_of_their_days(sail: SparkSession) -> None:
    row = told(1, "x", since=at(-3))
    days = [
        snapshot(0, told(0, "x", since=at(-3))),
        snapshot(1),
        snapshot(2, told(2, "x", since=at(-3)), State("c", 3, 2, "n", line=5, since=at(1.5))),
        snapshot(3, told(3, "y", since=at(2.25)), State("c", 3, 3, None, line=5, quarantined=True)),
    ]
    late = follow(sail, "timed_snapshot", days[3], days[1], days[0], days[2])
    assert of(late) == [("x", BEGIN, at(1)), ("x", at(2), at(2.25)), ("y", at(2.25), None)]
    assert of(late, 3) == [("n", BEGIN, None)]
    # A corrected snapshot leaves no trace of what it said.
    late.run({1: snapshot(1, row)})
    assert of(late) == [("x", BEGIN, at(2.25)), ("y", at(2.25), None)]
    assert late.published() == late.built()


def test_a_snapshot_with_times_needs_no_number() -> None:
    timed = {**BASE, "full_snapshot": True, "effective_time": "since"}
    assert DimensionConfig.model_validate(timed).has_timed_snapshots
    with pytest.raises(ValueError, match="sequence: rows of full snapshots are ordered"):
        DimensionConfig.model_validate({**timed, "sequence": "seq"})
