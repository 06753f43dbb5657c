"""Cases of following changes that have a name; `follow` holds each against the naive answer."""

import pytest
from pyspark.sql import SparkSession

from headrace.config.star.models import DimensionConfig
from headrace.star.scd2.dimensions import UNKNOWN_KEY
from tests.star.dimension_lake import BASE, CONFIGS, GONE, Lake, changes_of, follow, told
from tests.star.naive import BEGIN, State, Version, at


def test_a_late_change_between_two_equal_states_makes_versions_of_a_no_op(
    sail: SparkSession,
) -> None:
    lake = follow(sail, "plain", [told(0, "x")], [told(4, "x")], [told(2, "y")])
    brands = sorted((v.valid_from, v.brand) for v in lake.versions())
    assert [brand for _, brand in brands] == ["x", "y", "x"]
    assert lake.late == 1


def test_changes_after_the_last_one_read_no_history(sail: SparkSession) -> None:
    lake = follow(
        sail, "plain", [told(0, "x")], [told(1, "y")], [told(5, "y"), told(5, "z", line=2)]
    )
    assert lake.late == 0


def test_a_change_after_a_no_op_is_in_order_and_one_before_it_is_late(sail: SparkSession) -> None:
    lake = follow(sail, "plain", [told(0, "x")], [told(4, "x")])
    lake.run({3: [told(3, "x")]})
    assert lake.late == 1
    lake.run({5: [told(5, "x")]})
    assert lake.late == 0
    assert len(lake.versions()) == 1


def test_a_dimension_without_attributes_remembers_when_a_member_was_told_of(
    sail: SparkSession,
) -> None:
    lake = follow(
        sail,
        "without_attributes",
        [told(0, None)],
        [told(3, None), told(3, None, line=2, since=at(9))],
    )
    lake.run({4: [told(4, None)]})
    assert lake.published() == lake.built()
    assert len(lake.versions()) == 1


def test_the_future_changes_nothing_of_a_dimension_without_attributes(sail: SparkSession) -> None:
    lake = follow(sail, "without_attributes", [told(0, None)], [told(1, None, since=at(9))])
    assert len(lake.versions()) == 1


def test_a_run_again_over_the_same_rows_changes_nothing(sail: SparkSession) -> None:
    lake = follow(sail, "close", [told(0, "x")], [told(1, "y", gone=True)], [told(2, "z")])
    before = lake.published()
    lake.run({0: [told(0, "x")], 1: [told(1, "y", gone=True)], 2: [told(2, "z")]})
    assert (lake.late, lake.published()) == (0, before)


def test_a_corrected_file_takes_its_version_back(sail: SparkSession) -> None:
    lake = follow(sail, "plain", [told(0, "x")], [told(1, "y")], [told(2, "z")])
    old = lake.head, lake.tail
    lake.run({1: [told(1, "x")]})
    assert lake.versions() == lake.naive()
    assert {v.brand for v in lake.versions()} == {"x", "z"}
    # Facts of that day pointed to a version that is gone: they are found.
    assert changes_of(lake, *old) == [("a", 1, at(1), at(2))]


def test_a_removed_day_leaves_no_trace(sail: SparkSession) -> None:
    lake = follow(sail, "close", [told(0, "x")], [told(1, "x", gone=True)])
    lake.run({0: [], 1: []})
    assert lake.versions() == set()


def test_the_source_order_settles_what_one_instant_holds(sail: SparkSession) -> None:
    first, second = told(0, "x", since=at(1), seq=2), told(3, "y", since=at(1), seq=1)
    lake = follow(sail, "close", [first], [second])
    assert [v.brand for v in lake.versions()] == ["x"]
    lake.run({4: [told(4, "z", since=at(1), seq=2)]})
    assert [v.brand for v in lake.versions()] == ["z"]


def test_a_delete_between_two_equal_states_keeps_them_apart(sail: SparkSession) -> None:
    lake = follow(sail, "close", [told(0, "x")], [told(1, None, gone=True)], [told(3, "x")])
    assert {(v.valid_from, v.valid_to) for v in lake.versions()} == {(BEGIN, at(1)), (at(3), None)}


