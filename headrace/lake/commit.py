"""Publishing staged files in one Iceberg commit, repeated when another run committed first."""

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


def evolve(transaction: Transaction, change: SchemaEvolution) -> None:
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


class _OverwriteSnapshot(_OverwriteFiles):
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


# Runs that publish to one table take turns of about a tenth of a second: two minutes let hundreds
# of them through.
_CONFLICT_SECONDS = 120.0


@dataclass(frozen=True)
class PublishRequest:
    """What a table shall hold.

    Attributes:
        mode: `replace` takes out what the days hold now, `append` leaves it in.
        files: Files by day; the key None stands for the whole of a table without partitions.
        partition_column: The date column that names the day; None for a table without partitions.
        schema: Columns of the table.
        properties: Recorded with the snapshot.
        rebuild: Take the schema as it is, whatever the table's; nothing that is published stays.
    """

    mode: Literal["replace", "append"]
    files: Mapping[date | None, tuple[StagedFile, ...]]
    partition_column: str | None
    schema: TableSchema
    properties: Mapping[str, str]
    rebuild: bool = False

    @property
    def days(self) -> frozenset[date]:
        """The days it speaks of."""
        return frozenset(day for day in self.files if day is not None)


@dataclass(frozen=True)
class _Entering:
    """A file on its way into a table, its footer read."""

    day: date | None
    file: StagedFile
    footer: pq.FileMetaData


def publish(connection: LakeConnection, identifier: Identifier, wanted: PublishRequest) -> Commit:
    """Commit a publication; after a conflict, plan it again on the table as it is then.

    Raises:
        IncompatibleSchemaError: The table cannot take the schema, or a file does not have it.
        StagedFileRejectedError: A file is broken, or holds rows of another day.
        CommitConflictError: Other runs committed first for two minutes on end.
        CatalogUnavailableError: The catalog's database does not answer.
    """
    name = ".".join(identifier)
    entering = _opened(name, connection.storage, wanted)
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
                table = _table_for(connection, identifier, wanted)
                return _commit(name, table, wanted, entering)
    except CommitFailedException as error:
        raise CommitConflictError(
            f"{name}: other runs committed first for {_CONFLICT_SECONDS:.0f} seconds",
            fix="run the step again when fewer runs publish to this table",
        ) from error
    raise AssertionError("a retry context returns or raises")


def _opened(name: str, storage: Storage, wanted: PublishRequest) -> tuple[_Entering, ...]:
    named = [(day, file) for day, files in wanted.files.items() for file in files]
    twice = [path for path, count in Counter(file.path for _, file in named).items() if count > 1]
    if twice:
        raise StagedFileRejectedError(
            f"{name}: {twice[0]} is staged {Counter(f.path for _, f in named)[twice[0]]} times",
            fix="name every file once",
        )

    def opened(entry: tuple[date | None, StagedFile]) -> _Entering:
        day, file = entry
        footer = file.footer or read_footer(storage, file.path)
        if day is not None and wanted.partition_column is not None:
            check_day(storage, file, footer, wanted.partition_column, day)
        return _Entering(day, file, footer)

    if all(file.footer for _, file in named):
        return tuple(opened(entry) for entry in named)
    return tuple(storage.in_parallel(opened, named))


def _table_for(connection: LakeConnection, identifier: Identifier, wanted: PublishRequest) -> Table:
    schema = iceberg_schema(wanted.schema)
    table = connection.load_or_create(
        identifier, schema, partition_spec(schema, wanted.partition_column)
    )
    found = partition_column(table)
    if found != wanted.partition_column:
        raise IncompatibleSchemaError(
            f"{'.'.join(identifier)} is partitioned by {found or 'nothing'}, "
            f"but published as if by {wanted.partition_column or 'nothing'}",
            fix="publish it as it is partitioned, or start the table over: "
            f"headrace reset {'/'.join(identifier)}",
        )
    return table


def _commit(
    name: str, table: Table, wanted: PublishRequest, entering: Sequence[_Entering]
) -> Commit:
    transaction = begin(table)
    before = table_schema(name, table.schema())
    if wanted.rebuild:
        change = plan_rebuild(before, wanted.schema)
        _require_all_days(name, table, wanted, change)
    else:
        change = plan_evolution(name, before, wanted.schema)
    evolve(transaction, change)
    metadata = transaction.table_metadata
    _check_columns(name, table_schema(name, metadata.schema()), entering)
    published = {file.file_path: file for file in _published(table, wanted)}
    layout = FileLayout.of(metadata)
    new = [e for e in entering if e.file.path not in published]
    staying = {e.file.path for e in entering}
    leaving = (
        []
        if wanted.mode == "append"
        else [file for path, file in published.items() if path not in staying]
    )
    snapshot = table.current_snapshot()
    if snapshot and entering and not (new or leaving or change):
        snapshot_id = snapshot.snapshot_id  # These very files are published: a repeated call.
    else:
        snapshot_id = commit_snapshot(
            table,
            transaction,
            removed=leaving,
            added=[layout.data_file(e.file, e.footer, e.day) for e in new],
            properties=wanted.properties,
        )
    return Commit(
        table=name,
        snapshot_id=snapshot_id,
        days=tuple(sorted(wanted.days)),
        rows=sum(e.file.rows for e in new),
        size_bytes=sum(e.file.size_bytes for e in new),
        files_added=len(new),
        files_removed=len(leaving),
    )


def _require_all_days(
    name: str, table: Table, wanted: PublishRequest, change: SchemaEvolution
) -> None:
    """See that no published file keeps a column of another type than the table's."""
    published = {partition_day(file) for file in planned_files(table, None)}
    if change.removed and (staying := sorted(published - {*wanted.files}, key=str)):
        raise IncompatibleSchemaError(
            f"{name}: {len(staying)} published days are not in the rebuild, {staying[0]} among "
            f"them: they would keep {', '.join(change.removed)} as it was; nothing changed",
            fix="see why they do not pass (headrace status), mend them, and rebuild again; or "
            f"start the table over: headrace reset {name.replace('.', '/', 1)}",
        )


def _check_columns(name: str, schema: TableSchema, entering: Sequence[_Entering]) -> None:
    # A year of files has one or two sets of columns: each is judged once.
    seen: dict[pa.Schema, str] = {}
    for entry in entering:
        columns = entry.footer.schema.to_arrow_schema().remove_metadata()
        seen.setdefault(columns, entry.file.path)
    for columns, path in seen.items():
        check_file(name, schema, path, columns)


def _published(table: Table, wanted: PublishRequest) -> list[DataFile]:
    days = wanted.days if wanted.partition_column else None
    return planned_files(table, days)
