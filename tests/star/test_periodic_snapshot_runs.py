"""Snapshots that follow from day to day, in a real lake: no order of runs makes a difference."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from headrace.config.star.models import DimensionConfig, FactConfig
from headrace.lake.catalog import LakeCatalog
from headrace.lake.staging import stage_batches
from headrace.lake.storage import LakeSettings
from headrace.lake.table import LakeTable
from headrace.pipeline.curated.facts import AuditedFact, FactStep
from headrace.pipeline.curated.periodic_snapshots import PeriodicSnapshotStep
from headrace.quality.report import passed_days
from headrace.schema import PARTITION_COLUMN
from headrace.staged import StagedPartition, new_token
from headrace.standardize.schemas import processed_schema
from headrace.star.facts import STATE_DATE, lake_fact_schema
from headrace.star.scd2.dimensions import lake_dimension_schema
from tests import servers
from tests.star.naive_snapshots import (
    CHANGES,
    ENTITY,
    MOVEMENTS,
    Row,
    State,
    day,
    naive_states,
    processed_table,
    shown,
)

DIMENSION = DimensionConfig.model_validate(
    {
        "name": "dim_shop",
        "entity": "s.stock",
        "natural_key": {"shop": "shop"},
        "missing": "refuse",
    }
)
KEYED = FactConfig.model_validate(
    {
        **MOVEMENTS.model_dump(),
        "dimensions": [{"dimension": "dim_shop", "natural_key": {"shop": "shop"}}],
    }
)
A, B, C = Row("a", 1, 5, "1.50"), Row("a", 1, 2, "0.50"), Row("b", 9, 1, "7.00")


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[LakeCatalog]:
    catalog = LakeCatalog(LakeSettings(servers.postgres().uri("lake"), str(tmp_path / "lake")))
    yield catalog
    catalog.close()


@dataclass
class Shop:
    """A published entity and the snapshot that is made from it."""

    spark: SparkSession
    config: FactConfig
    processed: LakeTable
    fact: LakeTable
    dimensions: Mapping[str, tuple[DimensionConfig, LakeTable]]
    told: dict[int, Sequence[Row]] = field(default_factory=dict)
    published: set[date] = field(default_factory=set)

    @classmethod
    def of(cls, spark: SparkSession, lake: LakeCatalog, config: FactConfig) -> "Shop":
        namespace = f"n_{uuid4().hex[:12]}"
        tables = [lake.table(namespace, name) for name in ("stock", "fact", "dim_shop")]
        dimensions = {join.dimension: (DIMENSION, tables[2]) for join in config.dimensions}
        return cls(spark, config, tables[0], tables[1], dimensions)

    def tell(self, told: dict[int, Sequence[Row]]) -> None:
        """Publish days of the entity."""
        self.told |= told
        token = new_token()
        rows = processed_table(told).to_reader()
        folder = self.processed.staging_uri(token)
        stage_batches(rows, self.processed.storage, folder, partition_column=PARTITION_COLUMN)
        staged = self.processed.staged(token)
        every = {day(n): staged.get(day(n), StagedPartition(day(n))) for n in told}
        self.processed.replace(every, schema=processed_schema(ENTITY))

    def know(self, *versions: tuple[int, datetime, datetime | None]) -> None:
        """Publish the versions of shop a: key, start and end."""
        schema = lake_dimension_schema(DIMENSION, ENTITY)
        names = ("shop_key", "valid_from", "valid_to")
        rows = [{"shop": "a", **dict(zip(names, v, strict=True))} for v in versions]
        _, table = self.dimensions["dim_shop"]
        token = new_token()
        batches = pa.Table.from_pylist(rows, schema=schema.arrow()).to_reader()
        stage_batches(batches, table.storage, table.staging_uri(token), partition_column=None)
        table.overwrite(table.staged_files(token), schema=schema)

    def run(self, *days: int, version: str = "one", bad: Sequence[int] = ()) -> list[int]:
        """Bring days to the snapshot, of which some are held; which published days followed."""
        step = FactStep(self.spark, self.config, ENTITY, self.dimensions, self.fact, 2**20)
        follow = PeriodicSnapshotStep(step, self.processed, self.published, version)
        staged = follow.stage("fact", [day(n) for n in days])
        self._publish(staged, {day(n) for n in bad})
        return [(on - day(0)).days for on in sorted(staged.rekeyed.reports)]

    def states(self) -> dict[int, set[State]]:
        """What is published, by day; a state that is there twice is told."""
        found: dict[int, set[State]] = {(on - day(0)).days: set() for on in self.published}
        for row in self.fact.scan().batches().read_all().to_pylist():
            rows = found[(row[PARTITION_COLUMN] - day(0)).days]
            assert shown(self.config, row) not in rows
            rows.add(shown(self.config, row))
        return found

    def naive(self) -> dict[int, set[State]]:
        days = [(on - day(0)).days for on in self.published]
        return {n: naive_states(self.config, self.told, n) for n in days}

    def _publish(self, staged: AuditedFact, bad: set[date]) -> None:
        reports = {**staged.rekeyed.reports, **staged.days.reports}
        assert {*passed_days(reports)} == {*reports} - bad, [r.why() for r in reports.values()]
        partitions = {**staged.rekeyed.partitions, **staged.days.partitions}
        self.fact.replace(
            {on: partitions[on] for on in passed_days(reports)},
            schema=lake_fact_schema(
                self.config, ENTITY, {name: dim for name, (dim, _) in self.dimensions.items()}
            ),
            properties=staged.read,
        )
        self.published |= {*passed_days(reports)}


@pytest.mark.parametrize("config", [CHANGES, MOVEMENTS], ids=["changes", "movements"])
def test_no_order_of_days_makes_a_difference(
    sail: SparkSession, lake: LakeCatalog, config: FactConfig
) -> None:
    shop = Shop.of(sail, lake, config)
    steps: list[tuple[dict[int, Sequence[Row]], list[int], list[int]]] = [
        ({3: [B]}, [3], []),
        ({4: []}, [4], []),  # nothing moved: the state goes on
        ({0: [A], 1: []}, [0, 1], [3, 4]),  # both days before: they follow
        ({3: [B]}, [3], []),  # the same again
        ({0: [C]}, [0], [1, 3, 4]),  # a corrected file takes a key out of all days
        ({6: [A], 7: [C]}, [6, 7], []),
        ({3: []}, [3], [4, 6, 7]),  # a day removed
        ({2: [A, C]}, [], [3, 4, 6, 7]),  # told, and its own day never asked for
        ({3: [C]}, [], [3, 4, 6, 7]),  # told, and asked for by nobody
    ]
    for told, asked, followed in steps:
        shop.tell(told)
        assert shop.run(*asked) == followed
        assert shop.states() == shop.naive()


@st.composite
def runs(draw: st.DrawFn) -> list[tuple[dict[int, Sequence[Row]], set[int]]]:
    """Some days are told, told again or told otherwise, and some of them are asked for."""
    amounts = st.sampled_from([None, -1, 0, 3])
    keys = st.sampled_from([("a", 1), ("a", 2), ("b", 1)])
    rows = st.dictionaries(keys, amounts, max_size=3).map(
        lambda day: [Row(shop, sku, pieces) for (shop, sku), pieces in day.items()]
    )
    told = st.dictionaries(st.integers(0, 5), rows, min_size=1, max_size=3)
    found: list[tuple[dict[int, Sequence[Row]], set[int]]] = []
    for _ in range(draw(st.integers(1, 5))):
        days: dict[int, Sequence[Row]] = {**draw(told)}
        found.append((days, draw(st.sets(st.sampled_from(sorted({*days, 5}))))))
    return found


@pytest.mark.property
@pytest.mark.slow
@pytest.mark.parametrize("config", [CHANGES, MOVEMENTS], ids=["changes", "movements"])
@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=runs())
def test_no_order_of_many_runs_does(
    sail: SparkSession,
    lake: LakeCatalog,
    config: FactConfig,
    case: list[tuple[dict[int, Sequence[Row]], set[int]]],
) -> None:
    shop = Shop.of(sail, lake, config)
    for told, asked in case:
        shop.tell(told)
        shop.run(*sorted(asked))
        if shop.published:
            assert shop.states() == shop.naive()


def test_a_late_version_moves_the_keys_of_a_balance_that_stays(
    sail: SparkSession, lake: LakeCatalog
) -> None:
    shop = Shop.of(sail, lake, KEYED)
    shop.know((10, datetime(1900, 1, 1), None))
    shop.tell({0: [A]})
    shop.run(0, 1, 2)
    shop.know(
        (10, datetime(1900, 1, 1), datetime(2017, 1, 2, 9)), (11, datetime(2017, 1, 2, 9), None)
    )
    assert shop.run(3) == [1, 2]
    rows = shop.fact.scan().batches().read_all().to_pylist()
    assert {row["date_key"]: row["shop_key"] for row in rows} == {
        20170101: 10,
        20170102: 11,
        20170103: 11,
        20170104: 11,
    }
    assert shop.states() == shop.naive()


def test_a_day_that_is_held_follows_as_soon_as_it_can(
    sail: SparkSession, lake: LakeCatalog
) -> None:
    shop = Shop.of(sail, lake, KEYED)
    shop.know((10, datetime(1900, 1, 1), None))
    shop.tell({1: [A]})
    shop.run(1, 2)
    shop.know((10, datetime(1900, 1, 1), datetime(2017, 1, 2)), (11, datetime(2017, 1, 3), None))
    shop.tell({0: [A]})
    assert shop.run(0, bad=[1]) == [1, 2]  # nobody knows the shop on the second day
    shop.know((10, datetime(1900, 1, 1), None))
    assert shop.run(3) == [0, 1, 2]
    assert shop.states() == shop.naive()


def test_a_day_without_any_state_yet_follows_when_one_is_told(
    sail: SparkSession, lake: LakeCatalog
) -> None:
    shop = Shop.of(sail, lake, MOVEMENTS)
    shop.tell({1: []})
    shop.run(1)
    assert shop.states() == {1: set()}
    shop.tell({0: [A]})
    assert shop.run(0) == [1]
    assert shop.states() == shop.naive()


def test_states_of_another_configuration_are_no_start(
    sail: SparkSession, lake: LakeCatalog
) -> None:
    shop = Shop.of(sail, lake, MOVEMENTS)
    shop.tell({0: [A], 1: [B]})
    shop.run(0)
    assert shop.run(1, version="two") == [0]
    assert shop.states() == shop.naive()


def test_states_without_a_column_that_later_ones_need_are_built_again(
    sail: SparkSession, lake: LakeCatalog
) -> None:
    shop = Shop.of(sail, lake, CHANGES)
    shop.tell({0: [A], 1: [B]})
    shop.run(0)
    published = shop.fact.load()
    assert published is not None
    with published.update_schema() as change:
        change.rename_column(STATE_DATE, "_named_otherwise")  # as an earlier release did
    assert shop.run(1) == [0]
    assert shop.states() == shop.naive()


def test_a_state_that_is_delivered_twice_holds_its_day_and_no_other(
    sail: SparkSession, lake: LakeCatalog
) -> None:
    delivered = FactConfig.model_validate({**MOVEMENTS.model_dump(), "snapshot_of": "states"})
    shop = Shop.of(sail, lake, delivered)
    shop.tell({0: [A, C], 1: [A, Row("a", 2)]})
    days = [day(0), day(1)]
    step = FactStep(sail, delivered, ENTITY, {}, shop.fact, 2**20)
    staged = step.stage("fact", shop.processed.scan(days), days)
    assert passed_days(staged.days.reports) == [day(0)]
    assert staged.days.reports[day(1)].why() == (
        "one_row_a_key: expected one row for each shop, found 1 repeated"
    )