@pytest.mark.parametrize("name", ["close", "close_at_effective_time", "flag"])
def test_a_delete_of_a_member_that_nobody_told_of_makes_no_version(
    sail: SparkSession, name: str
) -> None:
    lake = follow(sail, name, [told(2, None, gone=True)])
    assert lake.versions() == set()
    # It counts once the member is told of.
    lake.run({1: [told(1, "w")]})
    assert {v.valid_to for v in lake.versions()} & {at(2)}
    assert lake.versions() == lake.naive()
    lake.run({2: []})
    lake.run({1: []})
    lake.run({2: [told(2, None, gone=True)]})
    lake.run({3: [told(3, "z")]})
    assert lake.late == 0
    assert lake.versions() == lake.naive()
    assert {v.brand for v in lake.versions()} == {"z"}


def test_a_member_inserted_and_deleted_at_one_instant_keeps_its_values(sail: SparkSession) -> None:
    both = [told(2, "x", note="n"), told(2, None, line=2, gone=True)]
    assert follow(sail, "close", both).versions() == {Version("a", 1, "x", BEGIN, at(2))}
    assert follow(sail, "close_at_effective_time", both).versions() == set()


def test_a_flagged_member_shows_what_its_delete_follows_at_its_instant(sail: SparkSession) -> None:
    changed = [told(2, "y", note="m"), told(2, None, line=2, gone=True)]
    lake = follow(sail, "flag", [told(0, "x", note="n")], changed)
    assert lake.versions() == {
        Version("a", 1, "x", at(0), at(2), "m"),
        Version("a", 1, "y", at(2), None, "m", is_deleted=True),
    }


def test_a_row_without_a_time_comes_after_what_its_day_told_before_it(sail: SparkSession) -> None:
    noon, evening = at(1.5), at(1.75)
    changed = [told(1, "y", since=noon), told(1, None, line=2, gone=True)]
    lake = follow(sail, "close", [told(0, "x", since=at(0.5))], changed)
    assert lake.versions() == {Version("a", 1, "x", BEGIN, noon)}
    lake.run({1: [told(1, "y", since=evening), told(1, "z", line=2), told(1, "q", line=3)]})
    assert lake.versions() == lake.naive()
    assert {v.brand for v in lake.versions()} == {"x", "q"}


def test_a_member_whose_row_is_quarantined_was_there(spark_nightly: SparkSession) -> None:
    other = [State("b", 2, day, "o", line=2) for day in range(6)]
    unread = [told(day, None, quarantined=True) for day in range(6)]
    days = [[other[0], told(0, "x")], [other[1], unread[1]], [other[2], unread[2]], [other[3]]]
    lake = follow(spark_nightly, "snapshot", *days)
    mine = {(v.valid_from, v.valid_to) for v in lake.versions() if v.shop == "a"}
    assert mine == {(BEGIN, at(3))}
    # A quarantined row brings nobody back, and nobody of whom nothing was told before.
    lake.run({4: [other[4], unread[4], State("c", 3, 4, "n", line=3, quarantined=True)]})
    lake.run({5: [other[5]]})
    assert lake.versions() == lake.naive()
    # The corrected file of the 2nd lacks the member after all; that of the 1st has it.
    lake.run({2: [other[2]]})
    assert lake.versions() == lake.naive()
    lake.run({1: [other[1], told(1, "y")]})
    assert lake.versions() == lake.naive()
    assert lake.published() == lake.built()


def test_a_day_without_a_good_row_is_no_snapshot(sail: SparkSession) -> None:
    gone = State("c", 3, 1, None, line=2, gone=True)
    lake = follow(sail, "snapshot", [told(0, "x")], [told(1, None, quarantined=True), gone])
    assert {v.valid_to for v in lake.versions()} == {None}
    lake.run({2: [State("b", 2, 2, "o")]})
    assert {(v.shop, v.valid_to) for v in lake.versions()} == {("a", at(2)), ("b", None)}
    assert lake.versions() == lake.naive()


def test_a_flagged_member_is_shown_as_it_was_last_known(sail: SparkSession) -> None:
    lake = follow(sail, "flag", [told(0, "x", note="n")], [told(1, None, gone=True)])
    lake.run({2: [told(2, None, gone=True)]})
    assert lake.versions() == {
        Version("a", 1, "x", at(0), at(1), "n"),
        Version("a", 1, "x", at(1), None, "n", is_deleted=True),
    }


