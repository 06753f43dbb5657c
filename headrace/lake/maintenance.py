"""Keeping a table lean: snapshots that nobody will travel to, files that nothing refers to.

Belongs here: forgetting old snapshots, deleting unreferenced files.
Elsewhere: when this runs and how old is old (jobs), merging manifests (headrace.lake.commit).
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import stamina
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from headrace.lake.storage import StoredFile
from headrace.lake.table import LakeTable

_ATTEMPTS = 10


def expire_snapshots(table: LakeTable, older_than: datetime) -> int:
    """Forget the snapshots made before `older_than`, never the current one; returns how many.

    What only they referred to stays until `remove_orphans` deletes it. Readers that planned on one
    of them fail then, so keep snapshots for longer than any run takes.
    """
    for attempt in stamina.retry_context(on=CommitFailedException, attempts=_ATTEMPTS):
        with attempt:
            loaded = table.load()
            expired = _expirable(loaded, older_than) if loaded else []
            if loaded and expired:
                loaded.maintenance.expire_snapshots().by_ids(expired).commit()
    return len(expired)


def remove_orphans(table: LakeTable, older_than: datetime) -> tuple[StoredFile, ...]:
    """Delete files in the table's folder that no snapshot refers to; returns what was deleted.

    Such are files that were staged and never published, and those of forgotten snapshots.

    Args:
        table: Where to look.
        older_than: Files changed since then are left alone: a run that is under way has staged
            files that it will publish yet. Must lie further back than any run takes.
    """
    # Listed first: what is published in between is then found to be referred to.
    found = table.storage.list_files(table.location)
    old = [file for file in found if file.modified_at.astimezone(UTC) < older_than]
    loaded = table.load()
    needed = {table.storage.path(uri) for uri in _references(loaded)} if loaded else set()
    orphans = tuple(file for file in old if table.storage.path(file.uri) not in needed)
    table.storage.delete(file.uri for file in orphans)
    return orphans


def _expirable(table: Table, older_than: datetime) -> list[int]:
    kept = {reference.snapshot_id for reference in table.refs().values()}
    limit = older_than.timestamp() * 1000
    return [
        snapshot.snapshot_id
        for snapshot in table.snapshots()
        if snapshot.timestamp_ms < limit and snapshot.snapshot_id not in kept
    ]


def _references(table: Table) -> Iterator[str]:
    """Every file that the table's metadata names, more than once if it likes."""
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
