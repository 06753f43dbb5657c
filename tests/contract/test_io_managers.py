"""What every store's IO manager promises, through runs of Dagster."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal

import dagster as dg
import pyarrow as pa
import pytest

from headrace.schema import Column, TableSchema
from tests.contract.stores import DAY, PartitionStore, Row, arrow_rows

pytestmark = [
    pytest.mark.contract,
    # Dagster 1.13 calls its own deprecated property for every nested resource.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

DAYS = dg.DailyPartitionsDefinition("2017-01-01", end_date="2018-01-02")
SALES = TableSchema(
    (Column("sale", "bigint"), Column("amount", "decimal(10,2)"), Column(DAY, "date"))
)


def day(number: int) -> date:
    return date.fromordinal(date(2017, 1, 1).toordinal() + number)


def sales(on: date, count: int) -> list[Row]:
    return [{"sale": n, "amount": Decimal("1.50"), DAY: on} for n in range(count)]


def upstream(
    store: PartitionStore, rows: Mapping[date, Sequence[Row]], schema: TableSchema = SALES
) -> dg.AssetsDefinition:
    """An asset that gives back the rows of its run's days."""

    @dg.asset(
        key=dg.AssetKey(list(store.key)),
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata=dict(store.metadata),
        retry_policy=dg.RetryPolicy(max_retries=1),
    )
    def asset(context: dg.AssetExecutionContext) -> pa.Table:
        wanted = [date.fromisoformat(key) for key in context.partition_keys]
        return arrow_rows([row for on in wanted for row in rows.get(on, [])], schema)

    return asset


class Reader:
    """An asset of Dagster's own storage that keeps what it was given."""

    def __init__(self, store: PartitionStore, partitions: dg.PartitionsDefinition | None) -> None:
        self.rows: list[Row] = []

        @dg.asset(
            ins={"table": dg.AssetIn(dg.AssetKey(list(store.key)))},
            partitions_def=partitions,
            backfill_policy=dg.BackfillPolicy.single_run() if partitions else None,
        )
        def reader(table: pa.Table) -> None:
            self.rows = sorted(table.to_pylist(), key=lambda row: (row[DAY], row["sale"]))

        self.asset = reader


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def run(
    store: PartitionStore,
    assets: Sequence[dg.AssetsDefinition | dg.AssetSpec],
    days: Sequence[date],
    instance: dg.DagsterInstance | None = None,
    *,
    raise_on_error: bool = True,
) -> dg.ExecuteInProcessResult:
    """One run: of a partition by its key, of several by the tags of a range."""
    tags = {
        "dagster/asset_partition_range_start": days[0].isoformat(),
        "dagster/asset_partition_range_end": days[-1].isoformat(),
    }
    single = len(days) == 1
    return dg.materialize(
        list(assets),
        resources={"io_manager": store.io_manager()},
        partition_key=days[0].isoformat() if single else None,
        tags=None if single else tags,
        instance=instance,
        raise_on_error=raise_on_error,
    )


def stored(store: PartitionStore) -> list[Row]:
    return sorted(store.read().to_pylist(), key=lambda row: (row[DAY], row["sale"]))


def test_a_run_of_one_partition_publishes_and_reads_its_day(store: PartitionStore) -> None:
    rows = {day(n): sales(day(n), 2) for n in range(3)}
    reader = Reader(store, DAYS)
    assert run(store, [upstream(store, rows), reader.asset], [day(1)]).success
    assert stored(store) == rows[day(1)]
    assert reader.rows == rows[day(1)]


def test_a_run_of_a_range_publishes_and_reads_all_of_its_days(
    store: PartitionStore, instance: dg.DagsterInstance
) -> None:
    days = [day(n) for n in range(31)]
    rows = {on: sales(on, 2) for on in days}
    reader = Reader(store, DAYS)
    assert run(store, [upstream(store, rows), reader.asset], days, instance).success
    assert reader.rows == [row for on in days for row in rows[on]]
    key = dg.AssetKey(list(store.key))
    assert len(instance.get_materialized_partitions(key)) == len(days)


def test_a_range_gives_the_table_that_its_days_give_one_by_one(store: PartitionStore) -> None:
    days = [day(n) for n in range(3)]
    asset = upstream(store, {on: sales(on, number) for number, on in enumerate(days)})
    run(store, [asset], days)
    at_once = stored(store)
    for on in days:
        run(store, [asset], [on])
    assert stored(store) == at_once
    assert len(at_once) == 3


