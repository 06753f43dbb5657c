"""Which snapshots of a lake must stay, and how its maintenance is bounded."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from headrace.lake.catalog import LakeCatalog
from headrace.lake.storage import LakeSettings
from headrace.lake.table import LakeTable
from headrace.ledger.ledger import Ledger
from headrace.ledger.records import PartitionRecord
from headrace.operations.lake_maintenance import maintain_lake, needed_snapshots
from headrace.pipeline.full_snapshots import NAMESPACE as QUARANTINED_KEYS
from headrace.pipeline.watermarks import as_read, changes_since_read
from tests import servers
from tests.lake.writing import SALES, day, publish, sales, stage


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[LakeCatalog]:
    """A lake whose catalog no other test sees."""
    name = f"lake_{uuid4().hex[:8]}"
    settings = LakeSettings(
        servers.postgres().uri("lake"), str(tmp_path / "lake"), catalog_name=name
    )
    catalog = LakeCatalog(settings)
    yield catalog
    catalog.close()


def later() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=1)


def published(table: LakeTable, number: int) -> int:
    publish(table, {day(number): [number]})
    snapshot = table.current_snapshot_id()
    assert snapshot is not None
    return snapshot


def kept(table: LakeTable) -> list[int]:
    loaded = table.load()
    return [snapshot.snapshot_id for snapshot in loaded.snapshots()] if loaded else []


def test_snapshots_that_a_follower_the_warehouse_or_the_ledger_need_stay(
    lake: LakeCatalog, ledger: Ledger
) -> None:
    source, fact = lake.table("processed", "shop_sales"), lake.table("curated", "fact_sales")
    read = published(source, 0)
    staged = stage(fact, {day(0): sales(day(0), [1])})
    fact.replace(staged, schema=SALES, properties=as_read(source, source.scan()))
    loaded = fact.current_snapshot_id()
    assert loaded is not None
    with ledger.connect() as session:
        session.execute("create schema warehouse; create table warehouse.fact_sales ()")
        ledger.watermarks.record_loaded_in(session, "warehouse/fact_sales", loaded, "r")
    between = published(source, 1)
    recorded = published(source, 2)
    ledger.record([_record("processed/shop_sales", day(2), recorded)])
    now = published(source, 3)
    staged = stage(fact, {day(1): sales(day(1), [2])})
    fact.replace(staged, schema=SALES, properties={"headrace.read.processed.shop_sales": str(read)})
    maintain_lake(lake, later(), needed=needed_snapshots(lake, ledger))
    assert between not in kept(source)
    assert {*kept(source)} == {read, recorded, now}
    assert {*kept(fact)} == {loaded, fact.current_snapshot_id()}
    source.scan().verify()


def test_keys_of_quarantined_rows_are_maintained_up_to_what_a_dimension_has_read(
    lake: LakeCatalog, ledger: Ledger
) -> None:
    keys, dimension = lake.table(QUARANTINED_KEYS, "shop_members"), lake.table("curated", "dim_m")
    forgotten = published(keys, 0)
    read = published(keys, 1)
    staged = stage(dimension, {day(0): sales(day(0), [1])})
    dimension.replace(staged, schema=SALES, properties=as_read(keys, keys.scan()))
    between, now = published(keys, 1), published(keys, 2)
    # By a run that died before it published it.
    [left] = stage(keys, {day(3): sales(day(3), [3])})[day(3)].files
    maintain_lake(lake, later(), needed=needed_snapshots(lake, ledger))
    assert {forgotten, between}.isdisjoint(kept(keys))
    assert {*kept(keys)} == {read, now}
    assert not keys.storage.sizes([left.path])
    changes = changes_since_read(dimension.snapshot_properties(), keys)
    assert changes is not None
    assert {*changes.added.days} == {day(1), day(2)}
    changes.removed.verify()


def test_maintenance_stops_in_time_and_begins_elsewhere_each_day(lake: LakeCatalog) -> None:
    for name in ("a", "b", "c"):
        publish(lake.table("raw", name), {day(0): [1]})
    ticks = iter([0.0, 1.0, 2.0])
    done = maintain_lake(lake, later(), needed={}, turn=1, until=2.0, clock=lambda: next(ticks))
    assert [table.table for table in done] == ["raw.b", "raw.c"]


def _record(asset: str, on: date, snapshot: int) -> PartitionRecord:
    return PartitionRecord(asset, on, "published", "r", snapshot_id=snapshot)
