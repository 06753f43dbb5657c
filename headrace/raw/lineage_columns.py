"""Adds lineage columns to rows that a connector read, and finds the partition of each row."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.config.entities.entity import EntityConfig
from headrace.config.settings import PartitionSettings
from headrace.grain import Grain
from headrace.lineage_schema import (
    CAPTURED_AT,
    DELIVERY_ORDER,
    OPERATION,
    POSITION,
    SOURCE_OBJECT,
)
from headrace.raw.row_days import row_days
from headrace.raw.row_hash import row_hash
from headrace.schema import PARTITION_COLUMN, TableSchema
from headrace.sources.base import SourceObject
from headrace.sources.corrupt_rows import CORRUPT_REASON, CORRUPT_RECORD, set_aside

NO_DAY = "no readable day"

_CONSTANTS = (SOURCE_OBJECT, DELIVERY_ORDER, "_object_version", "_source", "_batch_id")
_NOT_HASHED = (CORRUPT_REASON, POSITION, OPERATION)
# Plain text in Parquet. As plain text in memory they would need more than all other columns.
_CONSTANT_TYPE = pa.dictionary(pa.int8(), pa.string())


@dataclass(frozen=True)
class ObjectStamp:
    """The lineage that all rows of one captured object have in common; times are UTC."""

    source_object: SourceObject
    source: str
    batch_id: str
    captured_at: datetime

    def constants(self) -> dict[str, str]:
        """The texts that every row repeats, by column."""
        return {
            SOURCE_OBJECT: self.source_object.name,
            DELIVERY_ORDER: self.source_object.order,
            "_object_version": self.source_object.version,
            "_source": self.source,
            "_batch_id": self.batch_id,
        }


def stored_schema(schema: TableSchema) -> pa.Schema:
    """Raw's columns in Arrow, those with one value per object as dictionaries."""
    stored = schema.arrow()
    for name in _CONSTANTS:
        stored = stored.set(stored.get_field_index(name), pa.field(name, _CONSTANT_TYPE))
    return stored


def content_hash(read: pa.RecordBatch, ignored: Collection[str] = ()) -> pa.Int64Array:
    """`_row_hash` of rows that a connector read, without the columns that are ignored."""
    left_out = {*_NOT_HASHED, *ignored}
    return row_hash([read.column(n) for n in read.schema.names if n not in left_out])


def rows_of_day(
    read: pa.RecordBatch, day: date, stamp: ObjectStamp, schema: pa.Schema
) -> pa.RecordBatch:
    """Rows of raw, from rows of a connector that all belong to `day`."""
    return _with_lineage(read, pa.repeat(pa.scalar(day, pa.date32()), len(read)), stamp, schema)


def marker_row(day: date, stamp: ObjectStamp, schema: pa.Schema) -> pa.RecordBatch:
    """A marker row, for "no rows": NULL in every column of the source, `_source_position` 0."""
    # A data file without rows would have no bounds and no partition.
    fields = [field for field in schema if not field.name.startswith("_")]
    nothing = [pa.nulls(1, field.type) for field in fields]
    no_reason = pa.nulls(1, pa.string())
    read = pa.RecordBatch.from_arrays(
        [*nothing, no_reason, no_reason, pa.array([0])],
        [*(field.name for field in fields), CORRUPT_RECORD, CORRUPT_REASON, POSITION],
    )
    return rows_of_day(read, day, stamp, schema)


@dataclass(frozen=True)
class DatedRows:
    """Rows with the day of each.

    Attributes:
        rows: The rows; those without a readable day are corrupt records.
        days: The first day of each row's partition; NaT for a day outside the partitions.
        without_day: Number of rows without a readable day; they belong to the first partition.
        outside: Number of rows of days outside the partitions.
    """

    rows: pa.RecordBatch
    days: npt.NDArray[np.datetime64]
    without_day: int
    outside: int


def with_days(
    read: pa.RecordBatch, entity: EntityConfig, partitions: PartitionSettings
) -> DatedRows:
    """Find the partition of each row that a connector read, by the entity's `partition_by` column.

    A row without a readable day goes to the first partition, as a corrupt record with the reason.
    A row of a day outside the partitions is left out and counted; it is captured once its day
    exists.
    """
    column, grain = entity.column(str(entity.extract.partition_by)), entity.grain
    found = row_days(read.column(column.name), column, entity.timezone)
    no_day = np.isnat(found)
    outside = ~no_day & (
        (found < np.datetime64(partitions.start)) | _is_late(found, grain, partitions)
    )
    found[outside] = np.datetime64("NaT")
    if no_day.any():
        found[no_day] = np.datetime64(partitions.start)
        read = set_aside(
            read, no_day, pa.scalar(f"{column.name}: {NO_DAY}"), entity.extract.delimiter
        )
    return DatedRows(read, grain.starts_of(found), int(no_day.sum()), int(outside.sum()))


def _is_late(
    days: npt.NDArray[np.datetime64], grain: Grain, partitions: PartitionSettings
) -> npt.NDArray[np.bool_]:
    """Which days lie after the last partition that exists or has begun."""
    if partitions.end is not None:
        return days >= np.datetime64(partitions.end)
    today = datetime.now(UTC).date()
    if grain == Grain.DAY:
        return days >= np.datetime64(today)  # Today is no partition yet.
    if grain == Grain.NONE:
        return np.zeros(days.shape, dtype=bool)
    # Rows of all days of the current period are taken: no later capture reads an unchanged file
    # again, so a row that is left out of a partition that exists would be lost.
    return days >= np.datetime64(grain.end_of(grain.start_of(today)))


def rows_by_day(
    dated: DatedRows,
    wanted: Collection[date],
    stamp: ObjectStamp,
    schema: pa.Schema,
) -> Iterator[tuple[date, pa.RecordBatch]]:
    """Rows of raw for each of the `wanted` days that has some, in the order of the file."""
    read, found = dated.rows, dated.days
    kept = np.flatnonzero(np.isin(found, np.array(sorted(wanted), dtype="datetime64[D]")))
    order = kept[np.argsort(found[kept], kind="stable")]
    if not len(order):
        return
    days, starts = np.unique(found[order], return_index=True)
    rows = _with_lineage(read.take(pa.array(order)), pa.array(found[order]), stamp, schema)
    ends = [*starts[1:], len(order)]
    for day, start, end in zip(days.astype(object), starts, ends, strict=True):
        yield day, rows.slice(start, end - start)


def _with_lineage(
    read: pa.RecordBatch, days: pa.Date32Array, stamp: ObjectStamp, schema: pa.Schema
) -> pa.RecordBatch:
    count = len(read)
    columns = dict(zip(read.schema.names, read.columns, strict=True))
    hashed = content_hash(read)
    columns |= {name: _constant(text, count) for name, text in stamp.constants().items()}
    columns.setdefault(OPERATION, pa.nulls(count, pa.string()))
    columns[CAPTURED_AT] = pa.repeat(
        pa.scalar(stamp.captured_at, pa.timestamp("us", tz="UTC")), count
    )
    columns["_row_hash"] = hashed
    columns[PARTITION_COLUMN] = days
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _constant(text: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(np.zeros(count, dtype=np.int8), pa.array([text]))
