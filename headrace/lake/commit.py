"""Publishes staged files in one Iceberg commit, which is retried after a conflict."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import stamina
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import DataFile, ManifestFile
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update import TableUpdate
from pyiceberg.table.update.snapshot import _ManifestMergeManager, _OverwriteFiles

from headrace.errors import CommitConflictError, IncompatibleSchemaError, StagedFileRejectedError
from headrace.lake.connection import Identifier, LakeConnection
from headrace.lake.parquet_files import FileLayout, check_day, read_footer
from headrace.lake.scan import partition_day, planned_files
from headrace.lake.schema import (
    SchemaEvolution,
    check_file,
    iceberg_schema,
    iceberg_type,
    partition_column,
    partition_spec,
    plan_evolution,
    plan_rebuild,
    table_schema,
)
from headrace.lake.storage import Storage
from headrace.schema import TableSchema
from headrace.staged import StagedFile

# Every commit adds a manifest, and planning a read opens all of them: 365 after a year of daily
# commits. From this number on they are merged into manifests of up to 8 MiB.
_MERGE_FROM = 50
_MANIFEST_BYTES = 8 * 2**20
# A commit takes about a tenth of a second: hundreds of concurrent runs fit in two minutes.
_CONFLICT_SECONDS = 120.0


@dataclass(frozen=True)
class Commit:
    """The result of a publication.

    Attributes:
        table: Name of the table.
        snapshot_id: The snapshot with the published state.
        days: The published partitions, including empty ones; empty for a table without partitions.
        rows: Rows in the added files.
        size_bytes: Bytes in the added files.
        files_added: Number of added files.
        files_removed: Number of removed files.
    """

    table: str
    snapshot_id: int
    days: tuple[date, ...] = field(repr=False)
    rows: int
    size_bytes: int
    files_added: int
    files_removed: int

    def metadata(self) -> dict[str, int | str]:
        """Metadata for Dagster; short, because each partition stores it."""
        return {
            "table": self.table,
            # As text: a JavaScript number has 53 bits, a snapshot id 63.
            "snapshot_id": str(self.snapshot_id),
            "days": len(self.days),
            "rows": self.rows,
            "size_bytes": self.size_bytes,
            "files": self.files_added,
        }


@dataclass(frozen=True)
class PublishRequest:
    """The files and the schema to publish.

    Attributes:
        mode: `replace` removes the published files of the days, `append` keeps them.
        files: Files by day; the key None stands for a whole table without partitions.
        partition_column: The date column of the day; None for a table without partitions.
        schema: Columns of the table.
        properties: Stored with the snapshot.
        rebuild: Replace the table's schema by `schema`; no published file stays.
    """

    mode: Literal["replace", "append"]
    files: Mapping[date | None, tuple[StagedFile, ...]]
    partition_column: str | None
    schema: TableSchema
    properties: Mapping[str, str]
    rebuild: bool = False

    @property
    def days(self) -> frozenset[date]:
        """The days to publish."""
        return frozenset(day for day in self.files if day is not None)


@dataclass(frozen=True)
class _OpenedFile:
    """A staged file with its footer."""

    day: date | None
    file: StagedFile
    footer: pq.FileMetaData


def publish(connection: LakeConnection, identifier: Identifier, request: PublishRequest) -> Commit:
    """Commit a request; after a conflict, plan it again on the new state of the table.

    Raises:
        IncompatibleSchemaError: The table cannot take the schema, or a file does not have it.
        StagedFileRejectedError: A file is corrupt, or has rows of another day.
        CommitConflictError: Conflicts with other runs for two minutes.
        CatalogUnavailableError: The catalog's database does not answer.
    """
    name = ".".join(identifier)
    opened = _opened(name, connection.storage, request)
    attempts = stamina.retry_context(
        on=CommitFailedException,
        attempts=None,
        timeout=_CONFLICT_SECONDS,
        wait_initial=0.05,
        wait_max=2.0,
        wait_jitter=0.5,
    )
    try:
        for attempt in attempts:
            with attempt, connection.map_errors():
                table = _table_for(connection, identifier, request)
                return _commit(name, table, request, opened)
    except CommitFailedException as error:
        raise CommitConflictError(
            f"{name}: other runs committed first for {_CONFLICT_SECONDS:.0f} seconds",
            fix="run the step again when fewer runs publish to this table",
        ) from error
    raise AssertionError("a retry context returns or raises")


def _opened(name: str, storage: Storage, request: PublishRequest) -> tuple[_OpenedFile, ...]:
    """The files of a request with their footers, after a check of the days of their rows."""
    entries = [(day, file) for day, files in request.files.items() for file in files]
    for path, count in Counter(file.path for _, file in entries).items():
        if count > 1:
            raise StagedFileRejectedError(
                f"{name}: {path} is staged {count} times", fix="list every file once"
            )

    def opened(entry: tuple[date | None, StagedFile]) -> _OpenedFile:
        day, file = entry
        footer = file.footer or read_footer(storage, file.path)
        if day is not None and request.partition_column is not None:
            check_day(storage, file, footer, request.partition_column, day)
        return _OpenedFile(day, file, footer)

    if all(file.footer for _, file in entries):
        return tuple(opened(entry) for entry in entries)
    return tuple(storage.in_parallel(opened, entries))


def _table_for(
    connection: LakeConnection, identifier: Identifier, request: PublishRequest
) -> Table:
    schema = iceberg_schema(request.schema)
    table = connection.load_or_create(
        identifier, schema, partition_spec(schema, request.partition_column)
    )
    found = partition_column(table)
    if found != request.partition_column:
        raise IncompatibleSchemaError(
            f"{'.'.join(identifier)} is partitioned by {found or 'nothing'}, "
            f"and the publication by {request.partition_column or 'nothing'}",
            fix="publish with the table's partition column, or drop the table: "
            f"headrace reset {'/'.join(identifier)}",
        )
    return table


def _commit(
    name: str, table: Table, request: PublishRequest, opened: Sequence[_OpenedFile]
) -> Commit:
    """Commit the request on one state of the table; CommitFailedException if that has changed."""
    transaction = _begin(table)
    change = _planned_change(name, table, request)
    _evolve(transaction, change)
    metadata = transaction.table_metadata
    _check_columns(name, table_schema(name, metadata.schema()), opened)
    layout = FileLayout.of(metadata)
    published = {file.file_path: file for file in _published_files(table, request)}
    new = [e for e in opened if e.file.path not in published]
    removed: list[DataFile] = []
    if request.mode == "replace":
        requested = {e.file.path for e in opened}
        removed = [file for path, file in published.items() if path not in requested]
    snapshot = table.current_snapshot()
    if snapshot and opened and not (new or removed or change):
        snapshot_id = snapshot.snapshot_id  # A repeated call: these files are published.
    else:
        snapshot_id = _commit_snapshot(
            table,
            transaction,
            removed=removed,
            added=[layout.data_file(e.file, e.footer, e.day) for e in new],
            properties=request.properties,
        )
    return Commit(
        table=name,
        snapshot_id=snapshot_id,
        days=tuple(sorted(request.days)),
        rows=sum(e.file.rows for e in new),
        size_bytes=sum(e.file.size_bytes for e in new),
        files_added=len(new),
        files_removed=len(removed),
    )


def _planned_change(name: str, table: Table, request: PublishRequest) -> SchemaEvolution:
    """The change of the table's schema that the request needs."""
    published = table_schema(name, table.schema())
    if not request.rebuild:
        return plan_evolution(name, published, request.schema)
    change = plan_rebuild(published, request.schema)
    _require_all_days(name, table, request, change)
    return change


