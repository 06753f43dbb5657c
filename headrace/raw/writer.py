"""Parquet data files of raw, one per partition and captured version."""

import errno
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from tempfile import SpooledTemporaryFile, gettempdir
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from headrace.errors import StorageRejectedError, StorageUnavailableError
from headrace.schema import PARTITION_COLUMN
from headrace.staged import StagedFile

# A day's file has about 100 KB; a larger one is written to disk first.
_IN_MEMORY_BYTES = 2**20
# Rows take about ten times as much memory as their Parquet.
_SHRINKS_BY = 8
# Rows of all days that are buffered before they become row groups: 32 MiB are about 250,000 rows.
_WAITING_BYTES = 32 * 2**20
# Columns get dictionaries from this many rows on. Without them, a day of 3,000 rows takes a quarter
# less CPU and space; 64,000 rows take a tenth more space. Sail reads both at one speed.
_ROWS_FOR_DICTIONARIES = 16_384
# With fewer rows, starting zstd takes 0.3 ms of a file's 0.7 ms, and saves no space.
_ROWS_FOR_ZSTD = 512
# Every value differs, so a dictionary only costs.
_DISTINCT = {"_source_position", "_row_hash"}
# Readers find a day's file by the bounds of these columns. No query filters raw by its texts, whose
# bounds would take a fifth of the time to write a file.
_BOUNDED = (PARTITION_COLUMN,)


@dataclass(frozen=True)
class DataFolder:
    """The folder of a table's data files, as Arrow writes it and as engines name it.

    Attributes:
        filesystem: Where it is.
        path: Its path there.
        uri: The same folder as the engine reads it; without a slash at its end.
    """

    filesystem: fs.FileSystem
    path: str
    uri: str

    def delete(self, files: Sequence[StagedFile]) -> None:
        """Delete files of this folder; a missing one is no error."""
        for file in files:
            try:
                self.filesystem.delete_file(self.path + file.path.removeprefix(self.uri))
            except FileNotFoundError:
                continue


class _Encoding:
    """A Parquet file under construction, in memory or on disk, that has no name yet."""

    def __init__(
        self, schema: pa.Schema, bounded: Sequence[str], first: pa.Table, *, are_all: bool
    ) -> None:
        self.sink = _sink(first.nbytes if are_all else None)
        has_many = first.num_rows >= _ROWS_FOR_DICTIONARIES
        is_small = are_all and first.num_rows < _ROWS_FOR_ZSTD
        self.writer = pq.ParquetWriter(
            self.sink,
            schema,
            # Of a year, 1.47M rows, zstd makes 29 MB in 1.0 s, snappy 39 MB in 0.9 s; Sail reads
            # them in 0.23 and 0.24 s.
            compression="snappy" if is_small else "zstd",
            compression_level=None if is_small else 1,
            use_dictionary=[f.name for f in schema if _has_dictionary(f, has_many=has_many)],
            write_statistics=[*_BOUNDED, *bounded],
            # Arrow's own copy of the schema would make readers of Arrow see dictionaries.
            store_schema=False,
        )

    def finish(self, footer: Mapping[str, str]) -> tuple[Any, int]:
        """The file, ready to be read, and its size."""
        self.writer.add_key_value_metadata(dict(footer))
        self.writer.close()
        size = self.sink.tell()
        if isinstance(self.sink, pa.BufferOutputStream):
            return pa.BufferReader(self.sink.getvalue()), size
        self.sink.seek(0)
        return self.sink, size

    def discard(self) -> None:
        # Closing writes buffered rows, for which there may be no space; they are discarded anyway.
        with suppress(OSError):
            self.writer.close()
        with suppress(OSError):
            self.sink.close()


