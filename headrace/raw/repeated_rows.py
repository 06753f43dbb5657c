"""Rows that raw holds already: a source that is read with an overlap delivers some rows again.

A row is a repetition if the latest row of its key in the partition is equal (decisions/0044). An
earlier equal row does not count: a value may return to what it was.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from headrace.config.entities.entity import EntityConfig
from headrace.lineage_schema import DELETE, DELIVERY_ORDER, OPERATION
from headrace.raw.manifest import file_name
from headrace.raw.row_hash import row_hash
from headrace.raw.writer import DataFolder
from headrace.schema import TableSchema
from headrace.sources.base import CapturedVersion, Overlap, current_versions
from headrace.sources.corrupt_rows import CORRUPT_RECORD

_ROW_HASH = "_row_hash"
# A delete has the hash of the row that it deletes: that row is a new one if it comes again.
_OF_A_DELETE = np.int64(-1)
_HASHES = npt.NDArray[np.int64]
_PARQUET = ds.ParquetFileFormat()


@dataclass(frozen=True)
class LatestRows:
    """Hashes of the latest rows of keys in one partition, sorted by the key's hash.

    A key has several latest rows if one delivery had several rows of it.

    Attributes:
        keys: Hash of each row's key.
        rows: Hash of each row.
        most_of_a_key: The most latest rows of a key.
    """

    keys: _HASHES
    rows: _HASHES
    most_of_a_key: int = 1

    def holds(self, keys: _HASHES, rows: _HASHES) -> npt.NDArray[np.bool_]:
        """Which rows, by the hashes of their keys and of themselves, are among them."""
        found = np.zeros(len(keys), dtype=bool)
        if not len(self.keys):
            return found
        first = np.searchsorted(self.keys, keys)
        for place in range(self.most_of_a_key):
            at = np.minimum(first + place, len(self.keys) - 1)
            found |= (self.keys[at] == keys) & (self.rows[at] == rows)
        return found


def read_latest_rows(
    folder: DataFolder,
    partition: date,
    versions: Iterable[CapturedVersion],
    entity: EntityConfig,
    schema: TableSchema,
    overlap: Overlap,
) -> LatestRows:
    """The latest rows that raw holds of a partition, as far as they may be delivered again.

    Args:
        folder: Raw's data files.
        partition: The partition.
        versions: What it holds.
        entity: Its key.
        schema: Raw's columns.
        overlap: Row groups without such rows are skipped by their bounds.
    """
    held = [version for version in current_versions(versions).values() if version.rows]
    paths = [f"{folder.path}/_pd={partition}/{file_name(version)}" for version in held]
    dataset = ds.FileSystemDataset(
        [_PARQUET.make_fragment(path, folder.filesystem) for path in paths],
        schema=schema.arrow(),
        format=_PARQUET,
        filesystem=folder.filesystem,
    )
    columns = [*_key_columns(entity), _ROW_HASH, DELIVERY_ORDER, OPERATION]
    scanner = dataset.scanner(columns=columns, filter=_condition(schema, entity, overlap))
    return _latest(scanner.to_batches(), entity)


def without_repeated(
    rows: pa.RecordBatch, latest: LatestRows, entity: EntityConfig
) -> pa.RecordBatch:
    """The rows, without those that equal a latest row of their key."""
    if not len(latest.keys):
        return rows
    is_held = latest.holds(_key_hashes(rows, entity), _hashes(rows))
    return rows.filter(pa.array(~is_held)) if is_held.any() else rows


def _latest(batches: Iterable[pa.RecordBatch], entity: EntityConfig) -> LatestRows:
    keys, rows, orders = [], [], []
    ranks: dict[str, int] = {}
    for batch in batches:
        if batch.num_rows:
            keys.append(_key_hashes(batch, entity))
            rows.append(_hashes(batch))
            encoded = batch.column(DELIVERY_ORDER).dictionary_encode()
            known = [ranks.setdefault(text, len(ranks)) for text in encoded.dictionary.to_pylist()]
            orders.append(np.array(known, dtype=np.int64)[encoded.indices.to_numpy()])
    if not keys:
        nothing = np.array([], dtype=np.int64)
        return LatestRows(nothing, nothing)
    # The deliveries were numbered in the order in which they were read. Rank them by their texts.
    rank = np.empty(len(ranks), dtype=np.int64)
    rank[[ranks[text] for text in sorted(ranks)]] = np.arange(len(ranks))
    return _of_last_order(np.concatenate(keys), np.concatenate(rows), rank[np.concatenate(orders)])


def _of_last_order(keys: _HASHES, rows: _HASHES, order: _HASHES) -> LatestRows:
    """The rows of each key's last delivery."""
    by_key = np.lexsort((order, keys))
    keys, rows, order = keys[by_key], rows[by_key], order[by_key]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    counts = np.diff(np.r_[starts, len(keys)])
    last = np.repeat(order[starts + counts - 1], counts)
    is_latest = order == last
    of_a_key = np.add.reduceat(is_latest.astype(np.int64), starts)
    return LatestRows(keys[is_latest], rows[is_latest], int(of_a_key.max()))


def _key_columns(entity: EntityConfig) -> list[str]:
    # A corrupt record has no key: its text identifies it.
    return [*entity.key, CORRUPT_RECORD]


def _key_hashes(rows: pa.RecordBatch, entity: EntityConfig) -> _HASHES:
    hashed = row_hash([_without_dictionary(rows.column(name)) for name in _key_columns(entity)])
    return np.asarray(hashed.to_numpy())


def _hashes(rows: pa.RecordBatch) -> _HASHES:
    hashes = np.asarray(rows.column(_ROW_HASH).to_numpy())
    operations = rows.column(OPERATION)
    if operations.null_count == len(operations):
        return hashes
    is_delete = pc.equal(operations, DELETE).fill_null(False)  # noqa: FBT003
    return np.where(is_delete.to_numpy(zero_copy_only=False), hashes ^ _OF_A_DELETE, hashes)


def _without_dictionary(values: pa.Array) -> pa.Array:
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _condition(schema: TableSchema, entity: EntityConfig, overlap: Overlap) -> pc.Expression | None:
    if overlap.since is None:
        return None
    kind = schema.arrow().field(overlap.column).type
    column = pc.field(overlap.column)
    bound = pa.scalar(cursor_value(overlap.since, kind, entity.timezone), kind)
    return (column >= bound) | column.is_null()


def cursor_value(
    since: datetime | int, kind: pa.DataType, timezone: str | None
) -> datetime | date | int:
    """The least value of a column at an instant or after it."""
    if isinstance(since, int):
        return since
    if pa.types.is_timestamp(kind) and kind.tz:
        return since
    local = since.astimezone(ZoneInfo(timezone) if timezone else UTC).replace(tzinfo=None)
    return local.date() if pa.types.is_date(kind) else local
