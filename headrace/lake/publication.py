"""Publishing staged files: which enter, which leave, and trying again when another run was first.

Belongs here: the plan of a commit on the table as it is now, the checks before it, its retries.
Elsewhere: the snapshot itself (headrace.lake.commit), single files (headrace.lake.files).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import stamina
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from headrace.errors import CommitConflictError, IncompatibleSchemaError, StagedFileRejectedError
from headrace.lake.commit import Commit, begin, commit_snapshot, evolve
from headrace.lake.connection import Identifier, LakeConnection
from headrace.lake.files import FileLayout, check_day, read_footer
from headrace.lake.planning import partition_day, planned_files
from headrace.lake.schema import (
    SchemaChange,
    check_file,
    iceberg_schema,
    partition_column,
    partition_spec,
    plan_change,
    plan_rebuild,
    table_schema,
)
from headrace.lake.storage import Storage
from headrace.schema import TableSchema
from headrace.staged import StagedFile

# Runs that publish to one table take turns of about a tenth of a second: two minutes let hundreds
# of them through.
_CONFLICT_SECONDS = 120.0


@dataclass(frozen=True)
class Publication:
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


def publish(connection: LakeConnection, identifier: Identifier, wanted: Publication) -> Commit:
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
            with attempt, connection.answering():
                table = _table_for(connection, identifier, wanted)
                return _commit(name, table, wanted, entering)
    except CommitFailedException as error:
        raise CommitConflictError(
            f"{name}: other runs committed first for {_CONFLICT_SECONDS:.0f} seconds",
            fix="run the step again when fewer runs publish to this table",
        ) from error
    raise AssertionError("a retry context returns or raises")


def _opened(name: str, storage: Storage, wanted: Publication) -> tuple[_Entering, ...]:
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


def _table_for(connection: LakeConnection, identifier: Identifier, wanted: Publication) -> Table:
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


def _commit(name: str, table: Table, wanted: Publication, entering: Sequence[_Entering]) -> Commit:
    transaction = begin(table)
    before = table_schema(name, table.schema())
    if wanted.rebuild:
        change = plan_rebuild(before, wanted.schema)
        _require_all_days(name, table, wanted, change)
    else:
        change = plan_change(name, before, wanted.schema)
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


def _require_all_days(name: str, table: Table, wanted: Publication, change: SchemaChange) -> None:
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


def _published(table: Table, wanted: Publication) -> list[DataFile]:
    days = wanted.days if wanted.partition_column else None
    return planned_files(table, days)
