"""Scans: plans and reads the data files of a published state."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial, reduce
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as ds
from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    BooleanExpression,
    GreaterThanOrEqual,
    LessThanOrEqual,
)
from pyiceberg.manifest import DataFile, DataFileContent
from pyiceberg.table import ManifestGroupPlanner, Table

from headrace.errors import IncompatibleSchemaError, PublishedFileMissingError
from headrace.lake.parquet_files import day_of, read_footer
from headrace.lake.schema import partition_column, table_schema, widened_columns
from headrace.lake.storage import Storage
from headrace.schema import TableSchema
from headrace.staged import StagedFile

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

EVERYTHING: BooleanExpression = AlwaysTrue()

_FORMAT = ds.ParquetFileFormat()
# These bound memory to a few batches of a few files.
_BATCH_ROWS = 65_536
_BATCHES_AHEAD = 4
_FILES_AHEAD = 2


@dataclass(frozen=True)
class LakeScan:
    """The rows of some days of a table in one snapshot; later commits do not change it.

    Attributes:
        table: Name of the table.
        snapshot_id: The snapshot; None before the first publication.
        schema: Columns of the table; a column that an older file lacks is null.
        days: The requested days, including empty ones; by default the days with rows. Empty for a
            table without partitions, which is always read whole.
        files: The data files, sorted by day and name.
        files_by_day: The data files of each of `days`.
        widened: Columns that may have a narrower type in older files.
        storage: The storage of the files.
    """

    table: str
    snapshot_id: int | None
    schema: TableSchema
    days: tuple[date, ...]
    files: tuple[StagedFile, ...]
    files_by_day: Mapping[date, tuple[StagedFile, ...]]
    widened: frozenset[str]
    storage: Storage = field(repr=False, compare=False)

    @classmethod
    def of(
        cls,
        name: str,
        table: Table,
        storage: Storage,
        days: Collection[date] | None,
        where: BooleanExpression = EVERYTHING,
    ) -> "LakeScan":
        """Plan a read of a table's current snapshot."""
        # A table without partitions is read whole.
        days = days if partition_column(table) else None
        planned = planned_files(table, None if days is None else frozenset(days), where)
        return cls.of_files(name, table, storage, planned, days or ())

    @classmethod
    def of_files(
        cls,
        name: str,
        table: Table,
        storage: Storage,
        files: Iterable[DataFile],
        days: Collection[date] = (),
    ) -> "LakeScan":
        """A scan of these files of a table; its days are those of the files, and `days`."""
        snapshot = table.current_snapshot()
        ids = {f.field_id: f.name for f in table.schema().fields if f.field_type.is_primitive}
        found = sorted(((partition_day(f), _described(f, ids)) for f in files), key=_day_and_name)
        by_day: dict[date, list[StagedFile]] = {day: [] for day in sorted(days)}
        for day, file in found:
            if day is not None:
                by_day.setdefault(day, []).append(file)
        return cls(
            table=name,
            snapshot_id=snapshot.snapshot_id if snapshot else None,
            schema=table_schema(name, table.schema()),
            days=tuple(by_day),
            files=tuple(file for _, file in found),
            files_by_day={day: tuple(files) for day, files in by_day.items()},
            widened=widened_columns(table),
            storage=storage,
        )

    def only(self, files: Collection[StagedFile]) -> "LakeScan":
        """A scan of some of the files of this one, without days."""
        return replace(self, files=tuple(files), days=(), files_by_day={})

    @property
    def total_rows(self) -> int:
        """Rows of all files, from metadata."""
        return sum(file.rows for file in self.files)

    @property
    def total_bytes(self) -> int:
        """Compressed bytes of all files."""
        return sum(file.size_bytes for file in self.files)

    def rows(self, day: date) -> int:
        """Rows of a day, from metadata."""
        return sum(file.rows for file in self.files_by_day[day])

    def size_bytes(self, day: date) -> int:
        """Compressed bytes of a day's files."""
        return sum(file.size_bytes for file in self.files_by_day[day])

    def paths(self, days: Collection[date] | None = None) -> list[str]:
        """URIs of the files of `days`, or of all; KeyError for a day that is not in the scan."""
        return [file.path for file in self._chosen(days)]

    def batches(
        self, days: Collection[date] | None = None, columns: Sequence[str] | None = None
    ) -> pa.RecordBatchReader:
        """The rows in the order of days and files, in batches, with bounded memory.

        Columns that a file lacks are null; narrower types are widened.

        Raises:
            PublishedFileMissingError: A data file of the table does not exist.
            KeyError: A day is not in the scan, or a column is not in the table.
        """
        names = list(self.schema.names if columns is None else columns)
        chosen = self._verified(days)
        columns_read = pa.schema([self.schema.arrow().field(name) for name in names])
        dataset = ds.FileSystemDataset(
            [
                _FORMAT.make_fragment(self.storage.path(f.path), self.storage.filesystem)
                for f in chosen
            ],
            schema=self.schema.arrow(),
            format=_FORMAT,
            filesystem=self.storage.filesystem,
        )
        scanner = dataset.scanner(
            columns=names,
            batch_size=_BATCH_ROWS,
            batch_readahead=_BATCHES_AHEAD,
            fragment_readahead=_FILES_AHEAD,
        )
        return pa.RecordBatchReader.from_batches(columns_read, scanner.to_reader())

    def frame(self, spark: "SparkSession", days: Collection[date] | None = None) -> "DataFrame":
        """The rows as a DataFrame with all columns of the table.

        Raises:
            PublishedFileMissingError: A data file of the table does not exist.
            KeyError: A day is not in the scan.
        """
        # Imported here: batches can be read without Spark installed.
        from headrace.engine.values.types import spark_schema  # noqa: PLC0415

        columns = spark_schema(self.schema)
        # Sail reads a missing path as an empty frame.
        paths = [file.path for file in self._verified(days)]
        if not paths:
            return spark.createDataFrame([], columns)
        # With a schema, both engines fill missing columns and widen types.
        reader = spark.read.schema(columns)
        return reduce(
            lambda a, b: a.unionAll(b), (reader.parquet(*p) for p in self._grouped_by_types(paths))
        )

    def verify(self, days: Collection[date] | None = None) -> None:
        """Check that the files of `days`, or all files, exist and have their recorded size.

        Raises:
            PublishedFileMissingError: A file is missing, or has another size.
        """
        self._verified(days)

    def _chosen(self, days: Collection[date] | None) -> Sequence[StagedFile]:
        if days is None:
            return self.files
        return [file for day in sorted(set(days)) for file in self.files_by_day[day]]

    def _verified(self, days: Collection[date] | None) -> Sequence[StagedFile]:
        chosen = self._chosen(days)
        sizes = self.storage.sizes([file.path for file in chosen])
        damaged = [file for file in chosen if sizes.get(file.path) != file.size_bytes]
        if damaged:
            found = sizes.get(damaged[0].path)
            state = "is missing" if found is None else f"has {found} bytes"
            raise PublishedFileMissingError(
                f"{self.table}: {len(damaged)} data files of snapshot {self.snapshot_id} are lost; "
                f"{damaged[0].path}, {damaged[0].size_bytes} bytes, {state}",
                fix="restore the files, or publish their days again: "
                + ", ".join(self._days_with(damaged) or ["the whole table"]),
            )
        return chosen

    def _grouped_by_types(self, paths: Sequence[str]) -> list[list[str]]:
        """The files in groups of equal types: Sail 0.7 cannot read different types at once."""
        if not self.widened:
            return [list(paths)]
        groups: dict[tuple[str | None, ...], list[str]] = {}
        footers = self.storage.in_parallel(partial(read_footer, self.storage), paths)
        for path, footer in zip(paths, footers, strict=True):
            types = {field.name: str(field.type) for field in footer.schema.to_arrow_schema()}
            key = tuple(types.get(name) for name in sorted(self.widened))
            groups.setdefault(key, []).append(path)
        return list(groups.values())

    def _days_with(self, damaged: Sequence[StagedFile]) -> list[str]:
        paths = {file.path for file in damaged}
        days = self.files_by_day.items()
        return [str(day) for day, files in days if any(file.path in paths for file in files)]


