"""Maintenance of a table: expires snapshots and removes orphan files."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from itertools import pairwise

import stamina
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from headrace.lake.storage import LakeFile
from headrace.lake.table import LakeTable

_ATTEMPTS = 10


def expire_snapshots(
    table: LakeTable, older_than: datetime, *, needed: Collection[int] = ()
) -> int:
    """Expire the snapshots that were replaced before `older_than`; returns their number.

    Snapshots that were current at any later time stay, because a reader may use them. The files of
    expired snapshots stay until `remove_orphans` deletes them.

    Args:
        table: The table.
        older_than: Must lie further back than the longest reader or run.
        needed: Snapshots to retain regardless of their age.
    """
    for attempt in stamina.retry_context(on=CommitFailedException, attempts=_ATTEMPTS):
        with attempt:
            loaded = table.load()
            expired = _expirable(loaded, older_than, needed) if loaded else []
            if loaded and expired:
                loaded.maintenance.expire_snapshots().by_ids(expired).commit()
    return len(expired)


def remove_orphans(
    table: LakeTable, older_than: datetime, *, limit: int | None = None
) -> tuple[LakeFile, ...]:
    """Delete files in the table's folder that no snapshot refers to; returns the deleted files.

    These are staged files that were never published, and files of expired snapshots.

    Args:
        table: The table.
        older_than: Files modified later stay, because a running run may publish them. Must lie
            further back than the longest run.
        limit: Largest number of files; the oldest are deleted first. None for all.
    """
    # List files before references: a file that is published in between is then referenced.
    found = table.storage.list_files(table.location)
    old = [file for file in found if file.modified_at.astimezone(UTC) < older_than]
    if not old:
        return ()
    loaded = table.load()
    needed = {table.storage.path(uri) for uri in _references(loaded)} if loaded else set()
    orphans = [file for file in old if table.storage.path(file.uri) not in needed]
    chosen = tuple(sorted(orphans, key=lambda file: file.modified_at)[:limit])
    table.storage.delete(file.uri for file in chosen)
    return chosen


def _expirable(table: Table, older_than: datetime, needed: Collection[int]) -> list[int]:
    retained = {reference.snapshot_id for reference in table.refs().values()} | {*needed}
    limit = older_than.timestamp() * 1000
    ended: dict[int, int] = {}
    for entry, following in pairwise(table.history()):
        ended[entry.snapshot_id] = following.timestamp_ms
    return [
        snapshot.snapshot_id
        for snapshot in table.snapshots()
        # A snapshot that never was current counts as replaced when it was created.
        if ended.get(snapshot.snapshot_id, snapshot.timestamp_ms) < limit
        and snapshot.snapshot_id not in retained
    ]


def _references(table: Table) -> Iterator[str]:
    """Every file that the table's metadata refers to, with repeats."""
    yield table.metadata_location
    yield from (entry.metadata_file for entry in table.metadata.metadata_log)
    for statistics in (*table.metadata.statistics, *table.metadata.partition_statistics):
        yield statistics.statistics_path
    seen: set[str] = set()
    for snapshot in table.snapshots():
        yield snapshot.manifest_list
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path in seen:
                continue
            seen.add(manifest.manifest_path)
            yield manifest.manifest_path
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                yield entry.data_file.file_path
