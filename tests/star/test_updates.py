"""Dimensions that follow changes, against the naive answer: no order of runs makes a difference.

A case takes Spark some ten seconds, so that it sees a few of them; Sail sees all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from headrace.config.star import DimensionConfig
from headrace.star.dimensions import (
    UNKNOWN_KEY,
    Versions,
    build_dimension,
    lake_dimension_schema,
)
from headrace.star.intervals import changed_intervals
from headrace.star.updates import DimensionChanges, update_dimension
from tests.star.naive import (
    BEGIN,
    ENTITY,
    Mention,
    State,
    Version,
    at,
    frame,
    mentioned,
    naive_dimension,
    processed,
)

T = TypeVar("T")
BASE: Mapping[str, Any] = {
    "name": "dim_product",
    "entity": "shop.products",
    "natural_key": {"shop": "shop", "sku": "sku"},
    "attributes": {"brand": "brand"},
    "unknown": {"brand": "Nobody's"},
}
DELETES = {"when": "gone"}
_DIFFERENCES: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "close": {"deletes": DELETES, "effective_time": "since", "source_order": ["seq"]},
    "close_at_effective_time": {
        "deletes": DELETES,
        "effective_time": "since",
        "first_version": "at_effective_time",
        "overwritten": {"note": "note"},
    },
    "flag": {
        "deletes": {**DELETES, "do": "flag"},
        "overwritten": {"note": "note"},
        "first_version": "at_effective_time",
    },
    "keep": {"deletes": {**DELETES, "do": "keep"}, "missing": "unknown"},
    "without_attributes": {
        "attributes": {},
        "unknown": {},
        "effective_time": "since",
        "first_version": "at_effective_time",
    },
    "snapshot": {"snapshot": True, "deletes": DELETES, "overwritten": {"note": "note"}},
    "snapshot_flag": {
        "snapshot": True,
        "deletes": {"do": "flag"},
        "first_version": "at_effective_time",
        "unknown": False,
    },
}
CONFIGS = {
    name: DimensionConfig.model_validate({**BASE, **more}) for name, more in _DIFFERENCES.items()
}


@dataclass
class Lake:
    """What is published: rows and mentions by day, and the dimension as last written."""

    spark: SparkSession
    config: DimensionConfig
    states: dict[int, list[State]] = field(default_factory=dict)
    mentions: dict[int, list[Mention]] = field(default_factory=dict)
    head: pa.Table | None = None
    tail: pa.Table | None = None
    late: int = 0

    def run(
        self,
        states: Mapping[int, Sequence[State]] | None = None,
        mentions: Mapping[int, Sequence[Mention]] | None = None,
    ) -> None:
        """Replace some days, and let the dimension follow."""
        states, mentions = states or {}, mentions or {}
        changes = DimensionChanges(
            added=processed(self.spark, _all(states.values())),
            removed=processed(self.spark, _all(self.states.get(d, []) for d in states)),
            mentions_added=mentioned(self.spark, _all(mentions.values())),
            mentions_removed=mentioned(
                self.spark, _all(self.mentions.get(d, []) for d in mentions)
            ),
        )
        self.states |= {day: [*rows] for day, rows in states.items()}
        self.mentions |= {day: [*rows] for day, rows in mentions.items()}
        published = Versions(self.frame_of(self.head), self.frame_of(self.tail))
        update = update_dimension(
            published, changes, self.history, self.all_mentions, self.config, ENTITY
        )
        tail = update.tail.toArrow()
        if self.tail is not None and not update.replaces_tail:
            tail = pa.concat_tables([self.tail, tail.cast(self.tail.schema)])
        self.head, self.tail, self.late = update.head.toArrow(), tail, update.late_members

    def history(self) -> DataFrame:
        return processed(self.spark, self.rows())

    def all_mentions(self) -> DataFrame:
        return mentioned(self.spark, _all(self.mentions.values()))

    def rows(self) -> list[State]:
        return _all(self.states.values())

    def built(self) -> tuple[list[str], list[str]]:
        """What a build from nothing gives: head and tail, each sorted."""
        versions = build_dimension(self.history(), self.config, ENTITY, self.all_mentions())
        return _sorted(versions.head.toArrow()), _sorted(versions.tail.toArrow())

    def published(self) -> tuple[list[str], list[str]]:
        assert self.head is not None
        assert self.tail is not None
        return _sorted(self.head), _sorted(self.tail)

    def versions(self) -> set[Version]:
        """All published versions but the unknown member, and the surrogate keys left out."""
        assert self.head is not None
        assert self.tail is not None
        rows = [*self.head.to_pylist(), *self.tail.to_pylist()]
        known = [row for row in rows if row["product_key"] != UNKNOWN_KEY]
        found = {version(row) for row in known}
        assert len(found) == len(known) == len({row["product_key"] for row in known})
        current = [(row["shop"], row["sku"]) for row in known if row["is_current"]]
        assert len(current) == len({*current})
        assert all(row["is_current"] == (row["valid_to"] is None) for row in known)
        return found

    def naive(self) -> set[Version]:
        return naive_dimension(self.config, self.rows(), _all(self.mentions.values()))

    def frame_of(self, table: pa.Table | None) -> DataFrame:
        schema = lake_dimension_schema(self.config, ENTITY)
        known = schema.arrow().empty_table() if table is None else table.cast(schema.arrow())
        return frame(self.spark, known, schema)


def version(row: Mapping[str, object]) -> Version:
    names = ("shop", "sku", "brand", "valid_from", "valid_to", "note", "is_deleted", "is_inferred")
    shown = {"brand": None, **{name: row[name] for name in names if name in row}}
    return Version(**shown)  # type: ignore[arg-type]


def _all(groups: Iterable[Sequence[T]]) -> list[T]:
    return [one for group in groups for one in group]


def _sorted(table: pa.Table) -> list[str]:
    return sorted(map(str, table.to_pylist()))


KEYS = [("a", 1), ("a", 11), ("ab", 1), ("ab", 11), ("b", 2)]
DAYS = range(6)


@st.composite
def files(draw: st.DrawFn, day: int) -> list[State]:
    """A day's file: some lines on few members, told with few values so that ties happen."""
    lines = draw(
        st.lists(
            st.tuples(
                st.sampled_from([*KEYS, ("a", None)]),
                st.sampled_from(["x", "x", "y", None]),
                st.sampled_from(["n", "m", None]),
                st.sampled_from([None, False, False, True]),
                st.sampled_from([None, -60_000.0, 0.0, 1.0, 1.5, 3.0, 9.0]),
                st.sampled_from([None, 1, 2]),
            ),
            max_size=7,
        )
    )
    return [
        State(shop, sku, day, brand, line, note, gone, None if s is None else at(s), seq)
        for line, ((shop, sku), brand, note, gone, s, seq) in enumerate(lines)
    ]