def planned_files(
    table: Table, days: frozenset[date] | None, where: BooleanExpression = EVERYTHING
) -> list[DataFile]:
    """The data files of the current snapshot with rows of `days`, or all data files.

    Files are skipped if their bounds exclude `where`.

    Raises:
        IncompatibleSchemaError: The table has delete files of another program, which a read of the
            data files alone would ignore.
    """
    snapshot = table.current_snapshot()
    if snapshot is None or (days is not None and not days):
        return []
    condition = And(_between(table, days), where)
    # Not Table.scan, which also computes the residual filter of each file, in 5 ms a file.
    planner = ManifestGroupPlanner(table.metadata, table.io, condition)
    entries = planner.plan_manifest_entries(snapshot.manifests(table.io))
    files = [entry.data_file for entry in chain.from_iterable(entries)]
    if any(file.content != DataFileContent.DATA for file in files):
        _refuse_deletes(table, condition, days)
        files = [file for file in files if file.content == DataFileContent.DATA]
    return [file for file in files if days is None or partition_day(file) in days]


def partition_day(file: DataFile) -> date | None:
    """The day of a data file; None in a table without partitions."""
    partition = file.partition
    return day_of(partition[0]) if len(partition) else None


def _refuse_deletes(
    table: Table, condition: BooleanExpression, days: frozenset[date] | None
) -> None:
    """Raise if a delete file applies to a data file, as PyIceberg's own planner finds out."""
    for task in table.scan(row_filter=condition).plan_files():
        if task.delete_files and (days is None or partition_day(task.file) in days):
            raise IncompatibleSchemaError(
                f"{'.'.join(table.name())}: {task.file.file_path} has rows deleted by reference",
                fix="rewrite the table's data files with the program that deleted the rows",
            )


def _between(table: Table, days: frozenset[date] | None) -> BooleanExpression:
    """Condition: the day lies between the first and the last of `days`."""
    # This suffices to skip manifests; the caller selects the exact days.
    column = partition_column(table)
    if days is None or column is None:
        return AlwaysTrue()
    return And(
        GreaterThanOrEqual(term=column, value=min(days).isoformat()),
        LessThanOrEqual(term=column, value=max(days).isoformat()),
    )


def _described(file: DataFile, names: Mapping[int, str]) -> StagedFile:
    """The description of a published file.

    Args:
        file: Iceberg's metadata of the file.
        names: Column names by field id.
    """
    nulls = file.null_value_counts or {}
    return StagedFile(
        path=file.file_path,
        rows=file.record_count,
        size_bytes=file.file_size_in_bytes,
        null_counts={name: nulls[number] for number, name in names.items() if number in nulls},
    )


def _day_and_name(found: tuple[date | None, StagedFile]) -> tuple[date, str]:
    return found[0] or date.min, found[1].path
