"""What the Iceberg IO manager takes and gives beyond the contract of all stores."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import date
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pandas as pd  # noqa: TID251  # the IO manager takes and gives its frames
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from headrace.lake.commit import Commit
from headrace.lake.scan import LakeScan
from headrace.lake.storage import LakeSettings
from headrace.lake.table import LakeTable
from headrace.quality.registry import ROW_COUNT
from headrace.quality.report import AuditedTable, CheckResult, PartitionReport
from headrace.staged import StagedPartition, StagedPartitions, StagedTable
from io_managers.iceberg import IcebergIOManager
from resources.lake import LakeResource
from tests.lake.writing import SALES, day, numbers, publish, sales, stage, write_file

# Dagster 1.13 calls its own deprecated property for every nested resource.
pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated")

DAYS = dg.DailyPartitionsDefinition("2017-01-01", end_date="2017-02-01")
WEEK = [day(n) for n in range(7)]


@pytest.fixture
def resource(settings: LakeSettings) -> LakeResource:
    return LakeResource.of(settings)


def key_of(table: LakeTable) -> dg.AssetKey:
    return dg.AssetKey(table.name.split("."))


def materialize(
    assets: list[dg.AssetsDefinition], manager: IcebergIOManager, days: Collection[date] = ()
) -> dg.ExecuteInProcessResult:
    tags = {
        "dagster/asset_partition_range_start": min(days, default=day(0)).isoformat(),
        "dagster/asset_partition_range_end": max(days, default=day(0)).isoformat(),
    }
    return dg.materialize(
        assets,
        resources={"io_manager": manager},
        tags=tags if days else None,
        raise_on_error=False,
    )


def source(table: LakeTable, value: Callable[[], object]) -> dg.AssetsDefinition:
    """A partitioned asset that gives back what `value` returns."""

    @dg.asset(
        key=key_of(table),
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def asset() -> object:
        return value()

    return asset


def reader(
    key: dg.AssetKey, annotation: object, take: Callable[[Any], None], name: str = "reader"
) -> dg.AssetsDefinition:
    """An asset that gives its input, annotated as said, to `take`."""

    def compute(rows):  # type: ignore[no-untyped-def]
        take(rows)

    compute.__annotations__ = {"rows": annotation, "return": None}
    return dg.asset(
        name=name,
        ins={"rows": dg.AssetIn(key)},
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )(compute)


def failure(result: dg.ExecuteInProcessResult) -> str:
    data = result.get_step_failure_events()[0].step_failure_data
    assert data.error is not None
    return data.error.to_string()


def numbers_in(rows: pa.Table) -> list[int]:
    found: list[int] = rows.column("sale").to_pylist()
    return found


def rows_of(days: Collection[date]) -> pa.Table:
    return pa.concat_tables([sales(on, [on.day]) for on in days])


@pytest.mark.parametrize("form", ["table", "reader", "pandas", "spark", "staged"])
def test_every_form_of_rows_is_published(
    form: str, table: LakeTable, resource: LakeResource, request: pytest.FixtureRequest
) -> None:
    rows = rows_of(WEEK[:3])

    def value() -> object:
        if form == "spark":
            spark: SparkSession = request.getfixturevalue("spark")
            return spark.createDataFrame(rows)
        staged = stage(table, {on: rows_of([on]) for on in WEEK[:3]})
        return {
            "table": rows,
            "reader": rows.to_reader(max_chunksize=2),
            "pandas": rows.to_pandas(),
            "staged": StagedPartitions(SALES, staged, properties={"our.run": "r1"}),
        }[form]

    result = materialize([source(table, value)], IcebergIOManager(lake=resource), WEEK[:3])
    assert result.success
    assert numbers(table) == [1, 2, 3]
    assert table.schema() == SALES
    properties = table.snapshot_properties()
    assert properties.get("our.run", properties.get("dagster.run_id")) in {"r1", result.run_id}


def test_every_annotation_gets_its_form(
    table: LakeTable, resource: LakeResource, spark: SparkSession
) -> None:
    # How each form is read, and into what it must come.
    forms: dict[str, tuple[object, Callable[[Any], list[int]]]] = {
        "scan": (LakeScan, lambda scan: numbers_in(scan.batches().read_all())),
        "table": (pa.Table, numbers_in),
        "reader": (pa.RecordBatchReader, lambda batches: numbers_in(batches.read_all())),
        "pandas": (pd.DataFrame, lambda frame: frame["sale"].tolist()),
        "spark": (DataFrame, lambda frame: sorted(row["sale"] for row in frame.collect())),
    }
    got: dict[str, list[int]] = {}

    def taking(form: str) -> Callable[[Any], None]:
        return lambda rows: got.update({form: forms[form][1](rows)})

    readers = [
        reader(key_of(table), annotation, taking(form), name=f"as_{form}")
        for form, (annotation, _) in forms.items()
    ]
    manager = IcebergIOManager(lake=resource, spark=SimpleNamespace(spark_session=spark))
    result = materialize([source(table, lambda: rows_of(WEEK)), *readers], manager, WEEK)
    assert result.success
    assert got == {form: [1, 2, 3, 4, 5, 6, 7] for form in forms}


def test_an_input_without_a_known_annotation_is_refused_by_name(
    table: LakeTable, resource: LakeResource
) -> None:
    untyped = reader(key_of(table), int, lambda _: None)
    assets = [source(table, lambda: rows_of(WEEK[:1])), untyped]
    result = materialize(assets, IcebergIOManager(lake=resource), WEEK[:1])
    assert "annotate 'rows'" in failure(result)


def test_a_value_that_is_no_rows_is_refused(table: LakeTable, resource: LakeResource) -> None:
    manager = IcebergIOManager(lake=resource)
    result = materialize([source(table, lambda: [1, 2])], manager, WEEK[:1])
    assert "cannot publish a list" in failure(result)
    assert not table.exists()


def test_metadata_names_the_table_and_its_partition_column(
    table: LakeTable, resource: LakeResource
) -> None:
    rows = rows_of(WEEK[:2]).rename_columns(["sale", "shop", "sold_on"])
    asset = dg.asset(
        key="anything",
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata={"table": table.name, "partition_by": "sold_on"},
    )(lambda: rows)
    got: list[date] = []
    taking = reader(asset.key, pa.Table, lambda rows: got.extend(rows["sold_on"].to_pylist()))
    manager = IcebergIOManager(lake=resource)
    assert "not partitions of this run" in failure(materialize([asset], manager, WEEK[:1]))
    assert materialize([asset, taking], manager, WEEK[:2]).success
    assert got == WEEK[:2]
    loaded = table.load()
    assert loaded is not None
    assert [f.name for f in loaded.spec().fields] == ["sold_on"]


def test_a_staged_table_replaces_the_whole_even_in_a_run_of_partitions(
    table: LakeTable, resource: LakeResource
) -> None:
    write_file(table, "t/a.parquet", sales(day(0), [1, 2]))
    staged = StagedTable(SALES, table.staged_files("t"))
    got: list[int] = []
    taking = reader(key_of(table), LakeScan, lambda scan: got.append(scan.total_rows))
    assets = [source(table, lambda: staged), taking]
    assert materialize(assets, IcebergIOManager(lake=resource), WEEK).success
    assert got == [2]


def held_output(table: LakeTable, held: Collection[date]) -> StagedPartitions:
    good = [on for on in WEEK if on not in held]
    staged = stage(table, {on: sales(on, [100 + on.day]) for on in good})
    return StagedPartitions(
        SALES, staged, held=dict.fromkeys(held, "row_count: expected 1, found 0")
    )


def test_held_days_keep_their_state_and_fail_the_step_after_the_good_ones_are_published(
    table: LakeTable, resource: LakeResource
) -> None:
    publish(table, {on: [on.day] for on in WEEK})
    asset = source(table, lambda: held_output(table, WEEK[2:4]))
    result = materialize([asset], IcebergIOManager(lake=resource), WEEK)
    assert not result.success
    for named in ("2 days are held", str(WEEK[2]), str(WEEK[3]), "expected 1, found 0"):
        assert named in failure(result)
    assert numbers(table) == [3, 4, 101, 102, 105, 106, 107]


def test_a_run_whose_days_are_all_held_commits_nothing(
    table: LakeTable, resource: LakeResource
) -> None:
    publish(table, {on: [on.day] for on in WEEK})
    before = table.current_snapshot_id()
    asset = source(table, lambda: held_output(table, WEEK))
    assert not materialize([asset], IcebergIOManager(lake=resource), WEEK).success
    assert table.current_snapshot_id() == before


@dataclass
class Recorder:
    calls: list[tuple[dg.AssetKey, StagedPartitions | StagedTable, Commit | None]] = field(
        default_factory=list
    )

    def publish(
        self,
        context: dg.OutputContext,
        output: StagedPartitions | StagedTable,
        commit: Callable[[StagedPartitions | StagedTable], Commit | None],
    ) -> Commit | None:
        done = commit(output)
        self.calls.append((context.asset_key, output, done))
        return done


def test_a_recorder_commits_and_decides_about_held_days(
    table: LakeTable, resource: LakeResource
) -> None:
    recorder = Recorder()
    manager = IcebergIOManager(lake=resource, recorder=recorder)
    result = materialize([source(table, lambda: held_output(table, WEEK[:1]))], manager, WEEK)
    assert result.success
    [(key, output, commit)] = recorder.calls
    assert key == key_of(table)
    assert isinstance(output, StagedPartitions)
    assert list(output.held) == WEEK[:1]
    assert commit is not None
    assert commit.snapshot_id == table.current_snapshot_id()
    assert commit.days == tuple(WEEK[1:])


class Gate:
    def readable(self, key: dg.AssetKey, days: Collection[date]) -> Collection[date]:
        assert key.path[-1] == "sales"
        return {on for on in days if on != WEEK[1]}


def test_a_gate_keeps_days_from_being_read(table: LakeTable, resource: LakeResource) -> None:
    got: list[date] = []
    taking = reader(key_of(table), LakeScan, lambda scan: got.extend(scan.days))
    manager = IcebergIOManager(lake=resource, gate=Gate())
    assets = [source(table, lambda: rows_of(WEEK[:3])), taking]
    assert materialize(assets, manager, WEEK[:3]).success
    assert got == [WEEK[0], WEEK[2]]


def test_the_metadata_of_a_run_is_short_and_names_the_snapshot(
    table: LakeTable, resource: LakeResource
) -> None:
    asset = source(table, lambda: rows_of(WEEK[:2]))
    result = materialize([asset], IcebergIOManager(lake=resource), WEEK)
    events = result.get_asset_materialization_events()
    assert len(events) == len(WEEK)
    metadata = events[0].materialization.metadata
    assert metadata["snapshot_id"].value == str(table.current_snapshot_id())
    assert (metadata["days"].value, metadata["rows"].value) == (7, 2)


def test_reading_a_table_that_nobody_published_fails_by_name(
    table: LakeTable, resource: LakeResource
) -> None:
    upstream = dg.AssetSpec("rows", metadata={"table": table.name}, partitions_def=DAYS)
    result = dg.materialize(
        [upstream, reader(upstream.key, pa.Table, lambda _: None)],
        resources={"io_manager": IcebergIOManager(lake=resource)},
        partition_key=str(WEEK[0]),
        raise_on_error=False,
    )
    assert f"{table.name} does not exist" in failure(result)


def test_an_append_adds_to_the_days_and_an_empty_day_leaves_them(
    table: LakeTable, resource: LakeResource
) -> None:
    publish(table, {WEEK[0]: [1], WEEK[1]: [2]})
    staged = {**stage(table, {WEEK[0]: sales(WEEK[0], [9])}), WEEK[1]: StagedPartition(WEEK[1])}
    asset = source(table, lambda: StagedPartitions(SALES, staged, mode="append"))
    assert materialize([asset], IcebergIOManager(lake=resource), WEEK[:2]).success
    assert numbers(table) == [1, 2, 9]


def test_a_whole_table_that_fails_its_audit_is_not_published(
    table: LakeTable, resource: LakeResource
) -> None:
    table.overwrite([], schema=SALES)
    before = table.current_snapshot_id()
    bad = PartitionReport(
        WEEK[0], checks=(CheckResult(ROW_COUNT, passed=False, expected="1", found="2"),)
    )

    @dg.asset(key=key_of(table))
    def whole() -> AuditedTable:
        return AuditedTable(SALES, (), reports={WEEK[0]: bad})

    resources = {"io_manager": IcebergIOManager(lake=resource)}
    assert not dg.materialize([whole], resources=resources, raise_on_error=False).success
    assert table.current_snapshot_id() == before