class PartitionWriter:
    """Writes the rows of one source object in one partition as one Parquet file.

    Columns that are `bounded` have bounds in each row group, besides the partition's.
    """

    def __init__(self, schema: pa.Schema, bounded: Sequence[str] = ()) -> None:
        self._schema, self._bounded = schema, bounded
        self._encoding: _Encoding | None = None
        self._nulls: Counter[str] = Counter()
        self._content = hashlib.sha256()
        self.rows = 0

    @property
    def content_id(self) -> str:
        """16 hexadecimal digits that identify the rows in their order."""
        return self._content.hexdigest()[:16]

    def write(self, batches: Sequence[pa.RecordBatch], *, are_all: bool = True) -> None:
        """Add rows, as one row group; `are_all` if there were none before and none will follow."""
        table = pa.Table.from_batches(batches)
        for batch in batches:
            self._content.update(batch.column("_row_hash").to_numpy().tobytes())
        self._nulls.update({n: table.column(n).null_count for n in self._schema.names})
        self.rows += table.num_rows
        with _writing(_temporary()):
            encoding = self._encoding or _Encoding(
                self._schema, self._bounded, table, are_all=are_all
            )
            self._encoding = encoding
            encoding.writer.write_table(table, row_group_size=table.num_rows)

    def store(
        self, folder: DataFolder, name: str, footer: Mapping[str, str] | None = None
    ) -> StagedFile:
        """Write the file to `name` in the folder; no table refers to it yet.

        Args:
            folder: The folder of the table's data files.
            name: The file's path in it.
            footer: Key-value metadata of the file.

        Raises:
            StorageUnavailableError: It could not be written; no part of it is left.
            StorageRejectedError: We lack the right to write it.
        """
        encoding = self._encoding
        if encoding is None:
            raise ValueError("there are no rows to store")
        with _writing(_temporary()):
            encoded, size = encoding.finish(footer or {})
        path = f"{folder.path}/{name}"
        with _writing(f"{folder.uri}/{name}"):
            try:
                with _created(folder.filesystem, path) as target, encoded as source:
                    shutil.copyfileobj(source, target, _IN_MEMORY_BYTES)
            except OSError:
                with suppress(OSError):
                    folder.filesystem.delete_file(path)
                raise
        nulls = {column: self._nulls[column] for column in self._schema.names}
        written = encoding.writer.writer.metadata
        return StagedFile(f"{folder.uri}/{name}", self.rows, size, nulls, written)

    def discard(self) -> None:
        """Discard the rows."""
        if self._encoding is not None:
            self._encoding.discard()


class ObjectWriter:
    """Writes the rows of one source object by partition, buffered until row groups are full."""

    def __init__(self, schema: pa.Schema, bounded: Sequence[str] = ()) -> None:
        self._schema, self._bounded = schema, bounded
        self._waiting: dict[date, list[pa.RecordBatch]] = {}
        self._waiting_bytes = 0
        self.by_partition: dict[date, PartitionWriter] = {}

    def add(self, day: date, batch: pa.RecordBatch) -> None:
        """Buffer rows of a day."""
        if not batch.num_rows:
            return
        self._waiting.setdefault(day, []).append(batch)
        self._waiting_bytes += batch.nbytes
        if self._waiting_bytes >= _WAITING_BYTES:
            self._write_waiting(are_last=False)

    def finish(self) -> None:
        """Write the buffered rows; no more follow."""
        self._write_waiting(are_last=True)

    def _write_waiting(self, *, are_last: bool) -> None:
        for day, batches in self._waiting.items():
            are_all = are_last and day not in self.by_partition
            if day not in self.by_partition:
                self.by_partition[day] = PartitionWriter(self._schema, self._bounded)
            self.by_partition[day].write(batches, are_all=are_all)
        self._waiting.clear()
        self._waiting_bytes = 0

    def discard(self) -> None:
        """Discard rows that were not stored."""
        for writer in self.by_partition.values():
            writer.discard()


def _temporary() -> str:
    # Not at import: Python finds the folder by writing to it.
    return f"a temporary file in {gettempdir()}"


def _sink(all_bytes: int | None) -> Any:
    """Where Parquet is written: memory for few rows if there are no more, else a spooled file."""
    if all_bytes is not None and all_bytes <= _SHRINKS_BY * _IN_MEMORY_BYTES:
        # Faster than a Python file, to which Arrow writes in small pieces, each under the GIL.
        return pa.BufferOutputStream()
    return SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)


def _has_dictionary(field: pa.Field, *, has_many: bool) -> bool:
    if pa.types.is_dictionary(field.type):
        return True  # One value in all rows.
    return field.name not in _DISTINCT and has_many


@contextmanager
def _writing(what: str) -> Iterator[None]:
    """Convert an OSError into an error that names the file and the remedy."""
    try:
        yield
    except OSError as error:
        known = error.errno in errno.errorcode
        why = os.strerror(error.errno) if known and error.errno else str(error).splitlines()[0]
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise StorageRejectedError(
                f"{what} may not be written: {why}",
                fix="give the user that runs Headrace the right to write there",
            ) from error
        raise StorageUnavailableError(
            f"{what} could not be written: {why}",
            fix="free space there, or see that the storage answers; then run the days again",
        ) from error


def _created(filesystem: fs.FileSystem, path: str) -> pa.NativeFile:
    try:
        return filesystem.open_output_stream(path)
    except FileNotFoundError:
        # Only a local folder must exist first; on S3, creating one would leave an empty object.
        filesystem.create_dir(path.rpartition("/")[0])
        return filesystem.open_output_stream(path)