def test_a_member_that_a_snapshot_lacks_is_deleted_and_comes_back(sail: SparkSession) -> None:
    other = [State("b", 2, day, "o") for day in range(5)]
    lake = follow(sail, "snapshot", [told(0, "x"), other[0]], [other[2]], [told(4, "x"), other[4]])
    mine = {(v.valid_from, v.valid_to) for v in lake.versions() if v.shop == "a"}
    assert mine == {(BEGIN, at(2)), (at(4), None)}
    # A snapshot that comes late, or goes, says something of members that it does not name.
    lake.run({1: [other[1]]})
    assert (BEGIN, at(1)) in {(v.valid_from, v.valid_to) for v in lake.versions()}
    assert lake.versions() == lake.naive()
    lake.run({1: [], 2: []})
    assert lake.versions() == {
        Version("a", 1, "x", BEGIN, None),
        Version("b", 2, "o", BEGIN, None),
    }


def test_every_version_shows_an_overwritten_value_as_it_is_now(sail: SparkSession) -> None:
    lake = follow(sail, "flag", [told(0, "x", note="n")], [told(1, "y", note="n")])
    lake.run({2: [told(2, "y", note="m")]})
    assert {v.note for v in lake.versions()} == {"m"}
    assert lake.late == 1
    lake.run({3: [told(3, "y", note=None)], 1: [told(1, "y", note="late")]})
    assert {v.note for v in lake.versions()} == {None}


def test_a_null_that_says_nothing_keeps_what_was_told(spark_nightly: SparkSession) -> None:
    day = [told(0, "x", note="n", since=at(0)), told(0, None, line=2, since=at(0), note="m")]
    lake = follow(spark_nightly, "partial", day, [told(1, None, since=at(1))])
    assert lake.late == 0
    assert lake.versions() == {Version("a", 1, "x", BEGIN, None, "m")}
    # A member that is back begins anew, but for its overwritten values.
    lake.run({2: [told(2, None, gone=True)], 3: [told(3, None)]})
    assert lake.versions() == {
        Version("a", 1, "x", BEGIN, at(2), "m"),
        Version("a", 1, None, at(3), None, "m"),
    }
    assert lake.published() == lake.built()


def test_a_null_says_nothing_of_a_member_that_a_snapshot_lacked(
    spark_nightly: SparkSession,
) -> None:
    other = [State("b", 2, day, "b", line=9) for day in range(5)]
    lake = follow(
        spark_nightly,
        "snapshot_partial",
        [told(0, "x", note="n"), other[0]],
        [told(1, None), other[1]],
        [other[2]],
        [told(3, None), other[3]],
        [told(4, None), other[4]],
    )
    assert {version for version in lake.versions() if version.shop == "a"} == {
        Version("a", 1, "x", BEGIN, at(2), "n"),
        Version("a", 1, None, at(3), None, "n"),
    }


def test_an_untracked_value_stays_in_its_version(sail: SparkSession) -> None:
    days = [[told(0, "x", price=1)], [told(1, "x", price=2)], [told(2, "y", price=3)]]
    lake = follow(sail, "partial_flag", *days, [told(3, None, gone=True, price=4)])
    assert lake.versions() == {
        Version("a", 1, "x", BEGIN, at(2), price=1),
        Version("a", 1, "y", at(2), at(3), price=3),
        Version("a", 1, "y", at(3), None, price=3, is_deleted=True),
    }
    # A late version begins where a change of an untracked value alone had begun none.
    lake.run({0: [told(0, "w", price=9)]})
    assert Version("a", 1, "x", at(1), at(2), price=2) in lake.versions()
    assert lake.versions() == lake.naive()


def test_a_row_with_a_smaller_number_than_one_that_holds_changes_nothing(
    spark_nightly: SparkSession,
) -> None:
    lake = follow(spark_nightly, "sequence", [told(0, "x", seq=1)], [told(1, "z", seq=9)])
    lake.run({2: [told(2, "y", seq=5), told(2, "q", line=2, seq=12, since=at(2.5))]})
    assert {(v.brand, v.valid_from) for v in lake.versions()} == {
        ("x", BEGIN),
        ("z", at(1)),
        ("q", at(2.5)),
    }
    # A delete of a member that nobody told of: an insert that comes later is older than it.
    lake.run({3: [State("b", 2, 3, gone=True, seq=20)]})
    lake.run({4: [State("b", 2, 4, "late", seq=11), State("c", 3, 4, "new", line=2, seq=21)]})
    assert {v.shop for v in lake.versions()} == {"a", "c"}
    assert lake.versions() == lake.naive()
    assert lake.published() == lake.built()


