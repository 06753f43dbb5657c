"""Pandera schemas generated from declared columns, and validation of staged rows by them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.errors import IncompatibleSchemaError
from headrace.schema import TableSchema, arrow_type
from headrace.staged import StagedFile

if TYPE_CHECKING:
    import pandera.pandas as pandera

SAMPLE_ROWS = 1_000


def frame_schema(
    name: str, schema: TableSchema, key: Sequence[str] = ()
) -> "pandera.DataFrameSchema":
    """The pandera schema of a table: exact types, column order, NULLs, unique key.

    Args:
        name: The table's name, for messages and the UI.
        schema: Its columns.
        key: Columns that are unique among the rows validated together.
    """
    # Imported here so that commands that publish nothing do not pay for them.
    import pandas as pd  # noqa: PLC0415, TID251  # pandera's frames are pandas'

    from headrace.quality.pandera_import import pandera  # noqa: PLC0415

    columns = {
        column.name: pandera.Column(
            pd.ArrowDtype(arrow_type(column.type)),
            nullable=column.nullable,
            description=column.description or None,
        )
        for column in schema
    }
    return pandera.DataFrameSchema(
        columns, name=name, strict=True, ordered=True, unique=list(key) or None
    )


def validate_sample(frame: "pandera.DataFrameSchema", sample: pa.Table) -> None:
    """Validate the first rows of a staged table.

    Raises:
        IncompatibleSchemaError: The rows do not match the schema. The message names column and
            check, never a value.
    """
    import pandas as pd  # noqa: PLC0415, TID251
    from pandera.errors import SchemaError, SchemaErrors  # noqa: PLC0415

    rows = sample.slice(0, SAMPLE_ROWS).to_pandas(types_mapper=pd.ArrowDtype)
    try:
        frame.validate(rows, lazy=True)
    except (SchemaErrors, SchemaError) as error:
        raise IncompatibleSchemaError(
            f"{frame.name}: staged rows do not match the declared schema: {_failures(error)}",
            fix="compare the entity's columns in config/ with what its transform returns",
        ) from None


def _failures(error: Exception) -> str:
    cases = getattr(error, "failure_cases", None)
    if cases is None or not hasattr(cases, "columns"):
        return type(error).__name__
    pairs = {(str(row.column), str(row.check)) for row in cases.itertuples()}
    return "; ".join(f"{column}: {check}" for column, check in sorted(pairs))


class OpensFiles(Protocol):
    """A storage that holds staged files, such as `headrace.lake.storage.Storage`."""

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading."""


def validate_files(
    name: str,
    schema: TableSchema,
    storage: OpensFiles,
    files: Sequence[StagedFile],
    key: Sequence[str] = (),
) -> None:
    """Validate the first rows of the largest staged file.

    Args:
        name: The table's name, for the message.
        schema: The declared columns.
        storage: The storage that holds the files.
        files: Files of one staging; may be empty.
        key: Columns that identify a row.

    Raises:
        IncompatibleSchemaError: The rows do not match the schema.
    """
    if not files:
        return
    largest = max(files, key=lambda file: file.rows)
    with storage.open(largest.path) as source:
        batch = next(pq.ParquetFile(source).iter_batches(batch_size=SAMPLE_ROWS), None)
    if batch is not None:
        validate_sample(frame_schema(name, schema, key), pa.Table.from_batches([batch]))


def validate_rows(name: str, schema: TableSchema, rows: pa.RecordBatchReader) -> None:
    """Validate the first rows of a stream as `validate_files` does, and close the stream."""
    with rows:
        batch = next(iter(rows), None)
    if batch is not None:
        validate_sample(frame_schema(name, schema), pa.Table.from_batches([batch]))
