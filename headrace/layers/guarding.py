"""A second opinion on staged files, by pandera, before they are published.

Belongs here: taking a sample of what is staged and validating it.
Elsewhere: the schemas (headrace.quality.frames), the audit of every row (the layers' steps).
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.lake.storage import Storage
from headrace.quality.frames import SAMPLE_ROWS, frame_schema, guard
from headrace.schema import TableSchema
from headrace.staged import StagedFile


def guard_files(
    name: str,
    schema: TableSchema,
    storage: Storage,
    files: Sequence[StagedFile],
    key: Sequence[str] = (),
) -> None:
    """Validate the first rows of the largest staged file against pandera's schema of the table.

    Args:
        name: The table, for the message.
        schema: What the table declares.
        storage: Where the files are.
        files: Of one staging; none is fine.
        key: Columns that identify a row.

    Raises:
        IncompatibleSchemaError: The rows are not what is declared.
    """
    if not files:
        return
    largest = max(files, key=lambda file: file.rows)
    with storage.open(largest.path) as source:
        batch = next(pq.ParquetFile(source).iter_batches(batch_size=SAMPLE_ROWS), None)
    if batch is not None:
        guard(frame_schema(name, schema, key), pa.Table.from_batches([batch]))


def guard_rows(name: str, schema: TableSchema, rows: pa.RecordBatchReader) -> None:
    """Validate the first rows of a stream, which is closed then, like `guard_files`."""
    with rows:
        batch = next(iter(rows), None)
    if batch is not None:
        guard(frame_schema(name, schema), pa.Table.from_batches([batch]))
