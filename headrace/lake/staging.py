"""Writes frames and record batches to staged Parquet files."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as ds

from headrace.errors import IncompatibleSchemaError, UnknownColumnError
from headrace.lake.storage import DAY_FOLDER, Storage
from headrace.schema import TableSchema, schema_of_arrow

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_FOLDER_COLUMN = DAY_FOLDER.removesuffix("=")
_ROWS_OF_A_GROUP = 262_144
# Batches of mixed days keep one file open for each day. With more days than this, files are closed
# early, so that a day may have several files.
_FILES_OPEN = 512


def stage_frame(frame: "DataFrame", folder: str, *, partition_column: str | None) -> TableSchema:
    """Write a frame to `folder` with the engine, split by day if there is a partition column.

    Returns:
        The schema of the written files.

    Raises:
        UnknownColumnError: The frame lacks the partition column.
        IncompatibleSchemaError: The type of a column is not supported, or the partition column is
            not a date.
    """
    # Imported here: batches can be staged without Spark installed.
    from pyspark.sql.pandas.types import to_arrow_schema  # noqa: PLC0415

    from headrace.engine.values.types import spark_schema  # noqa: PLC0415

    schema = schema_of_arrow(to_arrow_schema(frame.schema))
    frame = frame.select(*(frame[f.name].cast(f.dataType) for f in spark_schema(schema)))
    if partition_column is None:
        frame.write.mode("overwrite").parquet(folder)
    else:
        _require_date(schema, partition_column)
        # A copy of the column: partitionBy removes its column from the files.
        split = frame.withColumn(_FOLDER_COLUMN, frame[partition_column])
        split.write.mode("overwrite").partitionBy(_FOLDER_COLUMN).parquet(folder)
    return schema


def stage_batches(
    batches: pa.RecordBatchReader, storage: Storage, folder: str, *, partition_column: str | None
) -> TableSchema:
    """Write batches to `folder` in their order, split by day if there is a partition column.

    Returns:
        The schema of the written files.

    Raises:
        UnknownColumnError: The batches lack the partition column.
        IncompatibleSchemaError: The type of a column is not supported, a value does not fit its
            type, or the partition column is not a date.
    """
    schema = schema_of_arrow(batches.schema)
    columns, partitioning = schema.arrow(), None
    if partition_column is not None:
        _require_date(schema, partition_column)
        columns = columns.append(pa.field(_FOLDER_COLUMN, pa.date32()))
        partitioning = ds.partitioning(pa.schema([columns.field(_FOLDER_COLUMN)]), flavor="hive")
    ds.write_dataset(
        pa.RecordBatchReader.from_batches(columns, _conformed(batches, columns, partition_column)),
        storage.path(folder),
        filesystem=storage.filesystem,
        format="parquet",
        file_options=ds.ParquetFileFormat().make_write_options(compression="zstd"),
        partitioning=partitioning,
        max_open_files=_FILES_OPEN,
        max_rows_per_group=_ROWS_OF_A_GROUP,
        # Threads would change the order of the rows.
        use_threads=False,
        existing_data_behavior="overwrite_or_ignore",
    )
    return schema


def _conformed(
    batches: pa.RecordBatchReader, columns: pa.Schema, partition_column: str | None
) -> Iterator[pa.RecordBatch]:
    """The batches with the types of `columns`, and a copy of the partition column at the end."""
    for batch in batches:
        arrays = [batch.column(number) for number in range(batch.num_columns)]
        if partition_column is not None:
            arrays.append(batch.column(partition_column))
        cast = [_cast(a, field) for a, field in zip(arrays, columns, strict=True)]
        yield pa.RecordBatch.from_arrays(cast, schema=columns)


def _cast(values: pa.Array, field: pa.Field) -> pa.Array:
    try:
        return values.cast(field.type)
    except pa.ArrowInvalid:
        # Not Arrow's message: it quotes the value.
        raise IncompatibleSchemaError(
            f"column '{field.name}' has a value that {field.type} cannot hold",
            fix=f"round or cast '{field.name}' before it is published",
        ) from None


def _require_date(schema: TableSchema, partition_column: str) -> None:
    if partition_column not in schema.names:
        raise UnknownColumnError(
            f"the partition column '{partition_column}' does not exist",
            fix=f"add it, or name one of {', '.join(schema.names)} as the asset's `partition_by`",
        )
    if (kind := schema.column(partition_column).type) != "date":
        raise IncompatibleSchemaError(
            f"the partition column '{partition_column}' is {kind}, not date",
            fix=f"cast '{partition_column}' to a date",
        )
