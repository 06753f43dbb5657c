"""Days that the lake has and the ledger does not know, because a run was killed in between."""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from headrace.lake.catalog import LakeCatalog
from headrace.lake.maintenance import expire_snapshots
from headrace.lake.storage import LakeSettings
from headrace.lake.table import LakeTable
from headrace.ledger.ledger import Ledger
from headrace.ledger.reconciliation import unrecorded_partitions
from headrace.ledger.records import PartitionRecord
from tests import servers
from tests.lake.writing import day, publish

ASSET = "curated/fact_sales"


@pytest.fixture
def table(tmp_path: Path) -> Iterator[LakeTable]:
    catalog = LakeCatalog(LakeSettings(servers.postgres().uri("lake"), str(tmp_path)))
    yield catalog.table(f"n_{uuid4().hex[:12]}", "sales")
    catalog.close()


def publish_and_record(
    table: LakeTable, ledger: Ledger, days: Mapping[date, list[int]], *, asset: str = ASSET
) -> None:
    snapshot_id = publish(table, days).snapshot_id
    ledger.record(
        PartitionRecord(asset, one, "published", "run", snapshot_id, rows_out=len(rows))
        for one, rows in days.items()
    )


def found(table: LakeTable, ledger: Ledger) -> dict[date, int]:
    """The rows of each day that is found."""
    unrecorded = unrecorded_partitions(ASSET, table, ledger)
    if unrecorded is None:
        return {}
    snapshot_id, rows = unrecorded
    assert snapshot_id == table.current_snapshot_id()
    return rows


def test_what_is_written_down_is_not_found(table: LakeTable, ledger: Ledger) -> None:
    assert unrecorded_partitions(ASSET, table, ledger) is None
    publish(table, {day(0): [1]})
    publish_and_record(table, ledger, {day(1): [2], day(2): [3]})
    assert unrecorded_partitions(ASSET, table, ledger) is None


def test_days_that_changed_since_are_found_emptied_ones_too(
    table: LakeTable, ledger: Ledger
) -> None:
    publish_and_record(table, ledger, {day(n): [n] for n in range(5)})
    # Two runs in turn were killed.
    publish(table, {day(0): [7, 8], day(1): []})
    publish(table, {day(2): [9], day(6): [1, 2, 3], day(7): []})
    assert found(table, ledger) == {day(0): 2, day(1): 0, day(2): 1, day(6): 3}
    publish_and_record(table, ledger, {day(3): [1]}, asset="curated/fact_other")
    assert found(table, ledger) == {day(0): 2, day(1): 0, day(2): 1, day(3): 1, day(6): 3}


def test_all_days_are_found_where_the_ledger_names_no_snapshot_that_is_kept(
    table: LakeTable, ledger: Ledger
) -> None:
    publish(table, {day(0): [1], day(1): [2]})
    assert found(table, ledger) == {day(0): 1, day(1): 1}
    publish_and_record(table, ledger, {day(0): [1], day(1): [2]})
    publish(table, {day(1): []})
    expire_snapshots(table, datetime.now(UTC))
    assert found(table, ledger) == {day(0): 1, day(1): 0}
