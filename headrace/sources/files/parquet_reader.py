"""Rows of Parquet files as Arrow batches of the declared types, with bounded memory."""

from collections.abc import Iterator
from datetime import date
from tempfile import SpooledTemporaryFile
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.config.entities.columns import ColumnConfig
from headrace.config.sources.file_source import FileEntity
from headrace.errors import SourceRejectedError, shown
from headrace.lineage_schema import POSITION
from headrace.schema import TYPE_NAMES, arrow_type
from headrace.sources.corrupt_rows import CORRUPT_REASON, CORRUPT_RECORD, without_nuls
from headrace.sources.files.text.csv_header import plain
from headrace.sources.files.text.decoding import read_chunks
from headrace.sources.landing.landing_zone import ByteStream

# A file up to this size is read from memory, a larger one from a temporary file: Parquet's footer
# is at the end of the file, and a landing zone only streams bytes.
_IN_MEMORY_BYTES = 8 * 2**20
_BATCH_ROWS = 16_384
_TECHNICAL = pa.schema(
    [(CORRUPT_RECORD, pa.string()), (CORRUPT_REASON, pa.string()), (POSITION, pa.int64())]
)


def read_parquet(
    stream: ByteStream,
    path: str,
    entity: FileEntity,
    *,
    day: date | None = None,
    batch_rows: int = _BATCH_ROWS,
) -> Iterator[pa.RecordBatch]:
    """The rows of a file in its order: the declared columns, then `read_csv`'s technical columns.

    A type of the file that fits into the declared one without loss is widened (int to bigint, any
    unit of time to microseconds). `_source_position` is the number of the row, from 1.

    Args:
        stream: The file's bytes.
        path: Its name, for errors.
        entity: The columns and their types (`FileEntity.captured_columns`).
        day: Day of all rows, which decides what columns the file may lack; None if rows have days
            of their own.
        batch_rows: The most rows of a batch.

    Raises:
        SourceRejectedError: The file is not as declared. Names file, column and remedy.
        SourceUnavailableError: The connection to the landing zone was lost.
    """
    with SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as copy:
        for chunk in read_chunks(stream):
            copy.write(chunk)
        copy.seek(0)
        try:
            yield from _read(copy, path, entity, day, batch_rows)
        except (pa.ArrowInvalid, OSError) as error:
            raise SourceRejectedError(
                f"{path} is no whole Parquet file: {_first_line(error)}",
                fix="deliver the file again, whole; text files need connector: files",
            ) from None


def _read(
    copy: IO[bytes], path: str, entity: FileEntity, day: date | None, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(copy, pre_buffer=False) as parquet:
        names = _fields(entity, parquet.schema_arrow, day, path)
        wanted = [field for field in names.values() if field is not None]
        position = 0
        # Without any column Arrow yields no rows.
        for batch in parquet.iter_batches(batch_size=batch_rows, columns=wanted or None):
            columns = {
                name: _declared(batch, field, entity.column(name), entity, path)
                for name, field in names.items()
            }
            count = batch.num_rows
            nothing = pa.nulls(count, pa.string())
            columns |= {CORRUPT_RECORD: nothing, CORRUPT_REASON: nothing}
            columns[POSITION] = pa.array(range(position + 1, position + count + 1), pa.int64())
            position += count
            yield without_nuls(pa.RecordBatch.from_pydict(columns), entity.extract.delimiter)


def _fields(
    entity: FileEntity, schema: pa.Schema, day: date | None, path: str
) -> dict[str, str | None]:
    """Declared column: its name in the file; None for a column that the file lacks, as it may."""
    known = {plain(name): name for name in schema.names}
    found: dict[str, str | None] = {}
    for column in entity.columns:
        present = [known[name] for name in map(plain, column.source_names) if name in known]
        if len(present) > 1:
            raise SourceRejectedError(
                f"{path}: column '{column.name}' is there as {' and as '.join(present)}",
                fix="deliver it once, or declare one name (from: …)",
            )
        if not present and not column.may_lack(day):
            raise SourceRejectedError(
                f"{path}: column '{column.source_name}' is missing",
                fix="deliver the file with it; declare its new name (from: [old, new]), since when "
                "files have it (since: …) or that they may lack it (optional: true)",
            )
        found[column.name] = present[0] if present else None
        if present:
            _check_type(schema.field(present[0]).type, column, entity, path)
    extra = [name for name in schema.names if name not in found.values()]
    if extra and entity.extract.extra_columns == "fail":
        raise SourceRejectedError(
            f"{path}: column '{shown(extra[0])}' is not declared",
            fix="add it to columns, or declare extra_columns: ignore",
        )
    return found


def _check_type(found: pa.DataType, column: ColumnConfig, entity: FileEntity, path: str) -> None:
    declared = entity.captured_type(column)
    if not _fits(found, arrow_type(declared)):
        name = _type_name(found)
        fix = f"declare source_type: {name}, or " if _is_type(name) else ""
        raise SourceRejectedError(
            f"{path}: column '{column.source_name}' is {name}, not {declared}",
            fix=f"{fix}deliver the column as {declared}",
        )


def _fits(found: pa.DataType, declared: pa.DataType) -> bool:
    """Whether every value of a type converts to the declared type without loss."""
    if pa.types.is_dictionary(found):
        return _fits(found.value_type, declared)
    if found.equals(declared) or pa.types.is_null(found):
        return True
    if pa.types.is_integer(declared):
        return bool(pa.types.is_integer(found)) and _bits(found) <= declared.bit_width
    if pa.types.is_decimal(declared) and pa.types.is_decimal(found):
        whole = declared.precision - declared.scale
        return bool(found.scale <= declared.scale and found.precision - found.scale <= whole)
    if pa.types.is_timestamp(declared):
        return bool(pa.types.is_timestamp(found)) and (found.tz is None) == (declared.tz is None)
    kinds = (
        (pa.types.is_string, (pa.types.is_large_string, pa.types.is_string_view)),
        (pa.types.is_float64, (pa.types.is_float32, pa.types.is_float16)),
        (pa.types.is_date, (pa.types.is_date,)),
    )
    return any(is_one(declared) and any(n(found) for n in near) for is_one, near in kinds)


def _bits(found: pa.DataType) -> int:
    # An unsigned integer needs one bit more.
    return int(found.bit_width) + int(pa.types.is_unsigned_integer(found))


def _type_name(found: pa.DataType) -> str:
    if pa.types.is_dictionary(found):
        return _type_name(found.value_type)
    if pa.types.is_decimal(found):
        return f"decimal({found.precision},{found.scale})"
    names = (name for name in TYPE_NAMES if "(" not in name and _fits(found, arrow_type(name)))
    return next(names, str(found))


def _is_type(name: str) -> bool:
    return name in TYPE_NAMES or name.startswith("decimal(")


def _declared(
    batch: pa.RecordBatch,
    field: str | None,
    column: ColumnConfig,
    entity: FileEntity,
    path: str,
) -> pa.Array:
    kind = arrow_type(entity.captured_type(column))
    if field is None:
        return pa.nulls(batch.num_rows, kind)
    values = batch.column(field)
    if values.type.equals(kind):
        return values
    try:
        return pc.cast(values, kind)
    except pa.ArrowInvalid:  # Its message quotes the value.
        raise SourceRejectedError(
            f"{path}: column '{column.source_name}' has values that {_type_name(kind)} does not "
            "hold, such as times of less than a microsecond",
            fix="deliver the column in microseconds",
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:120]
