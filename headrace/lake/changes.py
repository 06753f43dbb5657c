"""What changed in a table between two of its snapshots: files that came, files that went."""

from collections.abc import Iterator
from dataclasses import dataclass

from pyiceberg.manifest import DataFile, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from headrace.lake.scan import LakeScan
from headrace.lake.storage import Storage

# A snapshot's own manifests cost two small reads; past this many snapshots, or where one of them is
# expired, the lists of all files are compared instead.
_FOLLOWED = 50


@dataclass(frozen=True)
class FileChanges:
    """The files by which a table's current state differs from an earlier one.

    A file is never changed, so rows that are in neither are in both states. Rows of files that
    went may have come again in others: then nothing happened to them.

    Attributes:
        added: What came, as a scan of just these files.
        removed: What went; the files are kept for as long as the earlier snapshot is.
    """

    added: LakeScan
    removed: LakeScan

    def __bool__(self) -> bool:
        return bool(self.added.files or self.removed.files)


def changes_since(
    name: str, table: Table, storage: Storage, snapshot_id: int
) -> FileChanges | None:
    """The changes from a snapshot to the current one.

    None where the snapshot is not known any more, or where a column was made anew since: its files
    have another type than the table's.
    """
    if table.snapshot_by_id(snapshot_id) is None or _is_made_anew(table, snapshot_id):
        return None
    path = _path(table, snapshot_id)
    # Maintenance keeps the snapshot from which a follower goes on, and not those in between.
    follow = path if path is not None and len(path) <= _FOLLOWED else None
    added: dict[str, DataFile] = {}
    removed: dict[str, DataFile] = {}
    if follow is None:
        before = {file.file_path: file for file in _files(table, snapshot_id)}
        after = {file.file_path: file for file in _files(table, None)}
        added = {path: file for path, file in after.items() if path not in before}
        removed = {path: file for path, file in before.items() if path not in after}
    for snapshot in follow or ():
        for status, file in _own_entries(table, snapshot):
            came, other = (
                (added, removed) if status is ManifestEntryStatus.ADDED else (removed, added)
            )
            # What came and went in between, or went and came back, did not change.
            if other.pop(file.file_path, None) is None:
                came[file.file_path] = file
    return FileChanges(
        LakeScan.of_files(name, table, storage, added.values()),
        LakeScan.of_files(name, table, storage, removed.values()),
    )


def _is_made_anew(table: Table, snapshot_id: int) -> bool:
    snapshot = table.snapshot_by_id(snapshot_id)
    if snapshot is None or snapshot.schema_id is None:
        return True
    before = {field.name: field.field_id for field in table.schemas()[snapshot.schema_id].fields}
    return any(before.get(f.name, f.field_id) != f.field_id for f in table.schema().fields)


def _path(table: Table, snapshot_id: int) -> list[Snapshot] | None:
    """The snapshots after `snapshot_id` up to the current one, oldest first; None: one is gone."""
    path: list[Snapshot] = []
    by_id = {snapshot.snapshot_id: snapshot for snapshot in table.snapshots()}
    here = table.current_snapshot()
    while here is not None and here.snapshot_id != snapshot_id:
        path.append(here)
        here = by_id.get(here.parent_snapshot_id or -1)
    return path[::-1] if here is not None else None


def _own_entries(
    table: Table, snapshot: Snapshot
) -> Iterator[tuple[ManifestEntryStatus, DataFile]]:
    entries = [
        (entry.status, entry.data_file)
        for manifest in snapshot.manifests(table.io)
        if manifest.added_snapshot_id == snapshot.snapshot_id
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False)
        # A merged manifest also lists what earlier snapshots added.
        if entry.snapshot_id == snapshot.snapshot_id
    ]
    # A file that one snapshot takes out and puts in was there before and is there after.
    wanted = (ManifestEntryStatus.DELETED, ManifestEntryStatus.ADDED)
    for status in wanted:
        yield from ((status, file) for found, file in entries if found is status)


def _files(table: Table, snapshot_id: int | None) -> list[DataFile]:
    return [task.file for task in table.scan(snapshot_id=snapshot_id).plan_files()]
