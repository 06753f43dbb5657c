"""The Postgres IO manager: forms of values, declarations, groups and recorders.

What it shares with other stores is in tests/contract.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd  # noqa: TID251 - a form in which assets give and want rows
import pyarrow as pa
import pytest

from headrace.embedded_postgres import server
from headrace.ledger.ledger import Ledger
from headrace.ledger.records import PartitionRecord
from headrace.warehouse.loading.load_transaction import GroupMember, LoadGroup, LoadResult
from headrace.warehouse.sessions import Session, connection_factory
from headrace.warehouse.warehouse import Warehouse
from io_managers.postgres import PostgresIOManager
from resources.warehouse import WarehouseResource
from tests.warehouse.sales import FACT, PRODUCT, arrow, day, published, sale, sales, stage

pytestmark = pytest.mark.filterwarnings(
    # Dagster 1.13 calls its own deprecated property for every nested resource.
    "ignore:InitResourceContext.dagster_run is deprecated"
)

DAYS = dg.DailyPartitionsDefinition("2017-01-01", end_date="2018-01-02")
FACT_METADATA = {"partition_by": "date_key", "indexes": ["product_key"]}


@dataclass
class Recorder:
    """Writes to the ledger in the transaction, and fails on request."""

    ledger: Ledger
    fails: bool = False
    told: Mapping[str, LoadResult] | None = None
    error: Exception | None = None

    def publishing(
        self,
        context: dg.OutputContext,
        output: object,
        session: Session,
        publications: Mapping[str, LoadResult],
    ) -> None:
        del output, publications
        name = context.asset_key.path[-1]
        self.ledger.record_in(session, [PartitionRecord(name, None, "published", context.run_id)])
        if self.fails:
            raise LookupError

    def published(
        self, context: dg.OutputContext, output: object, publications: Mapping[str, LoadResult]
    ) -> None:
        del context, output
        self.told = publications

    def failed(self, context: dg.OutputContext, output: object, error: Exception) -> None:
        del context, output
        self.error = error


def run(
    assets: Sequence[dg.AssetsDefinition],
    url: str,
    *,
    days: Sequence[date] | None = None,
    recorder: Recorder | None = None,
    raise_on_error: bool = True,
) -> dg.ExecuteInProcessResult:
    manager = PostgresIOManager(
        warehouse=WarehouseResource(url=url),
        recorder=dg.ResourceDefinition.hardcoded_resource(recorder) if recorder else None,
    )
    tags = None
    if days:
        tags = {
            "dagster/asset_partition_range_start": days[0].isoformat(),
            "dagster/asset_partition_range_end": days[-1].isoformat(),
        }
    return dg.materialize(
        list(assets),
        resources={"io_manager": manager},
        tags=tags,
        raise_on_error=raise_on_error,
    )


def fact_asset(value: object) -> dg.AssetsDefinition:
    @dg.asset(
        key=["warehouse", "fact_sales"],
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata=FACT_METADATA,
    )
    def fact() -> Any:
        return value

    return fact


def whole_asset(value: object, **metadata: object) -> dg.AssetsDefinition:
    @dg.asset(key=["warehouse", "dim_product"], metadata=metadata)
    def dimension() -> Any:
        return value

    return dimension


@dataclass
class Scan:
    """Rows by day, as a lake gives them."""

    rows: pa.Table
    days: tuple[date, ...]
    schema = FACT.schema

    def batches(
        self, days: Sequence[date] | None = None, columns: Sequence[str] | None = None
    ) -> pa.RecordBatchReader:
        keys = [FACT.partition_value(on) for on in days or self.days]
        found = self.rows.filter(pa.compute.is_in(self.rows["date_key"], pa.array(keys)))
        return found.select(list(columns or self.schema.names)).to_reader()


@pytest.mark.parametrize("form", ["table", "reader", "pandas", "scan"])
def test_every_form_of_rows_publishes_the_days_of_the_run(
    url: str, session: Session, form: str
) -> None:
    days = [day(n) for n in range(4)]
    rows = arrow(FACT, [*sales(day(0), 2), *sales(day(3), 1)])
    value = {
        "table": rows,
        "reader": rows.to_reader(),
        "pandas": rows.to_pandas(),
        "scan": Scan(rows, tuple(days)),
    }[form]
    everything = [row for on in days for row in sales(on, 3)]
    run([fact_asset(arrow(FACT, everything))], url, days=days)
    assert len(published(session)) == 12
    run([fact_asset(value)], url, days=days)
    assert [(key, amount) for key, _, amount in published(session)] == [
        (20170130, "1.00"),
        (20170130, "1.00"),
        (20170202, "1.00"),
    ]


@pytest.mark.parametrize("kind", [pa.Table, pa.RecordBatchReader, pd.DataFrame])
def test_an_input_comes_in_the_form_that_its_annotation_says(url: str, kind: type) -> None:
    got: list[object] = []

    def reader(dim_product: Any) -> None:
        got.append(dim_product)
        if isinstance(dim_product, pa.RecordBatchReader):
            got.append(dim_product.read_all())

    reader.__annotations__["dim_product"] = kind
    consumer = dg.asset(ins={"dim_product": dg.AssetIn(["warehouse", "dim_product"])})(reader)
    rows = pa.table({"product_key": pa.array([1, 2], pa.int64())})
    run([whole_asset(rows), consumer], url)
    assert isinstance(got[0], kind)
    found = got[-1] if isinstance(got[-1], pa.Table) else pa.Table.from_pandas(got[-1])
    assert found["product_key"].to_pylist() == [1, 2]


def test_other_values_and_annotations_are_refused_by_what_would_do(url: str) -> None:
    with pytest.raises(TypeError, match=r"cannot publish a dict: return pa\.Table"):
        run([whole_asset({"a": 1})], url)

    @dg.asset(ins={"dim_product": dg.AssetIn(["warehouse", "dim_product"])})
    def consumer(dim_product: dict) -> None:  # type: ignore[type-arg]
        del dim_product

    rows = pa.table({"product_key": [1]})
    with pytest.raises(TypeError, match="annotate 'dim_product'"):
        run([whole_asset(rows), consumer], url)


def test_metadata_declares_table_key_indexes_and_mode(url: str, session: Session) -> None:
    rows = pa.table({"a": [1, 2], "b": ["x", "y"], "c": [3, 4]})
    asset = whole_asset(
        rows, table="shop.things", primary_key=["a", "b"], indexes=["c", ["b", "c"]]
    )
    result = run([asset], url)
    indexed = session.execute(
        "select indexdef from pg_indexes where schemaname = 'shop' order by indexname"
    ).fetchall()
    assert [definition.split(" USING btree ")[1] for (definition,) in indexed] == [
        "(b, c)",
        "(c)",
        "(a, b)",
    ]
    again = run([asset], url)
    for outcome, inserted in ((result, 2), (again, 0)):
        (event,) = outcome.asset_materializations_for_node("warehouse__dim_product")
        assert event.metadata["rows_inserted"].value == inserted
        assert event.metadata["table"].value == "shop.things"


def test_a_declaration_that_cannot_work_fails_once_and_says_why(url: str) -> None:
    result = run([whole_asset(pa.table({"a": [1]}), primary_key="b")], url, raise_on_error=False)
    data = result.get_step_failure_events()[0].step_failure_data
    assert data.error is not None
    assert "has no column b" in data.error.to_string()
    assert "hint: use columns of a" in data.error.to_string()


def test_a_recorder_writes_with_the_publication_or_not_at_all(url: str, session: Session) -> None:
    recorder = Recorder(Ledger(connection_factory(url)))
    days = [day(0), day(1)]
    run([fact_asset(arrow(FACT, sales(day(0), 2)))], url, days=days, recorder=recorder)
    assert recorder.told is not None
    assert recorder.told["fact_sales"].rows_inserted == 2
    (state,) = recorder.ledger.states("fact_sales").values()
    recorder.fails = True
    rows = arrow(FACT, sales(day(1), 5))
    failed = run([fact_asset(rows)], url, days=days, recorder=recorder, raise_on_error=False)
    assert not failed.success
    # What nobody foresaw is told, too.
    assert isinstance(recorder.error, LookupError)
    assert len(published(session)) == 2
    assert recorder.ledger.states("fact_sales")[None] == state


@dataclass
class Wrapped:
    """A table of a group, with what a recorder wants to know of it."""

    member: GroupMember


@pytest.mark.parametrize("wraps", [False, True])
def test_a_group_is_published_when_its_last_table_is_handed_over(
    url: str, warehouse: Warehouse, session: Session, *, wraps: bool
) -> None:
    seen: list[bool] = []

    def is_visible() -> bool:
        row = session.execute("select to_regclass('warehouse.fact_sales') is not null").fetchone()
        assert row is not None
        return bool(row[0])

    @dg.multi_asset(
        outs={
            "dim_product": dg.AssetOut(key=["warehouse", "dim_product"]),
            "fact_sales": dg.AssetOut(key=["warehouse", "fact_sales"]),
            "unchanged": dg.AssetOut(key=["warehouse", "unchanged"]),
        }
    )
    def star() -> Any:
        products = arrow(PRODUCT, [{"product_key": 0, "brand": "a"}])
        loads = {
            "dim_product": warehouse.stage(PRODUCT, (), [((), products.to_reader())]),
            "fact_sales": stage(warehouse, {day(0): [sale(day(0), 0)]}),
        }
        names = ["dim_product", "fact_sales", "unchanged"]
        group = LoadGroup(warehouse.connect, names, loads)
        for name in names:
            seen.append(is_visible())
            member = group.member(name)
            yield dg.Output(Wrapped(member) if wraps else member, output_name=name)

    recorder = Recorder(Ledger(connection_factory(url)))
    run([star], url, recorder=recorder)
    assert seen == [False, False, False]
    assert is_visible()
    assert recorder.told is not None
    assert set(recorder.told) == {"dim_product", "fact_sales"}
    assert [summary.asset for summary in recorder.ledger.summary()] == ["unchanged"]


def test_an_embedded_server_starts_with_the_first_publication(tmp_path: Path) -> None:
    folder = tmp_path / "pg"
    resource = WarehouseResource(embedded=str(folder))
    manager = PostgresIOManager(warehouse=resource)
    assert not folder.exists()
    try:
        rows = pa.table({"product_key": pa.array([1, 2], pa.int64())})
        dg.materialize([whole_asset(rows)], resources={"io_manager": manager})
        assert server.find(folder) is not None
        assert resource.warehouse().read("warehouse", "dim_product").read_all() == rows
    finally:
        server.stop(folder)