def test_a_delete_told_twice_counts_with_its_larger_number(sail: SparkSession) -> None:
    twice = [told(1, None, gone=True), told(1, None, line=2, gone=True, seq=3)]
    lake = follow(sail, "sequence", [told(0, "x")], twice, [told(2, None, gone=True, seq=2)])
    lake.run({3: [told(3, "y", seq=2)]})
    assert lake.versions() == lake.naive() == {Version("a", 1, "x", BEGIN, at(1))}


def test_a_row_that_changes_nothing_is_not_the_last_to_tell_a_type_1_value(
    sail: SparkSession,
) -> None:
    days = [[told(0, "x", note="n", seq=1)], [told(1, "y", note="n", seq=2)]]
    outdated = told(3, "z", note="n", line=2, seq=3, since=at(3))
    days.append([told(3, "y", note="m", seq=4, since=at(2)), outdated])
    lake = follow(sail, "sequence", *days)
    assert {(v.brand, v.note) for v in lake.versions()} == {("x", "m"), ("y", "m")}


def test_a_type_1_value_of_the_future_hides_no_change_of_today(sail: SparkSession) -> None:
    days = [[told(0, "x", note="n")], [told(1, "y", note="n")]]
    days.append([told(2, "y", note="m"), told(2, "z", note="n", line=2, since=at(9))])
    lake = follow(sail, "close_at_effective_time", *days)
    assert {v.note for v in lake.versions()} == {"m"}


def test_an_inferred_member_is_filled_in_under_the_same_key(sail: SparkSession) -> None:
    lake = Lake(sail, CONFIGS["plain"])
    lake.run({}, {0: [("a", 1, at(3))]})
    assert lake.versions() == {Version("a", 1, "Nobody's", BEGIN, None, is_inferred=True)}
    old = lake.head, lake.tail
    lake.run({5: [told(5, "x")]})
    assert lake.versions() == {Version("a", 1, "x", BEGIN, None)}
    assert (lake.late, changes_of(lake, *old)) == (0, [])


def test_an_inferred_member_stays_before_the_first_version_while_facts_need_it(
    sail: SparkSession,
) -> None:
    lake = Lake(sail, CONFIGS["close_at_effective_time"])
    lake.run({5: [told(5, "x")]}, {0: [("a", 1, at(3))], 1: [("a", 1, at(7))]})
    inferred = Version("a", 1, "Nobody's", BEGIN, at(5), is_inferred=True)
    assert lake.versions() == {inferred, Version("a", 1, "x", at(5), None)}
    lake.run({}, {0: []})
    assert lake.versions() == {Version("a", 1, "x", at(5), None)}
    lake.run({5: []})
    assert {v.is_inferred for v in lake.versions()} == {True}
    lake.run({}, {1: []})
    assert lake.versions() == set()


def test_a_future_delete_of_a_member_without_a_row_is_no_change_to_come(
    sail: SparkSession,
) -> None:
    lake = Lake(sail, CONFIGS["close"])
    lake.run({0: [told(0, "x", gone=True, since=at(9))]})
    lake.run(mentions={0: [("a", 1, at(0.5))]})
    assert lake.versions() == lake.naive()
    assert lake.published() == lake.built()


def test_a_time_that_is_odd_or_missing_still_gives_whole_versions(sail: SparkSession) -> None:
    lake = follow(
        sail,
        "close",
        [told(0, "future", since=at(40_000))],
        [told(1, "ancient", since=at(-60_000)), told(1, "midnight", line=2)],
    )
    assert {(v.brand, v.valid_from) for v in lake.versions()} == {
        ("ancient", BEGIN),
        ("midnight", at(1)),
        ("future", at(40_000)),
    }


