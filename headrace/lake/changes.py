"""The data files added and removed between two snapshots of a table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyiceberg.manifest import DataFile, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from headrace.lake.scan import LakeScan
from headrace.lake.storage import Storage

# The manifests that one snapshot wrote take two small reads. With more snapshots than this, or if
# maintenance has expired one of them, the lists of all files are compared.
_MAX_SNAPSHOTS = 50


@dataclass(frozen=True)
class FileChanges:
    """The data files by which a table's current snapshot differs from an earlier one.

    Data files are immutable: rows outside these files are equal in both snapshots. Rows of a
    removed file may be in an added file, too, and are then unchanged.

    Attributes:
        added: A scan of the added files.
        removed: A scan of the removed files, which exist until the earlier snapshot is expired.
    """

    added: LakeScan
    removed: LakeScan

    def __bool__(self) -> bool:
        return bool(self.added.files or self.removed.files)


def changes_since(
    name: str, table: Table, storage: Storage, snapshot_id: int
) -> FileChanges | None:
    """The changes from a snapshot to the current one.

    None if the snapshot is expired, or a column was recreated with another type since.
    """
    if table.snapshot_by_id(snapshot_id) is None or _has_recreated_column(table, snapshot_id):
        return None
    later = _snapshots_after(table, snapshot_id)
    if later is None or len(later) > _MAX_SNAPSHOTS:
        added, removed = _difference_of_lists(table, snapshot_id)
    else:
        added, removed = _sum_of_snapshots(table, later)
    return FileChanges(
        LakeScan.of_files(name, table, storage, added),
        LakeScan.of_files(name, table, storage, removed),
    )


def _difference_of_lists(table: Table, snapshot_id: int) -> tuple[list[DataFile], list[DataFile]]:
    """The added and removed files, by a comparison of all files of both snapshots."""
    before = {file.file_path: file for file in _files(table, snapshot_id)}
    after = {file.file_path: file for file in _files(table, None)}
    added = [file for path, file in after.items() if path not in before]
    removed = [file for path, file in before.items() if path not in after]
    return added, removed


def _sum_of_snapshots(
    table: Table, snapshots: Sequence[Snapshot]
) -> tuple[list[DataFile], list[DataFile]]:
    """The added and removed files, from the manifests that each of the snapshots wrote."""
    added: dict[str, DataFile] = {}
    removed: dict[str, DataFile] = {}
    for snapshot in snapshots:
        for status, file in _own_entries(table, snapshot):
            is_added = status is ManifestEntryStatus.ADDED
            same, opposite = (added, removed) if is_added else (removed, added)
            # A file that was added and then removed, or removed and then added, is no change.
            if opposite.pop(file.file_path, None) is None:
                same[file.file_path] = file
    return [*added.values()], [*removed.values()]


def _has_recreated_column(table: Table, snapshot_id: int) -> bool:
    """Whether a column has another field id than in the snapshot: other values under its name."""
    snapshot = table.snapshot_by_id(snapshot_id)
    if snapshot is None or snapshot.schema_id is None:
        return True
    before = {field.name: field.field_id for field in table.schemas()[snapshot.schema_id].fields}
    return any(before.get(f.name, f.field_id) != f.field_id for f in table.schema().fields)


def _snapshots_after(table: Table, snapshot_id: int) -> list[Snapshot] | None:
    """The snapshots after `snapshot_id`, oldest first; None if one of them is expired."""
    found: list[Snapshot] = []
    by_id = {snapshot.snapshot_id: snapshot for snapshot in table.snapshots()}
    snapshot = table.current_snapshot()
    while snapshot is not None and snapshot.snapshot_id != snapshot_id:
        found.append(snapshot)
        snapshot = by_id.get(snapshot.parent_snapshot_id or -1)
    return found[::-1] if snapshot is not None else None


def _own_entries(
    table: Table, snapshot: Snapshot
) -> Iterator[tuple[ManifestEntryStatus, DataFile]]:
    """The files that a snapshot deleted, then those that it added."""
    entries = [
        (entry.status, entry.data_file)
        for manifest in snapshot.manifests(table.io)
        if manifest.added_snapshot_id == snapshot.snapshot_id
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False)
        # A merged manifest also has entries of earlier snapshots.
        if entry.snapshot_id == snapshot.snapshot_id
    ]
    # In this order, a file that one snapshot both deletes and adds is unchanged.
    for status in (ManifestEntryStatus.DELETED, ManifestEntryStatus.ADDED):
        yield from ((status, file) for found, file in entries if found is status)


def _files(table: Table, snapshot_id: int | None) -> list[DataFile]:
    return [task.file for task in table.scan(snapshot_id=snapshot_id).plan_files()]
