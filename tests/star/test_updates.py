"""Dimensions that follow changes, against the naive answer: no order of runs makes a difference."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

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
from headrace.star.updates import DimensionChanges, update_dimension
from tests.star.naive import (
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
BASE = {
    "name": "dim_product",
    "entity": "shop.products",
    "natural_key": {"shop": "shop", "sku": "sku"},
    "attributes": {"brand": "brand"},
    "unknown": {"brand": "Nobody's"},
}
DELETES = {"when": "gone"}
CONFIGS: Mapping[str, DimensionConfig] = {
    name: DimensionConfig.model_validate({**BASE, **more})
    for name, more in {
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
        "snapshot": {"snapshot": True, "deletes": DELETES, "overwritten": {"note": "note"}},
        "snapshot_flag": {
            "snapshot": True,
            "deletes": {"do": "flag"},
            "first_version": "at_effective_time",
            "unknown": False,
        },
    }.items()
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
        published = Versions(self._frame(self.head), self._frame(self.tail))
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

    def _frame(self, table: pa.Table | None) -> DataFrame:
        schema = lake_dimension_schema(self.config, ENTITY)
        known = schema.arrow().empty_table() if table is None else table.cast(schema.arrow())
        return frame(self.spark, known, schema)


def version(row: Mapping[str, object]) -> Version:
    names = ("shop", "sku", "brand", "valid_from", "valid_to", "note", "is_deleted", "is_inferred")
    return Version(**{name: row[name] for name in names if name in row})  # type: ignore[arg-type]


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


HYPOTHESIS = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.property
@pytest.mark.parametrize("name", CONFIGS)
@HYPOTHESIS
@given(case=runs())
def test_no_order_of_runs_makes_a_difference(
    spark: SparkSession,
    name: str,
    case: list[tuple[dict[int, list[State]], dict[int, list[Mention]]]],
) -> None:
    check_runs(spark, name, case)