def test_what_is_current_and_overwritten_is_todays_and_not_the_futures(
    spark_nightly: SparkSession,
) -> None:
    price = told(0, "low", note="n", since=at(0))
    future = told(0, "high", note="m", line=2, since=at(3.5))
    lake = follow(spark_nightly, "close_at_effective_time", [price, future])
    assert flags(lake) == {"low": (True, False), "high": (False, True)}
    assert {v.note for v in lake.versions()} == {"n"}
    # A day that tells of others, and none of them of the future: nothing is built anew.
    lake.run({1: [State("b", 2, 1, "b", since=at(1))]})
    assert lake.late == 0
    assert lake.versions() == lake.naive()
    # On its day the version of the future becomes today's, though no row tells of it.
    lake.run({3: []})
    assert lake.versions() == lake.naive()
    assert lake.published() == lake.built()
    assert flags(lake) == {"low": (False, False), "high": (True, True), "b": (True, True)}
    lake.run({4: [told(4, None, gone=True, since=at(4.5))]})
    assert flags(lake)["high"] == (False, True)


def flags(lake: Lake) -> dict[str, tuple[bool, bool]]:
    """By brand: whether the version is current, and whether it is the latest."""
    assert lake.head is not None
    assert lake.tail is not None
    rows = [*lake.head.to_pylist(), *lake.tail.to_pylist()]
    known = [row for row in rows if row["product_key"] != UNKNOWN_KEY]
    return {row["brand"]: (row["is_current"], row["is_latest"]) for row in known}


def test_a_row_without_a_whole_natural_key_is_no_member(sail: SparkSession) -> None:
    rows = [State("a", None, 0, "x"), State(None, 1, 0, "x", line=2), told(0, "y", line=3)]
    assert follow(sail, "plain", rows).versions() == {Version("a", 1, "y", BEGIN, None)}


def test_a_member_with_the_unknown_ones_natural_key_is_not_it(sail: SparkSession) -> None:
    lake = follow(sail, "plain", [State("Unknown", -1, 0, "x")], [State("Unknown", -1, 1, "y")])
    assert {v.brand for v in lake.versions()} == {"x", "y"}


def test_a_dimension_that_needs_no_unknown_member_has_none(sail: SparkSession) -> None:
    lake = follow(sail, "snapshot_flag", [told(0, "x")])
    assert lake.head is not None
    assert lake.head["product_key"].to_pylist() != [UNKNOWN_KEY]
    assert lake.head.num_rows == 1


def test_intervals_are_those_in_which_the_key_differs(spark_nightly: SparkSession) -> None:
    lake = follow(spark_nightly, "close", [told(0, "x")], [told(4, "y")])
    old = lake.head, lake.tail
    lake.run({2: [told(2, None, gone=True)], 6: [told(6, "z")]})
    # Deleted from the 2nd on, as before from the 4th, another from the 6th.
    assert changes_of(lake, *old) == [("a", 1, at(2), at(4)), ("a", 1, at(6), None)]


@pytest.mark.parametrize(
    "names",
    [
        {"shop": "from", "sku": "to", "brand": "hash", "note": "kind"},
        {"shop": "event_time", "sku": "key", "brand": "changed_at", "note": "rows"},
    ],
    ids=lambda names: "-".join(names.values()),
)
def test_users_may_call_their_columns_what_they_like(
    spark_nightly: SparkSession, names: dict[str, str]
) -> None:
    config = DimensionConfig.model_validate(
        {
            **BASE,
            "natural_key": {names["shop"]: "shop", names["sku"]: "sku"},
            "attributes": {names["brand"]: "brand"},
            "type1": {names["note"]: "note"},
            "unknown": {},
            "deleted_when": GONE,
            "first_version": "at_effective_time",
        }
    )
    lake = Lake(spark_nightly, config, names=names)
    in_order = {1: [told(1, "x", note="m"), told(1, "y", line=2, gone=True)], 4: [told(4, "z")]}
    late = {2: [told(2, "y", note="k")]}
    for days in ({0: [told(0, "x", note="n")]}, in_order, late):
        old = lake.head, lake.tail
        lake.run(days, {0: [("a", 1, at(-3)), ("b", 9, at(1))]})
        assert lake.versions() == lake.naive()
    assert lake.published() == lake.built()
    assert changes_of(lake, *old) == [("a", 1, at(2), at(4))]
