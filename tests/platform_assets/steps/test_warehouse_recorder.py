"""Two loads of the star at once: the one that staged changes of an older state gives way."""

from uuid import uuid4

import dagster as dg
import pyarrow as pa
import pytest

from headrace.errors import CommitConflictError
from headrace.ledger.build_plan import AssetLineage, BuildPlan, Gate
from headrace.schema import Column, TableSchema
from headrace.warehouse.loading.load_transaction import LoadGroup
from headrace.warehouse.sessions import connection_factory
from headrace.warehouse.tables import WarehouseTable
from headrace.warehouse.warehouse import Warehouse
from platform_assets.steps.recorder import LedgerRecorder
from platform_assets.steps.warehouse_recorder import LakeState, StarPublication, WarehouseRecorder
from resources.warehouse import WarehouseResource
from tests import servers


def test_a_load_whose_base_was_replaced_meanwhile_changes_nothing() -> None:
    url = servers.postgres().uri("warehouse")
    connect = connection_factory(url)
    name = f"dim_{uuid4().hex[:8]}"
    schema = TableSchema((Column("k", "bigint", nullable=False),))
    table = WarehouseTable("warehouse", name, schema, primary_key=("k",), mode="upsert")
    rows = {n: _reader(schema, n) for n in (1, 2)}
    Warehouse(connect).publish([Warehouse(connect).stage(table, (), [((), rows[1])])])
    resource = WarehouseResource(url=url)
    ledger = resource.ledger()
    staged = Warehouse(connect).stage(table, (), [((), rows[2])])
    group = LoadGroup(connect, [name], {name: staged})
    # It began when snapshot 1 was loaded; by now another load has brought snapshot 2.
    plan = BuildPlan(AssetLineage(f"warehouse/{name}", "1"), Gate())
    states = {name: LakeState(1, 3, {})}
    output = StarPublication(group.member(name), states, {name: plan}, {name: {}}, {}, ())
    with connect() as session:
        ledger.watermarks.record_loaded_in(session, f"warehouse.{name}", 2, "other run")
    recorder = WarehouseRecorder(recorder=LedgerRecorder(warehouse=resource), views="")
    with pytest.raises(CommitConflictError, match="by another run"):
        group.publish(
            lambda session, changes: recorder.publishing(
                dg.build_output_context(), output, session, changes
            )
        )
    assert ledger.watermarks.loaded_snapshot(f"warehouse.{name}") == 2
    with connect() as session:
        found = session.execute(f"select k from warehouse.{name}").fetchall()
    assert found == [(1,)]


def _reader(schema: TableSchema, key: int) -> pa.RecordBatchReader:
    return pa.table({"k": [key]}, schema=schema.arrow()).to_reader()
