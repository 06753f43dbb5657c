"""Reading published states: which files they are, and their rows."""

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

EVERYTHING: BooleanExpression = AlwaysTrue()


def planned_files(
    table: Table, days: frozenset[date] | None, where: BooleanExpression = EVERYTHING
) -> list[DataFile]:
    """The files of the current snapshot that hold rows of `days`, or all of them.

    Files that by their statistics have no row of `where` are left out.

    Raises:
        IncompatibleSchemaError: Another program marked single rows as deleted, which reading the
            files themselves would bring back.
    """
    snapshot = table.current_snapshot()
    if snapshot is None or (days is not None and not days):
        return []
    wanted = And(_between(table, days), where)
    # A scan's own plan also says what is left to filter in each file: 5 ms a file, for nothing.
    planner = ManifestGroupPlanner(table.metadata, table.io, wanted)
    entries = planner.plan_manifest_entries(snapshot.manifests(table.io))
    files = [entry.data_file for entry in chain.from_iterable(entries)]
    if any(file.content != DataFileContent.DATA for file in files):
        _refuse_deletes(table, wanted, days)
        files = [file for file in files if file.content == DataFileContent.DATA]
    return [file for file in files if days is None or partition_day(file) in days]


def _refuse_deletes(table: Table, wanted: BooleanExpression, days: frozenset[date] | None) -> None:
    """Rows deleted before a file was written are no matter: PyIceberg knows which those are."""
    for task in table.scan(row_filter=wanted).plan_files():
        if task.delete_files and (days is None or partition_day(task.file) in days):
            raise IncompatibleSchemaError(
                f"{'.'.join(table.name())}: {task.file.file_path} has rows deleted by reference",
                fix="rewrite the table's data files with the program that deleted the rows",
            )


def _between(table: Table, days: frozenset[date] | None) -> BooleanExpression:
    # The outer bounds suffice to skip manifests, and cost the same for 2 days as for 366; the
    # caller then picks exactly.
    column = partition_column(table)
    if days is None or column is None:
        return AlwaysTrue()
    return And(
        GreaterThanOrEqual(term=column, value=min(days).isoformat()),
        LessThanOrEqual(term=column, value=max(days).isoformat()),
    )


def partition_day(file: DataFile) -> date | None:
    """The day whose rows a file has; None in a table without partitions."""
    partition = file.partition
    return day_of(partition[0]) if len(partition) else None


def staged_file(file: DataFile, names: Mapping[int, str]) -> StagedFile:
    """A published file as the platform names files.

    Args:
        file: As Iceberg lists it.
        names: Columns by their number in the table.
    """
    nulls = file.null_value_counts or {}
    return StagedFile(
        path=file.file_path,
        rows=file.record_count,
        size_bytes=file.file_size_in_bytes,
        null_counts={name: nulls[number] for number, name in names.items() if number in nulls},
    )


if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# Rows of a batch, and how much is read ahead: bounds memory at a few batches of a few files.
_BATCH_ROWS = 65_536
_BATCHES_AHEAD = 4
_FILES_AHEAD = 2


