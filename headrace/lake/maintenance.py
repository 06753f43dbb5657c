"""Keeping a table lean: snapshots that nobody will travel to, files that nothing refers to."""

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
    """Forget the snapshots that were replaced before `older_than`; returns how many.

    The current one stays, and so does one that was current at any time since: a reader may have
    planned on it. What only forgotten ones referred to stays until `remove_orphans` deletes it.

    Args:
        table: Its name.
        older_than: Must lie further back than any reader or run takes.
        needed: Snapshots that stay, however old.
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
    """Delete files in the table's folder that no snapshot refers to; returns what was deleted.

    Such are files that were staged and never published, and those of forgotten snapshots.

    Args:
        table: Where to look.
        older_than: Files changed since then are left alone: a run that is under way has staged
            files that it will publish yet. Must lie further back than any run takes.
        limit: Files at most; the oldest go first. None: all.
    """
    # Listed first: what is published in between is then found to be referred to.
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
    kept = {reference.snapshot_id for reference in table.refs().values()} | {*needed}
    limit = older_than.timestamp() * 1000
    ended: dict[int, int] = {}
    for entry, following in pairwise(table.history()):
        ended[entry.snapshot_id] = following.timestamp_ms
    return [
        snapshot.snapshot_id
        for snapshot in table.snapshots()
        # A snapshot that never was current has no end: it ended when it was made.
        if ended.get(snapshot.snapshot_id, snapshot.timestamp_ms) < limit
        and snapshot.snapshot_id not in kept
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
