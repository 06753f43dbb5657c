"""Reconciliation of lake and ledger after a crash between commit and ledger row.

A fact is published and recorded under the fact's lock. If the ledger does not have the table's
current snapshot, the run that committed it was killed before it recorded it. Later runs would not
find the days that it re-keyed, because its snapshot already has the dimensions' watermarks.
"""

from collections.abc import Sequence
from datetime import date

from headrace.lake.table import LakeTable
from headrace.ledger.ledger import Ledger


def unrecorded_partitions(
    asset: str, table: LakeTable, ledger: Ledger
) -> tuple[int, dict[date, int]] | None:
    """Find the partitions that were published after the last snapshot that the ledger has.

    Days that were empty and are empty are not found.

    Args:
        asset: Name of the asset, such as `curated/fact_sales`.
        table: Its table, with partitions. The caller holds the asset's publication lock.
        ledger: The ledger.

    Returns:
        The current snapshot, and the rows of each published day; None if the ledger is complete.
    """
    current = table.current_snapshot_id()
    if current is None or ledger.recorded_snapshots(asset, [current]):
        return None
    days = _days_since(table, _last_recorded(asset, table.snapshot_ids(), ledger))
    if days is None:
        # The ledger's snapshots are expired, or it has none: report every day.
        known = ledger.states(asset).items()
        days = {*table.scan().days, *(day for day, state in known if day and state.published_at)}
    now = table.scan(days)
    return current, {day: now.rows(day) for day in now.days}


def _last_recorded(asset: str, snapshot_ids: Sequence[int], ledger: Ledger) -> int | None:
    recorded = ledger.recorded_snapshots(asset, snapshot_ids)
    return next((snapshot for snapshot in snapshot_ids if snapshot in recorded), None)


def _days_since(table: LakeTable, snapshot_id: int | None) -> set[date] | None:
    changes = None if snapshot_id is None else table.changes_since(snapshot_id)
    return None if changes is None else {*changes.added.days, *changes.removed.days}
