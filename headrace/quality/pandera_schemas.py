"""Pandera schemas made from declared columns, and validation of staged rows by them."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.errors import IncompatibleSchemaError
from headrace.schema import TableSchema, arrow_type
from headrace.staged import StagedFile

# For data made up from a schema, and for pandas' interface to PySpark: together they take twice as
# long as all the rest (0.35 s of each command that publishes).
_UNUSED = ("hypothesis", "pyspark.pandas")


@contextmanager
def _unseen(modules: Sequence[str]) -> Iterator[None]:
    """Let imports do without modules that nobody imported yet."""
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: not to be found
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _unseen(_UNUSED):
    import pandera.pandas as pandera

    # It would import this with the first frame.
    import_module("pandera.backends.pandas.builtin_checks")

__all__ = ["pandera"]


if TYPE_CHECKING:
    import pandera.pandas as pandera

SAMPLE_ROWS = 1_000


def frame_schema(
    name: str, schema: TableSchema, key: Sequence[str] = ()
) -> "pandera.DataFrameSchema":
    """A table's columns as pandera sees them: exact types, order, NULLs, unique key.

    Args:
        name: The table, for messages and the UI.
        schema: Its columns.
        key: Columns that identify a row among those validated together.
    """
    # Imports that a command which publishes nothing should not wait for.
    import pandas as pd  # noqa: PLC0415, TID251  # pandera's frames are pandas'

    from headrace.quality.pandera_schemas import pandera  # noqa: PLC0415

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


def guard(frame: "pandera.DataFrameSchema", sample: pa.Table) -> None:
    """Validate staged rows before anybody can see them.

    Raises:
        IncompatibleSchemaError: They are not what the configuration declares; names column and
            check, never a value.
    """
    import pandas as pd  # noqa: PLC0415, TID251
    from pandera.errors import SchemaError, SchemaErrors  # noqa: PLC0415

    rows = sample.slice(0, SAMPLE_ROWS).to_pandas(types_mapper=pd.ArrowDtype)
    try:
        frame.validate(rows, lazy=True)
    except (SchemaErrors, SchemaError) as error:
        raise IncompatibleSchemaError(
            f"{frame.name}: staged rows break the declared schema: {_broken(error)}",
            fix="compare the entity's columns in config/ with what its transform returns",
        ) from None


def _broken(error: Exception) -> str:
    cases = getattr(error, "failure_cases", None)
    if cases is None or not hasattr(cases, "columns"):
        return type(error).__name__
    pairs = {(str(row.column), str(row.check)) for row in cases.itertuples()}
    return "; ".join(f"{column}: {check}" for column, check in sorted(pairs))


class OpensFiles(Protocol):
    """Where staged files are, such as `headrace.lake.storage.Storage`."""

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading."""


def validate_files(
    name: str,
    schema: TableSchema,
    storage: OpensFiles,
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


def validate_rows(name: str, schema: TableSchema, rows: pa.RecordBatchReader) -> None:
    """Validate the first rows of a stream, which is closed then, like `validate_files`."""
    with rows:
        batch = next(iter(rows), None)
    if batch is not None:
        guard(frame_schema(name, schema), pa.Table.from_batches([batch]))
