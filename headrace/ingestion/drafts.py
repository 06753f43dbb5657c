"""Data files of raw while their names are not known yet.

Belongs here: rows of one day as Parquet, kept aside until their content is known, then stored.
Elsewhere: what the rows are (headrace.ingestion.rows), whether they are new (…capture).
"""

import errno
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from tempfile import SpooledTemporaryFile, gettempdir

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from headrace.errors import StorageRejectedError, StorageUnavailableError
from headrace.staged import StagedFile

# A day's file is some 100 KB; a file of a day that is larger goes through the disk.
_IN_MEMORY_BYTES = 2**20
# Rows of all days that wait to become row groups: 32 MiB are some 250,000.
_WAITING_BYTES = 32 * 2**20
# Every value differs, so a dictionary only costs.
_DISTINCT = {"_line", "_row_hash"}


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
        """Delete files of this folder; one that is gone already is no error."""
        for file in files:
            try:
                self.filesystem.delete_file(self.path + file.path.removeprefix(self.uri))
            except FileNotFoundError:
                continue


class DayDraft:
    """The rows of one landing file on one day, as Parquet."""

    def __init__(self, schema: pa.Schema) -> None:
        self._spool = SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115
        self._writer = pq.ParquetWriter(
            self._spool,
            schema,
            # Measured on a year, 1.47M rows: zstd 29 MB in 1.0 s and read in 0.23 s by Sail;
            # snappy 39 MB, 0.9 s, 0.24 s; without dictionaries 28 MB, 1.1 s, 0.3 s.
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name in schema.names if name not in _DISTINCT],
            # Arrow's own copy of the schema would make readers of Arrow see dictionaries.
            store_schema=False,
        )
        self._names = schema.names
        self._nulls: Counter[str] = Counter()
        self._content = hashlib.sha256()
        self.rows = 0

    @property
    def content_id(self) -> str:
        """16 hexadecimal digits that stand for the rows, in their order."""
        return self._content.hexdigest()[:16]

    def write(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Add rows, as one row group."""
        table = pa.Table.from_batches(batches)
        for batch in batches:
            self._content.update(batch.column("_row_hash").to_numpy().tobytes())
        self._nulls.update({n: table.column(n).null_count for n in self._names})
        self.rows += table.num_rows
        with _writing(f"a temporary file in {gettempdir()}"):
            self._writer.write_table(table, row_group_size=table.num_rows)

    def store(self, folder: DataFolder, name: str) -> StagedFile:
        """Write the file to `name` in the folder; no table refers to it yet.

        Raises:
            StorageUnavailableError: It could not be written, and nothing is left of it.
            StorageRejectedError: It may not be written.
        """
        with _writing(f"a temporary file in {gettempdir()}"):
            self._writer.close()
            size = self._spool.tell()
            self._spool.seek(0)
        path = f"{folder.path}/{name}"
        with _writing(f"{folder.uri}/{name}"):
            try:
                with _created(folder.filesystem, path) as target, self._spool as source:
                    shutil.copyfileobj(source, target, _IN_MEMORY_BYTES)
            except OSError:
                with suppress(OSError):
                    folder.filesystem.delete_file(path)
                raise
        nulls = {column: self._nulls[column] for column in self._names}
        return StagedFile(
            f"{folder.uri}/{name}", self.rows, size, nulls, self._writer.writer.metadata
        )

    def discard(self) -> None:
        """Forget the rows."""
        # Closing writes what waits, for which there may be no room; it is not wanted any more.
        with suppress(OSError):
            self._writer.close()
        with suppress(OSError):
            self._spool.close()


class DayDrafts:
    """The rows of one landing file, by day. Rows wait until there are enough for row groups."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._waiting: dict[date, list[pa.RecordBatch]] = {}
        self._waiting_bytes = 0
        self.by_day: dict[date, DayDraft] = {}

    def add(self, day: date, batch: pa.RecordBatch) -> None:
        """Take rows of a day."""
        self._waiting.setdefault(day, []).append(batch)
        self._waiting_bytes += batch.nbytes
        if self._waiting_bytes >= _WAITING_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write all rows that wait."""
        for day, batches in self._waiting.items():
            if day not in self.by_day:
                self.by_day[day] = DayDraft(self._schema)
            self.by_day[day].write(batches)
        self._waiting.clear()
        self._waiting_bytes = 0

    def discard(self) -> None:
        """Forget what was not stored."""
        for draft in self.by_day.values():
            draft.discard()


@contextmanager
def _writing(what: str) -> Iterator[None]:
    """Name the file that could not be written, and what to do about it."""
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
        # Only local folders must exist first; asking S3 for one would leave an object behind.
        filesystem.create_dir(path.rpartition("/")[0])
        return filesystem.open_output_stream(path)
