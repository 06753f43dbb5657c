"""One publication as one Iceberg snapshot: files out, files in, at once.

Belongs here: the snapshot and what it says of itself. All of PyIceberg's private parts are used
in this module and in headrace.lake.files; both are tested against the pinned version.
Elsewhere: which files, and trying again after a conflict (headrace.lake.table).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from pyiceberg.manifest import DataFile, ManifestFile
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update import TableUpdate
from pyiceberg.table.update.snapshot import _ManifestMergeManager, _OverwriteFiles

from headrace.lake.schema import SchemaChange, iceberg_type

# Every commit adds a manifest, and planning opens those that may matter: a year of daily commits
# would be 365 of them. Past this many they are merged into one of up to 8 MiB.
_MERGE_FROM = 50
_MANIFEST_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Commit:
    """What a publication did.

    Attributes:
        table: Name of the table.
        snapshot_id: The snapshot that holds its result.
        days: The partitions it published, empty ones too; none for a table without partitions.
        rows: Rows in the files it added.
        size_bytes: Bytes in the files it added.
        files_added: Files it added.
        files_removed: Files it took out.
    """

    table: str
    snapshot_id: int
    days: tuple[date, ...] = field(repr=False)
    rows: int
    size_bytes: int
    files_added: int
    files_removed: int

    def metadata(self) -> dict[str, int | str]:
        """The facts in the form of Dagster's metadata; short, as every partition carries them."""
        return {
            "table": self.table,
            # As text: a JavaScript number holds 53 bits, a snapshot id 63.
            "snapshot_id": str(self.snapshot_id),
            "days": len(self.days),
            "rows": self.rows,
            "size_bytes": self.size_bytes,
            "files": self.files_added,
        }


def begin(table: Table) -> Transaction:
    """A transaction on a table as it was loaded.

    PyIceberg's own retries are off in it: they keep to the files chosen before the conflict, but
    which files a day holds must be asked again. Other writers of the table keep theirs.
    """
    table.metadata.properties["commit.retry.num-retries"] = "0"
    return _Transaction(table)


def evolve(transaction: Transaction, change: SchemaChange) -> None:
    """Add, widen and remove columns as part of the transaction."""
    if not change:
        return
    # Another type under the same name is another column to Iceberg, with an id of its own.
    with transaction.update_schema(allow_incompatible_changes=bool(change.removed)) as update:
        for name in change.removed:
            update.delete_column(name)
        for column in change.added:
            # The id of a list's elements is given anew by PyIceberg.
            kind = iceberg_type(column.type, element_id=-1)
            update.add_column(column.name, kind, doc=column.description or None)
        for column in change.widened:
            update.update_column(column.name, iceberg_type(column.type, element_id=-1))


def commit_snapshot(
    table: Table,
    transaction: Transaction,
    *,
    removed: Collection[DataFile],
    added: Iterable[DataFile],
    properties: Mapping[str, str],
) -> int:
    """Add one snapshot to a transaction on `table` and commit it; returns the snapshot's id.

    Raises:
        CommitFailedException: Somebody else committed since the table was loaded.
    """
    operation = Operation.OVERWRITE if removed else Operation.APPEND
    producer = _Publication(operation, transaction, table.io, snapshot_properties=dict(properties))
    for file in removed:
        producer.delete_data_file(file)
    for file in added:
        producer.append_data_file(file)
    producer.commit()
    transaction.commit_transaction()
    return producer.snapshot_id


class _Transaction(Transaction):
    """Copies a table's metadata once a change, not at each of the twenty looks of a commit.

    The metadata names every snapshot: after a hundred commits the copies took half of the time.
    """

    _copied: tuple[TableMetadata, tuple[TableUpdate, ...], TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        base, updates = self._table.metadata, self._updates
        if self._copied is None or self._copied[0] is not base or self._copied[1] is not updates:
            self._copied = (base, updates, super().table_metadata)
        return self._copied[2]


class _Publication(_OverwriteFiles):
    """An overwrite that also keeps the list of manifests short.

    One snapshot, where `delete` and `add_files` make two: a reader that travels to a snapshot or a
    time never finds the days deleted and not yet written.
    """

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        # A manifest of deletions alone speaks of the snapshot that wrote it; later ones drop it.
        kept = [m for m in manifests if m.added_snapshot_id == self.snapshot_id or _is_live(m)]
        merging = _ManifestMergeManager(_MANIFEST_BYTES, _MERGE_FROM, True, self)  # noqa: FBT003
        return merging.merge_manifests(kept)


def _is_live(manifest: ManifestFile) -> bool:
    return manifest.has_added_files() or manifest.has_existing_files()