def _require_all_days(
    name: str, table: Table, request: PublishRequest, change: SchemaEvolution
) -> None:
    """Check that no published file keeps a column whose type changes."""
    published = {partition_day(file) for file in planned_files(table, None)}
    if change.removed and (others := sorted(published - {*request.files}, key=str)):
        raise IncompatibleSchemaError(
            f"{name}: {len(others)} published days are not in the rebuild, such as {others[0]}; "
            f"they would keep the old type of {', '.join(change.removed)}; nothing changed",
            fix="run headrace status to see why they fail, correct them, and rebuild again; or "
            f"drop the table: headrace reset {name.replace('.', '/', 1)}",
        )


def _check_columns(name: str, schema: TableSchema, opened: Sequence[_OpenedFile]) -> None:
    # Most files have equal columns: each set of columns is checked once, in its first file.
    first_paths: dict[pa.Schema, str] = {}
    for entry in opened:
        columns = entry.footer.schema.to_arrow_schema().remove_metadata()
        first_paths.setdefault(columns, entry.file.path)
    for columns, path in first_paths.items():
        check_file(name, schema, path, columns)


def _published_files(table: Table, request: PublishRequest) -> list[DataFile]:
    """The published files of the days, or of the whole table if it has no partitions."""
    return planned_files(table, request.days if request.partition_column else None)


