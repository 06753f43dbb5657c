"""States at the ends of days: what was told up to then, whatever it is computed from."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from headrace.config.sources.file_source import FileEntity
from headrace.config.star.models import DimensionConfig, FactConfig
from headrace.standardize.schemas import processed_schema
from headrace.star.facts import build_fact, fact_schema
from headrace.star.periodic_snapshots import first_change, state_changes, states
from tests.star.naive import frame
from tests.star.naive_snapshots import (
    CHANGES,
    ENTITY,
    MOVEMENTS,
    Days,
    Row,
    day,
    naive_states,
    processed_table,
    shown,
)

TOLD: Days = {
    0: [Row("a", 1, 5, "1.50", "top"), Row("a", 2, None, "2.00")],
    1: [],
    2: [Row("a", 1, -3, None, None), Row("b", 1, None, "9.99")],
    4: [Row("b", 1, None, "-9.99", "low"), Row("a", 2, 7, "0.01")],
}
DIMENSION = DimensionConfig.model_validate(
    {"name": "dim_shop", "entity": "s.shops", "natural_key": {"shop": "shop"}}
)


def processed(spark: SparkSession, told: Days) -> DataFrame:
    return frame(spark, processed_table(told), processed_schema(ENTITY))


def found(rows: DataFrame, config: FactConfig, number: int) -> list[tuple[object, ...]]:
    collected = [row.asDict() for row in rows.collect()]
    return [shown(config, row) for row in collected if row["_partition_date"] == day(number)]


def facts(
    spark: SparkSession,
    config: FactConfig,
    before: DataFrame | None,
    told: Days,
    days: Sequence[int],
) -> DataFrame:
    rows = state_changes(before, processed(spark, told), config, ENTITY)
    return build_fact(states(rows, [day(n) for n in days], config, ENTITY), config, ENTITY, {})


@pytest.mark.parametrize("config", [CHANGES, MOVEMENTS], ids=["changes", "movements"])
def test_a_day_has_what_all_days_up_to_it_told(spark: SparkSession, config: FactConfig) -> None:
    days = [0, 1, 3, 5]  # what a day in between told counts from the next one on
    built = facts(spark, config, None, TOLD, days)
    # The second half from the first one's last day.
    early = {n: rows for n, rows in TOLD.items() if n <= 1}
    late = {n: rows for n, rows in TOLD.items() if n > 1}
    first = facts(spark, config, None, early, [0, 1])
    second = facts(spark, config, first.where(first["_partition_date"] == day(1)), late, [3, 5])
    for number in days:
        expected = naive_states(config, TOLD, number)
        rows = found(built, config, number)
        assert sorted(map(str, rows)) == sorted(map(str, expected))
        if number > 1:
            assert sorted(map(str, found(second, config, number))) == sorted(map(str, rows))


def test_a_member_is_the_one_that_was_valid_at_the_days_end(spark: SparkSession) -> None:
    config = CHANGES.model_copy(
        update={
            "dimensions": FactConfig.model_validate(
                {
                    **CHANGES.model_dump(),
                    "dimensions": [{"dimension": "dim_shop", "natural_key": {"shop": "shop"}}],
                }
            ).dimensions
        }
    )
    versions = spark.createDataFrame(
        [
            (10, "a", datetime(1900, 1, 1), datetime(2017, 1, 2, 23, 59, 59)),
            (11, "a", datetime(2017, 1, 2, 23, 59, 59), datetime(2017, 1, 4)),
            (12, "a", datetime(2017, 1, 4), None),
        ],
        "shop_key bigint, shop string, valid_from timestamp_ntz, valid_to timestamp_ntz",
    )
    told = state_changes(None, processed(spark, {0: [Row("a", 1)]}), config, ENTITY)
    rows = states(told, [day(n) for n in range(4)], config, ENTITY)
    built = build_fact(rows, config, ENTITY, {"dim_shop": (DIMENSION, versions)})
    keys = {row["date_key"]: row["shop_key"] for row in built.collect()}
    assert keys == {20170101: 10, 20170102: 11, 20170103: 11, 20170104: 12}


def test_a_sum_of_many_values_has_room_for_them(sail: SparkSession) -> None:
    rows = [Row("a", n, 2**31 - 1, "9999999999.99") for n in range(3)]
    [(_, pieces, worth)] = found(facts(sail, MOVEMENTS, None, {0: rows}, [0]), MOVEMENTS, 0)
    assert (pieces, worth) == (3 * (2**31 - 1), Decimal("29999999999.97"))


def test_a_level_says_that_days_are_not_added_up() -> None:
    delivered = FactConfig.model_validate(
        {**CHANGES.model_dump(), "snapshot_of": "states", "additive": ["worth"]}
    )
    schema = fact_schema(delivered, ENTITY, {})
    assert "over all dimensions but the date" in schema.column("pieces").description
    assert "over everything but days" not in schema.column("worth").description


@pytest.mark.parametrize(
    ("now", "first"),
    [
        (TOLD, None),
        ({**TOLD, 0: [*reversed(TOLD[0])]}, None),
        ({**TOLD, 2: [Row("b", 1, None, "9.99")]}, 2),
        ({**TOLD, 1: [Row("c", 1)], 4: []}, 1),
        ({**TOLD, 2: [*TOLD[2], TOLD[2][0]]}, 2),
    ],
)
def test_what_changes_a_state_is_found_by_its_first_day(
    sail: SparkSession, now: Days, first: int | None
) -> None:
    before, after = processed(sail, TOLD), processed(sail, now)
    changed = first_change(before, after, CHANGES, ENTITY)
    assert changed == (None if first is None else day(first))


def test_a_sum_of_movements_is_right_or_unknown(spark: SparkSession) -> None:
    columns = [
        {"name": "shop", "type": "string"},
        {"name": "sku", "type": "bigint"},
        {"name": "pieces", "type": "bigint"},
    ]
    entity = FileEntity.model_validate(
        {**ENTITY.model_dump(exclude_unset=True), "columns": columns}
    )
    config = MOVEMENTS.model_copy(update={"measures": ("pieces",)})
    half = 2**62
    rows = [("a", half), ("a", half), ("a", -half), ("b", half), ("b", half), ("c", None)]
    stamp = datetime(2017, 6, 1, tzinfo=UTC)
    more = {"_captured_at": stamp, "_processed_at": stamp, "_partition_date": day(0)}
    lines = [
        {"shop": shop, "sku": n, "pieces": pieces, "_source_position": n, **more}
        for n, (shop, pieces) in enumerate(rows)
    ]
    schema = processed_schema(entity)
    told = frame(spark, pa.Table.from_pylist(lines, schema.arrow()), schema)
    found = states(state_changes(None, told, config, entity), [day(0), day(1)], config, entity)
    sums = {(row["shop"], row["_partition_date"]): row["pieces"] for row in found.collect()}
    expected = {"a": half, "b": None, "c": None}
    assert sums == {(shop, day(n)): expected[shop] for shop in expected for n in (0, 1)}