def test_a_day_without_rows_is_published_as_empty(store: PartitionStore) -> None:
    days = [day(0), day(1), day(2)]
    run(store, [upstream(store, {on: sales(on, 2) for on in days})], days)
    run(store, [upstream(store, {day(0): sales(day(0), 1)})], days[:2])
    assert stored(store) == [*sales(day(0), 1), *sales(day(2), 2)]


def test_a_later_run_reads_what_an_earlier_one_published(
    store: PartitionStore, instance: dg.DagsterInstance
) -> None:
    days = [day(n) for n in range(4)]
    source = upstream(store, {on: sales(on, 1) for on in days})
    run(store, [source], days, instance)
    some, whole = Reader(store, DAYS), Reader(store, None)
    selection = [dg.AssetSpec(source.key, partitions_def=DAYS, metadata=dict(store.metadata))]
    assert run(store, [*selection, some.asset], days[1:3], instance).success
    assert some.rows == [row for on in days[1:3] for row in sales(on, 1)]
    dg.materialize(
        [*selection, whole.asset], resources={"io_manager": store.io_manager()}, instance=instance
    )
    assert whole.rows == [row for on in days for row in sales(on, 1)]


def test_rows_of_a_day_that_is_not_in_the_run_are_refused(
    store: PartitionStore, instance: dg.DagsterInstance
) -> None:
    run(store, [upstream(store, {day(0): sales(day(0), 1)})], [day(0)], instance)
    stray = upstream(store, {day(0): [*sales(day(0), 3), *sales(day(5), 1)]})
    result = run(store, [stray], [day(0)], instance, raise_on_error=False)
    assert not result.success
    assert "2017-01-06" in failure(result)
    assert stored(store) == sales(day(0), 1)


def test_an_incompatible_type_fails_the_step_once_and_names_the_column(
    store: PartitionStore, instance: dg.DagsterInstance
) -> None:
    run(store, [upstream(store, {day(0): sales(day(0), 1)})], [day(0)], instance)
    other = TableSchema((Column("sale", "string"), *SALES.without("sale")))
    asset = upstream(store, {day(0): [{"sale": "a", DAY: day(0)}]}, other)
    result = run(store, [asset], [day(0)], instance, raise_on_error=False)
    for named in (store.key[-1], "'sale'", "bigint", "string", "hint: "):
        assert named in failure(result)
    assert not [event for event in result.all_events if event.is_step_restarted]
    assert stored(store) == sales(day(0), 1)


def test_a_new_column_is_null_in_days_published_before(store: PartitionStore) -> None:
    run(store, [upstream(store, {day(0): sales(day(0), 1)})], [day(0)])
    wider = SALES.plus([Column("shop", "string")])
    new = [{**sales(day(1), 1)[0], "shop": "north"}]
    run(store, [upstream(store, {day(1): new}, wider)], [day(1)])
    assert stored(store) == [{**sales(day(0), 1)[0], "shop": None}, *new]


def test_runs_at_the_same_time_lose_no_day(store: PartitionStore) -> None:
    days = [day(n) for n in range(6)]
    asset = upstream(store, {on: sales(on, 2) for on in days})
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda on: run(store, [asset], [on]), days))
    assert all(result.success for result in results)
    assert stored(store) == [row for on in days for row in sales(on, 2)]


def unpartitioned(store: PartitionStore, rows: Sequence[Row]) -> dg.AssetsDefinition:
    @dg.asset(key=dg.AssetKey(list(store.key)))
    def asset() -> pa.Table:
        return arrow_rows(rows, SALES)

    return asset


def test_an_asset_without_partitions_replaces_its_whole_table(store: PartitionStore) -> None:
    for count in (5, 2, 0):
        reader = Reader(store, None)
        assets = [unpartitioned(store, sales(day(0), count)), reader.asset]
        assert dg.materialize(assets, resources={"io_manager": store.io_manager()}).success
        assert reader.rows == sales(day(0), count)


def failure(result: dg.ExecuteInProcessResult) -> str:
    data = result.get_step_failure_events()[0].step_failure_data
    assert data.error is not None
    return data.error.to_string()
