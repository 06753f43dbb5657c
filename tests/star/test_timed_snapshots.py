"""Full snapshots whose rows say since when they hold: `follow` compares with a naive answer."""

import itertools

import pytest
from pyspark.sql import SparkSession

from headrace.config.star import DimensionConfig
from tests.star.dimension_lake import BASE, Lake, follow, told
from tests.star.naive import BEGIN, State, Version, at


def other(day: int) -> State:
    """A member that every snapshot has."""
    return State("b", 2, day, "o", line=9, since=at(0))


def snapshot(day: int, *rows: State) -> list[State]:
    return [*rows, other(day)]


def mine(lake: Lake) -> list[tuple[object, ...]]:
    """Brand and bounds of the first shop's versions."""
    found = sorted((v for v in lake.versions() if v.shop == "a"), key=lambda v: v.valid_from)
    return [(v.brand, v.valid_from, v.valid_to) for v in found]


def test_changes_take_their_rows_times_and_absences_their_snapshots_day(sail: SparkSession) -> None:
    days = [
        snapshot(0, told(0, "x", since=at(-3))),
        snapshot(1, told(1, "x", since=at(-3))),
        snapshot(2, told(2, "y", since=at(1.25))),
        snapshot(3),
    ]
    lake = follow(sail, "timed_snapshot", *days)
    assert mine(lake) == [("x", BEGIN, at(1.25)), ("y", at(1.25), at(3))]


def test_repeated_rows_read_no_history(sail: SparkSession) -> None:
    rows = [snapshot(day, told(day, "x", since=at(-3), note="n")) for day in range(3)]
    lake = follow(sail, "timed_snapshot", *rows)
    assert (lake.late, len(lake.versions())) == (0, 2)
    lake.run({3: snapshot(3, told(3, "y", since=at(2.5), note="n"))})
    assert lake.late == 0
    lake.run({4: snapshot(4)})
    assert (lake.late, lake.published()) == (0, lake.built())


@pytest.mark.parametrize(
    ("since", "begins"),
    # An unchanged row, one of a time at which the last snapshot lacked it, and one of after it.
    [(-3.0, 4), (2.5, 4), (3.25, 3.25)],
)
def test_a_member_that_vanished_is_there_again_when_its_row_or_its_snapshot_says(
    sail: SparkSession, since: float, begins: float
) -> None:
    first = told(0, "x", since=at(-3))
    days = [
        snapshot(0, first),
        snapshot(2),
        snapshot(3),
        snapshot(4, told(4, "x", since=at(since))),
    ]
    lake = follow(sail, "timed_snapshot", *days)
    assert mine(lake) == [("x", BEGIN, at(2)), ("x", at(begins), None)]
    # It stays so while the row is repeated.
    lake.run({5: snapshot(5, told(5, "x", since=at(since)))})
    assert mine(lake) == [("x", BEGIN, at(2)), ("x", at(begins), None)]
    assert lake.published() == lake.built()


def test_what_a_later_snapshot_says_since_when_overrules_what_earlier_ones_said(
    sail: SparkSession,
) -> None:
    days = [
        snapshot(0, told(0, "x", since=at(-9))),
        snapshot(1, told(1, "y", since=at(6))),
        snapshot(2, told(2, "z", since=at(-2))),
    ]
    lake = follow(sail, "timed_snapshot", *days)
    assert mine(lake) == [("x", BEGIN, at(-2)), ("z", at(-2), None)]


def test_a_change_of_the_future_goes_with_its_member(sail: SparkSession) -> None:
    days = [
        snapshot(0, told(0, "x", since=at(-9))),
        snapshot(1, told(1, "y", since=at(9))),
        snapshot(2),
    ]
    assert mine(follow(sail, "timed_snapshot", *days)) == [("x", BEGIN, at(2))]


def test_no_order_of_snapshots_makes_a_difference(sail: SparkSession) -> None:
    days = [
        snapshot(0, told(0, "x", since=at(-3))),
        snapshot(1),
        snapshot(2, told(2, "x", since=at(-3)), State("c", 3, 2, "n", line=5, since=at(1.5))),
        snapshot(3, told(3, "y", since=at(2.25)), State("c", 3, 3, None, line=5, quarantined=True)),
    ]
    found = [
        follow(sail, "timed_snapshot", *order).versions()
        for order in [*itertools.permutations(days)][::9]
    ]
    assert found == [found[0]] * len(found)
    assert Version("c", 3, "n", BEGIN, None) in found[0]


def test_a_corrected_snapshot_leaves_no_trace_of_what_it_said(sail: SparkSession) -> None:
    row = told(1, "x", since=at(-3))
    days = [snapshot(0, told(0, "x", since=at(-3))), snapshot(1), snapshot(2, row)]
    lake = follow(sail, "timed_snapshot", days[0], days[1])
    lake.run({1: snapshot(1, row)})
    assert mine(lake) == [("x", BEGIN, None)]
    assert lake.published() == lake.built()


def test_a_snapshot_with_times_needs_no_number() -> None:
    timed = {**BASE, "snapshot": True, "effective_time": "since"}
    assert DimensionConfig.model_validate(timed).has_timed_snapshots
    with pytest.raises(ValueError, match="sequence: a snapshot's rows are in the order"):
        DimensionConfig.model_validate({**timed, "sequence": "seq"})
