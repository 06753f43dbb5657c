"""Dimensions against a naive answer: lists and dicts, no engine, obviously right."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import Row, SparkSession

from headrace.config.sources.file_source import FileEntity
from headrace.config.star.models import DimensionConfig
from headrace.engine.values.types import spark_schema
from headrace.standardize.schemas import processed_schema
from headrace.star.scd2.change_events import BEGINNING
from headrace.star.scd2.dimensions import (
    UNKNOWN_KEY,
    DimensionInputs,
    build_dimension,
)
from tests.star.naive import published_rows

ENTITY = FileEntity.model_validate(
    {
        "name": "products",
        "extract": {"mode": "files", "path": "p-{date:%Y-%m-%d}.csv"},
        "key": ["shop", "sku"],
        "columns": [
            {"name": "shop", "type": "string"},
            {"name": "sku", "type": "bigint"},
            {"name": "brand", "type": "string"},
            {"name": "price", "type": "decimal(12,2)"},
        ],
    }
)
DIMENSION = DimensionConfig.model_validate(
    {
        "name": "dim_product",
        "entity": "shop.products",
        "natural_key": {"shop": "shop", "sku": "sku"},
        "attributes": {"brand": "brand"},
        "unknown": {"brand": "Nobody's"},
    }
)
FROM_EFFECTIVE = DIMENSION.model_copy(update={"first_version": "at_effective_time"})
FIRST = date(2017, 1, 1)
BEGIN = datetime.fromisoformat(BEGINNING)


@dataclass(frozen=True)
class State:
    """What one file says of one product on one day."""

    shop: str
    sku: int
    day: int
    brand: str | None
    line: int = 1


Version = tuple[str, int, str | None, datetime, datetime | None, bool]


def naive_dimension(states: Sequence[State], *, from_beginning: bool = True) -> set[Version]:
    """Versions by hand: the last line of a day counts, equal neighbours are one."""
    versions: set[Version] = set()
    for key in {(state.shop, state.sku) for state in states}:
        by_day: dict[int, State] = {}
        for state in sorted(states, key=lambda s: s.line):
            if (state.shop, state.sku) == key:
                by_day[state.day] = state
        kept: list[State] = []
        for _, state in sorted(by_day.items()):
            if not kept or kept[-1].brand != state.brand:
                kept.append(state)
        starts = [at(state.day) for state in kept]
        if from_beginning:
            starts[0] = BEGIN
        ends = [at(state.day) for state in kept[1:]] + [None]
        for state, start, end in zip(kept, starts, ends, strict=True):
            versions.add((*key, state.brand, start, end, end is None))
    return versions


def at(day: int) -> datetime:
    return datetime.combine(FIRST + timedelta(days=day), datetime.min.time())


def built(
    spark: SparkSession, states: Sequence[State], config: DimensionConfig = DIMENSION
) -> list[Row]:
    rows = [
        (
            s.shop,
            s.sku,
            s.brand,
            None,
            datetime(2017, 6, 1, tzinfo=UTC),
            "1 file",
            "file",
            s.line,
            None,
            datetime(2017, 6, 2, tzinfo=UTC),
            "run",
            "code",
            FIRST + timedelta(days=s.day),
        )
        for s in states
    ]
    frame = spark.createDataFrame(rows, spark_schema(processed_schema(ENTITY)))
    versions = build_dimension(DimensionInputs(frame), config, ENTITY)
    return published_rows(versions, config, ENTITY).collect()


def members(rows: Sequence[Row]) -> set[Version]:
    return {
        (r["shop"], r["sku"], r["brand"], r["valid_from"], r["valid_to"], r["is_current"])
        for r in rows
        if r["product_key"] != UNKNOWN_KEY
    }


histories = st.lists(
    st.builds(
        State,
        shop=st.sampled_from(["a", "ab"]),
        sku=st.sampled_from([1, 11]),
        day=st.integers(0, 5),
        brand=st.sampled_from(["x", "y", "", None]),
        line=st.integers(1, 9),
    ),
    max_size=12,
    # One line of a file says one thing of one product.
    unique_by=lambda s: (s.shop, s.sku, s.day, s.line),
)


def side_by_side(cases: Sequence[Sequence[State]]) -> list[State]:
    """Histories as one, each of shops of its own: a build costs the same, whatever it tells."""
    return [
        replace(state, shop=f"{n}{state.shop}")
        for n, states in enumerate(cases)
        for state in states
    ]


@pytest.mark.property
@settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(states=st.lists(histories, min_size=8, max_size=8).map(side_by_side))
def test_a_dimension_is_what_a_naive_build_gives(spark: SparkSession, states: list[State]) -> None:
    assert members(built(spark, states)) == naive_dimension(states)


def test_equal_neighbours_are_one_version(spark: SparkSession) -> None:
    states = [State("a", 1, 0, "x"), State("a", 1, 1, "x"), State("a", 1, 3, "y")]
    assert members(built(spark, states)) == {
        ("a", 1, "x", BEGIN, at(3), False),
        ("a", 1, "y", at(3), None, True),
    }


def test_a_change_back_is_a_version_of_its_own(spark: SparkSession) -> None:
    states = [State("a", 1, 0, "x"), State("a", 1, 1, "y"), State("a", 1, 2, "x")]
    assert len(members(built(spark, states))) == 3


def test_a_value_that_becomes_null_is_a_change(spark: SparkSession) -> None:
    states = [State("a", 1, 0, "x"), State("a", 1, 1, None)]
    assert len(members(built(spark, states))) == 2


def test_where_the_first_version_begins_is_configured(spark: SparkSession) -> None:
    [version] = members(built(spark, [State("a", 1, 2, "x")], FROM_EFFECTIVE))
    assert version[3] == at(2)


def test_keys_are_unique_though_parts_of_them_could_be_glued_alike(spark: SparkSession) -> None:
    states = [State("a", 11, 0, "x"), State("a1", 1, 0, "x"), State("a", 1, 0, "x")]
    rows = built(spark, states)
    assert len({row["product_key"] for row in rows}) == len(rows) == 4
    assert all(row["product_key"] > 0 for row in rows if row["brand"] == "x")


def test_a_rebuild_gives_the_same_keys(spark: SparkSession) -> None:
    states = [State("a", 1, 0, "x"), State("a", 1, 2, "y"), State("b", 2, 1, None)]
    again = list(reversed(states))
    assert sorted(map(str, built(spark, states))) == sorted(map(str, built(spark, again)))


def test_the_unknown_member_is_there_even_when_nothing_else_is(spark: SparkSession) -> None:
    [unknown] = built(spark, [])
    assert unknown.asDict() == {
        "product_key": UNKNOWN_KEY,
        "shop": "Unknown",
        "sku": -1,
        "brand": "Nobody's",
        "valid_from": BEGIN,
        "valid_to": None,
        "is_current": True,
        "is_latest": True,
        "is_inferred": False,
    }