def _begin(table: Table) -> Transaction:
    """A transaction on a loaded table, without PyIceberg's retries.

    PyIceberg would retry with the files planned before the conflict, but `publish` has to plan the
    files of a day again. The property is set in this process only, not in the catalog.
    """
    table.metadata.properties["commit.retry.num-retries"] = "0"
    return _Transaction(table)


def _evolve(transaction: Transaction, change: SchemaEvolution) -> None:
    """Add, widen and remove columns as part of the transaction."""
    if not change:
        return
    # A column with an incompatible type is dropped and added, with a new field id.
    with transaction.update_schema(allow_incompatible_changes=bool(change.removed)) as update:
        for name in change.removed:
            update.delete_column(name)
        for column in change.added:
            # PyIceberg assigns the field id of a list's elements.
            kind = iceberg_type(column.type, element_id=-1)
            update.add_column(column.name, kind, doc=column.description or None)
        for column in change.widened:
            update.update_column(column.name, iceberg_type(column.type, element_id=-1))


def _commit_snapshot(
    table: Table,
    transaction: Transaction,
    *,
    removed: Collection[DataFile],
    added: Iterable[DataFile],
    properties: Mapping[str, str],
) -> int:
    """Add one snapshot to a transaction on `table` and commit it; returns the snapshot's id.

    Raises:
        CommitFailedException: Another writer committed after the table was loaded.
    """
    operation = Operation.OVERWRITE if removed else Operation.APPEND
    producer = _OverwriteSnapshot(
        operation, transaction, table.io, snapshot_properties=dict(properties)
    )
    for file in removed:
        producer.delete_data_file(file)
    for file in added:
        producer.append_data_file(file)
    producer.commit()
    transaction.commit_transaction()
    return producer.snapshot_id


class _Transaction(Transaction):
    """Caches the updated metadata, which PyIceberg computes at each of twenty accesses in a commit.

    It computes it as a copy with all snapshots: after a hundred commits, half of a commit's time.
    """

    # The base, the updates, and the result of applying them.
    _cached: tuple[TableMetadata, tuple[TableUpdate, ...], TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        base, updates = self._table.metadata, self._updates
        if self._cached is None or self._cached[0] is not base or self._cached[1] is not updates:
            self._cached = (base, updates, super().table_metadata)
        return self._cached[2]


class _OverwriteSnapshot(_OverwriteFiles):
    """An overwrite in one snapshot that also merges manifests.

    PyIceberg's `delete` and `add_files` make two snapshots, in the first of which the days are
    empty.
    """

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        # A manifest of deletions belongs to the snapshot that wrote it only; later ones drop it.
        current = [m for m in manifests if m.added_snapshot_id == self.snapshot_id or _is_live(m)]
        merging = _ManifestMergeManager(_MANIFEST_BYTES, _MERGE_FROM, True, self)  # noqa: FBT003
        return merging.merge_manifests(current)


def _is_live(manifest: ManifestFile) -> bool:
    return manifest.has_added_files() or manifest.has_existing_files()