@dataclass(frozen=True)
class LakeScan:
    """The rows of some days of a table, as one snapshot has them, however late they are read.

    Attributes:
        table: Name of the table.
        snapshot_id: The snapshot; None while nothing is published.
        schema: Columns of the table; older files may lack some, which read as null.
        days: The days asked for, empty ones too; without a choice, the days that have rows; none
            in a table without partitions, which is always read whole.
        files: The files that hold the rows, by day and name.
        files_by_day: The files of each of `days`; an empty day has none.
        widened: Columns that older files may hold in a narrower type.
        storage: Where the files are.
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
        """Plan the reading of a table's current snapshot."""
        # A table without partitions has no days to choose from: it is read whole.
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
        """Read these files of a table, and no others; `days` are named though they be empty."""
        snapshot = table.current_snapshot()
        ids = {f.field_id: f.name for f in table.schema().fields if f.field_type.is_primitive}
        found = sorted(((partition_day(f), staged_file(f, ids)) for f in files), key=_day_and_name)
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
        """Some of its files, of a table without partitions, as a scan of their own."""
        return replace(self, files=tuple(files), days=(), files_by_day={})

    @property
    def total_rows(self) -> int:
        """Rows of all files, from the snapshot alone."""
        return sum(file.rows for file in self.files)

    @property
    def total_bytes(self) -> int:
        """Bytes of all files, as compressed."""
        return sum(file.size_bytes for file in self.files)

    def rows(self, day: date) -> int:
        """Rows of a day, from the snapshot alone."""
        return sum(file.rows for file in self.files_by_day[day])

    def size_bytes(self, day: date) -> int:
        """Bytes of a day's files, as compressed."""
        return sum(file.size_bytes for file in self.files_by_day[day])

    def paths(self, days: Collection[date] | None = None) -> list[str]:
        """URIs of the files of `days`, or of all; KeyError for a day that was not asked for."""
        return [file.path for file in self._chosen(days)]

    def batches(
        self, days: Collection[date] | None = None, columns: Sequence[str] | None = None
    ) -> pa.RecordBatchReader:
        """The rows in the order of days and files, a batch at a time, with bounded memory.

        Columns that a file lacks are null, narrower types are widened.

        Raises:
            PublishedFileMissingError: A file that the table names is not there.
            KeyError: A day was not asked for, or a column is not in the table.
        """
        names = list(self.schema.names if columns is None else columns)
        chosen = self._verified(days)
        wanted = pa.schema([self.schema.arrow().field(name) for name in names])
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
        return pa.RecordBatchReader.from_batches(wanted, scanner.to_reader())

    def frame(self, spark: "SparkSession", days: Collection[date] | None = None) -> "DataFrame":
        """The rows as a frame of the engine, every column of the table in its type.

        Raises:
            PublishedFileMissingError: A file that the table names is not there.
            KeyError: A day was not asked for.
        """
        # Here, because a reader of Arrow batches need not have Spark installed.
        from headrace.engine.types import spark_schema  # noqa: PLC0415

        columns = spark_schema(self.schema)
        # Sail reads a missing path as no rows, silently.
        paths = [file.path for file in self._verified(days)]
        if not paths:
            return spark.createDataFrame([], columns)
        # With the schema given, both engines fill columns that a file lacks and widen types.
        reader = spark.read.schema(columns)
        return reduce(lambda a, b: a.unionAll(b), (reader.parquet(*p) for p in self._alike(paths)))

    def verify(self, days: Collection[date] | None = None) -> None:
        """See that the files of `days`, or of all, are there and have the size they had.

        Raises:
            PublishedFileMissingError: One is missing or another file has its name.
        """
        self._verified(days)

    def _chosen(self, days: Collection[date] | None) -> Sequence[StagedFile]:
        if days is None:
            return self.files
        return [file for day in sorted(set(days)) for file in self.files_by_day[day]]

    def _verified(self, days: Collection[date] | None) -> Sequence[StagedFile]:
        chosen = self._chosen(days)
        sizes = self.storage.sizes([file.path for file in chosen])
        lost = [file for file in chosen if sizes.get(file.path) != file.size_bytes]
        if lost:
            found = sizes.get(lost[0].path)
            state = "is not there" if found is None else f"has {found} bytes"
            raise PublishedFileMissingError(
                f"{self.table}: snapshot {self.snapshot_id} names {len(lost)} files that are lost; "
                f"{lost[0].path}, {lost[0].size_bytes} bytes, {state}",
                fix="restore the files, or publish their days again: "
                + ", ".join(self._days_with(lost) or ["the whole table"]),
            )
        return chosen

    def _alike(self, paths: Sequence[str]) -> list[list[str]]:
        """The files in groups that have the same types: Sail 0.7 reads no others together."""
        if not self.widened:
            return [list(paths)]
        groups: dict[tuple[str | None, ...], list[str]] = {}
        footers = self.storage.in_parallel(partial(read_footer, self.storage), paths)
        for path, footer in zip(paths, footers, strict=True):
            types = {field.name: str(field.type) for field in footer.schema.to_arrow_schema()}
            key = tuple(types.get(name) for name in sorted(self.widened))
            groups.setdefault(key, []).append(path)
        return list(groups.values())

    def _days_with(self, lost: Sequence[StagedFile]) -> list[str]:
        paths = {file.path for file in lost}
        days = self.files_by_day.items()
        return [str(day) for day, files in days if any(file.path in paths for file in files)]


_FORMAT = ds.ParquetFileFormat()


def _day_and_name(found: tuple[date | None, StagedFile]) -> tuple[date, str]:
    return found[0] or date.min, found[1].path
