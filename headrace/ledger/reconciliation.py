"""Reconciliation of lake and ledger after a crash between commit and ledger row.

Every publication of a fact is written down in one transaction, under the fact's lock. So a current
snapshot that no row of the ledger names was left by a run that was killed; what it restated, no
later run would find: the snapshot says that it has followed the dimensions.
"""

from collections.abc import Sequence
from datetime import date

from headrace.lake.scan import LakeScan
from headrace.lake.table import LakeTable
from headrace.ledger.ledger import Ledger
from headrace.quality.report import PartitionReport


def unrecorded_partitions(
    asset: str, table: LakeTable, ledger: Ledger
) -> tuple[int, dict[date, PartitionReport]] | None:
    """What publications brought that came after the last one that the ledger names.

    A day that had no rows and has none is not found: nothing was published that a reader sees.

    Args:
        asset: Name of the asset, such as `curated/fact_sales`.
        table: Its table, with partitions. The caller keeps others from publishing to it.
        ledger: Where publications are written down.

    Returns:
        The current snapshot, and by day what is published; None if all is written down.
    """
    current = table.current_snapshot_id()
    if current is None or ledger.recorded_snapshots(asset, [current]):
        return None
    days = _days_since(table, _last_recorded(asset, table.snapshot_ids(), ledger))
    if days is None:
        # The ledger's snapshots are expired, or it has none: all that is there is news.
        known = ledger.states(asset).items()
        days = {*table.scan().days, *(day for day, state in known if day and state.published_at)}
    now = table.scan(days)
    return current, {day: _as_published(now, day) for day in now.days}


def _last_recorded(asset: str, snapshot_ids: Sequence[int], ledger: Ledger) -> int | None:
    recorded = ledger.recorded_snapshots(asset, snapshot_ids)
    return next((snapshot for snapshot in snapshot_ids if snapshot in recorded), None)


def _days_since(table: LakeTable, snapshot_id: int | None) -> set[date] | None:
    changes = None if snapshot_id is None else table.changes_since(snapshot_id)
    return None if changes is None else {*changes.added.days, *changes.removed.days}


def _as_published(now: LakeScan, day: date) -> PartitionReport:
    # Its audit passed, or it would not be there; what was read for it, nobody knows any more.
    return PartitionReport(day, rows_in=now.rows(day), rows_out=now.rows(day))
