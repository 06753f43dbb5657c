"""Dimensions that follow changes, against the naive answer: no order of runs makes a difference.

What a run costs is its plans, not its rows: cases go side by side through the same runs. Spark,
which plans longest, sees one case; Sail sees all.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from tests.star.dimension_lake import CONFIGS, Lake
from tests.star.naive import Mention, State, at

Run = tuple[dict[int, list[State]], dict[int, list[Mention]]]
Case = list[Run]
KEYS = [("a", 1), ("a", 11), ("ab", 1), ("ab", 11), ("b", 2)]
DAYS = range(6)
# Their plans are the largest, and their parts are those of others.
NIGHTLY = (
    "partial_flag",
    "timed_snapshot_deletes",
    "timed_snapshot_flag",
    "timed_snapshot_keep",
    "two_entities_flag",
    "two_entities_without_attributes",
)


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
                st.sampled_from([False, False, False, True]),
                st.sampled_from([None, 1, 2]),
                st.sampled_from([0, 0, 1]),
            ),
            max_size=7,
        )
    )
    rows = [
        State(shop, sku, day, brand, line, note, gone, None if s is None else at(s), *more)
        for line, ((shop, sku), brand, note, gone, s, *more) in enumerate(lines)
    ]
    return [replace(row, line=row.line + 100 * row.entity) for row in rows]


@st.composite
def mention_files(draw: st.DrawFn) -> list[Mention]:
    times = st.sampled_from([-70_000.0, -5.0, 0.5, 1.2, 4.0])
    named = draw(st.lists(st.tuples(st.sampled_from(KEYS), times), max_size=3))
    return [(shop, sku, at(moment)) for (shop, sku), moment in named]


@st.composite
def runs(draw: st.DrawFn) -> Case:
    """Runs over some days each, in any order: the same day again is a repair, or no change."""
    drawn: Case = []
    seen: dict[int, list[State]] = {}
    # Often in order, with the next days: that path has to meet all kinds of states.
    for start in draw(st.lists(st.sampled_from([0, 0, 1, 2, 3, 4, 5]), min_size=2, max_size=5)):
        days = range(start, draw(st.integers(start, 5)) + 1)
        states = {}
        for day in days:
            # Of a day that comes again, the files of all entities, of one or of none may be new.
            kept = draw(st.sampled_from([(), (0,), (1,), (0, 1)]))
            old = [row for row in seen.get(day, []) if row.entity in kept]
            new = [] if len(kept) == 2 and old else draw(files(day))
            states[day] = [*old, *(row for row in new if not old or row.entity not in kept)]
        seen |= states
        facts = draw(st.dictionaries(st.integers(0, 2), mention_files(), max_size=2))
        drawn.append((states, facts))
    return drawn


def side_by_side(cases: Sequence[Case]) -> Case:
    """Cases as one, each told of shops of its own: the files of all come in the same runs.

    A day of which one case tells anew is there again for the others, as they last told it.
    """
    states: list[dict[int, list[State]]] = [{} for _ in cases]
    mentions: list[dict[int, list[Mention]]] = [{} for _ in cases]
    together: Case = []
    for number in range(max(map(len, cases))):
        days: set[int] = set()
        named: set[int] = set()
        for n, case in enumerate(cases):
            told, facts = case[number] if number < len(case) else ({}, {})
            days |= {*told}
            named |= {*facts}
            states[n] |= {day: [_of_case(n, row) for row in rows] for day, rows in told.items()}
            mentions[n] |= {
                file: [(f"{n}{shop}", sku, moment) for shop, sku, moment in rows]
                for file, rows in facts.items()
            }
        together.append(
            (
                {day: [row for some in states for row in some.get(day, [])] for day in days},
                {file: [row for some in mentions for row in some.get(file, [])] for file in named},
            )
        )
    return together


def _of_case(n: int, row: State) -> State:
    return replace(row, shop=f"{n}{row.shop}", line=row.line + 10 * n)


def _of_entities(lake: Lake, rows: Sequence[State]) -> list[State]:
    """The rows as the dimension's entities tell them: of one all, or of two, one without notes."""
    if not lake.config.further_entities:
        return [replace(row, entity=0) for row in rows]
    return [replace(row, note=None) if row.entity else row for row in rows]


def tells_something(case: Case) -> bool:
    return any(rows for states, _ in case for rows in states.values())


def check_runs(spark: SparkSession, name: str, case: Case) -> None:
    lake = Lake(spark, CONFIGS[name])
    for states, mentions in case:
        lake.run({day: _of_entities(lake, rows) for day, rows in states.items()}, mentions)
        assert lake.versions() == lake.naive()
    assert lake.published() == lake.built()


HYPOTHESIS = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.property
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in NIGHTLY else n for n in CONFIGS],
)
@settings(HYPOTHESIS, max_examples=1)
@given(case=st.lists(runs(), min_size=4, max_size=4).map(side_by_side).filter(tells_something))
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