@st.composite
def mention_files(draw: st.DrawFn) -> list[Mention]:
    times = st.sampled_from([-70_000.0, -5.0, 0.5, 1.2, 4.0])
    named = draw(st.lists(st.tuples(st.sampled_from(KEYS), times), max_size=3))
    return [(shop, sku, at(moment)) for (shop, sku), moment in named]


@st.composite
def runs(draw: st.DrawFn) -> list[tuple[dict[int, list[State]], dict[int, list[Mention]]]]:
    """Runs over some days each, in any order: the same day again is a repair, or no change."""
    drawn = []
    seen: dict[int, list[State]] = {}
    # Often in order, with the next days: that path has to meet all kinds of states.
    for start in draw(st.lists(st.sampled_from([0, 0, 1, 2, 3, 4, 5]), min_size=2, max_size=5)):
        days = range(start, draw(st.integers(start, 5)) + 1)
        states = {
            day: seen[day] if day in seen and draw(st.booleans()) else draw(files(day))
            for day in days
        }
        seen |= states
        facts = draw(st.dictionaries(st.integers(0, 2), mention_files(), max_size=2))
        drawn.append((states, facts))
    return drawn


def check_runs(
    spark: SparkSession,
    name: str,
    case: Sequence[tuple[dict[int, list[State]], dict[int, list[Mention]]]],
) -> None:
    lake = Lake(spark, CONFIGS[name])
    for states, mentions in case:
        lake.run(states, mentions)
        assert lake.versions() == lake.naive()
    assert lake.published() == lake.built()


Case = list[tuple[dict[int, list[State]], dict[int, list[Mention]]]]
HYPOTHESIS = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.property
@pytest.mark.parametrize("name", CONFIGS)
@settings(HYPOTHESIS, max_examples=3)
@given(case=runs())
def test_no_order_of_runs_makes_a_difference(sail: SparkSession, name: str, case: Case) -> None:
    check_runs(sail, name, case)


