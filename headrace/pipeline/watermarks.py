"""Watermarks: the snapshots of upstream tables that a published table has read."""

from collections.abc import Collection, Mapping
from datetime import date

from headrace.errors import UnpublishedTableError
from headrace.lake.changes import FileChanges
from headrace.lake.scan import LakeScan
from headrace.lake.table import LakeTable
from headrace.schema import TableSchema

_READ = "headrace.read."
# Value for a table without a publication: all its later rows are new.
_NOTHING = "none"


def as_read(table: LakeTable, scan: LakeScan | None) -> dict[str, str]:
    """The snapshot property that records this state of `table` as read."""
    snapshot = scan.snapshot_id if scan else None
    return {_READ + table.name: str(snapshot or _NOTHING)}


def snapshots_read(properties: Mapping[str, str]) -> dict[str, int]:
    """By table, the snapshot that a publication with these properties has read."""
    read = {
        name.removeprefix(_READ): value
        for name, value in properties.items()
        if name.startswith(_READ)
    }
    return {table: int(value) for table, value in read.items() if value != _NOTHING}


def changes_since_read(properties: Mapping[str, str], table: LakeTable) -> FileChanges | None:
    """Files added to and removed from `table` since the publication that has these properties.

    None if the publication does not record what it read, or that snapshot has expired.
    """
    known = properties.get(_READ + table.name)
    if known is None:
        return None
    if known != _NOTHING:
        return table.changes_since(int(known))
    scan = scan_if_published(table) or _empty_scan(table)
    return FileChanges(added=scan, removed=scan.only(()))


def scan_if_published(table: LakeTable, days: Collection[date] | None = None) -> LakeScan | None:
    """The whole table, or some days of it; None if it was never published."""
    try:
        return table.scan(days)
    except UnpublishedTableError:
        return None


def _empty_scan(table: LakeTable) -> LakeScan:
    return LakeScan(
        table=table.name,
        snapshot_id=None,
        schema=TableSchema(()),
        days=(),
        files=(),
        files_by_day={},
        widened=frozenset(),
        storage=table.storage,
    )