@pytest.mark.property
@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
@settings(HYPOTHESIS, max_examples=100)
@given(case=runs())
def test_no_order_of_many_runs_does(sail: SparkSession, name: str, case: Case) -> None:
    check_runs(sail, name, case)


def everything() -> Case:
    """Late, tied, repeated, corrected and removed rows, deletes, returns, and mentions of all."""
    days = {
        0: [State("a", 1, 0, "x", note="n"), State("b", 2, 0, "x", line=2, note="n")],
        1: [State("a", 1, 1, "x", note="m"), State("b", 2, 1, None, line=2, gone=True)],
        2: [State("a", 1, 2, "y", since=at(5)), State("ab", 1, 2, "y", line=2, since=at(1.5))],
        3: [State("b", 2, 3, "x", line=2), State("ab", 1, 3, "z", line=3, since=at(1.5))],
    }
    before = ("ab", 1, at(0.5))
    return [
        ({0: days[0], 2: days[2]}, {0: [before, ("c", 9, at(1))]}),
        ({1: days[1], 2: days[2]}, {1: [before]}),
        ({3: days[3]}, {0: []}),
        ({2: days[2][1:]}, {1: []}),
        ({4: [State("a", 1, 4, "q", note="n"), State("c", 9, 4, "q", line=2, since=at(2))]}, {}),
    ]


@pytest.mark.parametrize(
    ("name", "runs"),
    [pytest.param("close_at_effective_time", 5, marks=pytest.mark.slow), ("snapshot", 2)],
)
def test_nor_does_it_on_either_engine(spark: SparkSession, name: str, runs: int) -> None:
    check_runs(spark, name, everything()[:runs])


def told(day: int, brand: str | None, **more: Any) -> State:
    return State("a", 1, day, brand, **more)


def follow(spark: SparkSession, name: str, *days: Sequence[State]) -> Lake:
    """Publishes the days in this order; the naive answer and the build agree with the result."""
    lake = Lake(spark, CONFIGS[name])
    for rows in days:
        lake.run({rows[0].day: rows})
    assert lake.versions() == lake.naive()
    assert lake.published() == lake.built()
    return lake


def test_a_late_change_between_two_equal_states_makes_versions_of_a_no_op(
    sail: SparkSession,
) -> None:
    lake = follow(sail, "plain", [told(0, "x")], [told(4, "x")], [told(2, "y")])
    brands = sorted((v.valid_from, v.brand) for v in lake.versions())
    assert [brand for _, brand in brands] == ["x", "y", "x"]
    assert lake.late == 1


def test_changes_after_the_last_one_read_no_history(sail: SparkSession) -> None:
    lake = follow(sail, "plain", [told(0, "x")], [told(1, "y")], [told(5, "y"), told(5, "z")])
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


def test_a_member_that_is_told_of_as_deleted_only_had_been_there(sail: SparkSession) -> None:
    lake = follow(sail, "close_at_effective_time", [told(2, "x", gone=True)])
    assert lake.versions() == {Version("a", 1, "x", BEGIN, at(2))}
    lake.run({1: [told(1, "w")]})
    assert lake.versions() == {Version("a", 1, "w", at(1), at(2))}


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


def test_intervals_are_those_in_which_the_key_differs(spark: SparkSession) -> None:
    lake = follow(spark, "close", [told(0, "x")], [told(4, "y")])
    old = lake.head, lake.tail
    lake.run({2: [told(2, None, gone=True)], 6: [told(6, "z")]})
    # Deleted from the 2nd on, as before from the 4th, another from the 6th.
    assert changes_of(lake, *old) == [("a", 1, at(2), at(4)), ("a", 1, at(6), None)]


def changes_of(lake: Lake, head: pa.Table | None, tail: pa.Table | None) -> list[tuple[Any, ...]]:
    """Intervals in which another key is valid than in an earlier state."""
    before = lake.frame_of(head).unionByName(lake.frame_of(tail))
    after = lake.frame_of(lake.head).unionByName(lake.frame_of(lake.tail))
    found = changed_intervals(before, after, lake.config).orderBy("from").collect()
    return [tuple(row) for row in found]
