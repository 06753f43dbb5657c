"""Comparison of a source's rows with the latest rows that raw has of them, by digests.

The rows of both sides are read once, in any order, with 29 bytes of disk for each.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from headrace.config.entities.entity import EntityConfig
from headrace.config.settings import PartitionSettings
from headrace.lineage_schema import DELETE, OPERATION, POSITION
from headrace.raw.lineage_columns import content_hash, with_days
from headrace.raw.manifest import file_name
from headrace.raw.row_digests import DIGEST, Digests, DigestStore, paired_parts
from headrace.raw.row_hash import row_hash
from headrace.raw.writer import DataFolder
from headrace.schema import PARTITION_COLUMN, TableSchema
from headrace.sources.base import Captured, CapturedVersion, current_versions
from headrace.sources.corrupt_rows import CORRUPT_REASON, CORRUPT_RECORD

_PARQUET = ds.ParquetFileFormat()
_NO_DAY = np.int32(0)
# Rows that differ are repaired by their digests, which are in memory: more wait for the next time.
MOST_DIFFERENCES = 5_000_000
# Which rows of a batch are to be in raw already; None: all of them.
IsDue = Callable[[pa.RecordBatch], npt.NDArray[np.bool_] | None]


@dataclass(frozen=True)
class RowIdentity:
    """What says which row of a source a row of raw is.

    Attributes:
        entity: What is declared of the rows.
        partitions: The days that exist.
        key: Columns of the source that identify a row.
        by_partition: Whether a row stays in its partition: the same key in another one is another
            row.
        ignored: Columns that do not belong to the source's row.
    """

    entity: EntityConfig
    partitions: PartitionSettings
    key: tuple[str, ...]
    by_partition: bool
    ignored: tuple[str, ...] = ()

    @property
    def number(self) -> str | None:
        """The first column of the key if it is an integer."""
        column = self.entity.column(self.key[0])
        return column.name if self.entity.captured_type(column) in ("int", "bigint") else None

    def of_source(self, read: pa.RecordBatch, is_due: IsDue) -> tuple[pa.RecordBatch, Digests]:
        """Rows of the source and their digests, without rows of partitions that do not exist."""
        due = is_due(read)
        due = np.ones(len(read), dtype=bool) if due is None else due
        days = np.full(len(read), _NO_DAY)
        if self.entity.extract.partition_by is not None:
            dated = with_days(read, self.entity, self.partitions)
            read, exist = dated.rows, ~np.isnat(dated.days)
            days = np.where(exist, _numbers(dated.days), _NO_DAY)
            if self.by_partition:
                read, days, due = read.filter(pa.array(exist)), days[exist], due[exist]
            else:
                # It is there, and its earlier versions count.
                due = due & exist
        contents = np.asarray(content_hash(read, self.ignored).to_numpy())
        return read, self._digests(read, contents, days, due)

    def of_raw(self, rows: pa.RecordBatch) -> Digests:
        """Digests of raw's rows; `is_due` is whether the row is no delete."""
        days = np.full(len(rows), _NO_DAY)
        if self.entity.extract.partition_by is not None:
            days = _numbers(rows.column(PARTITION_COLUMN).to_numpy(zero_copy_only=False))
        contents = rows.column("_row_hash").to_numpy()
        if self.ignored:
            names = [*(c.name for c in self.entity.columns), CORRUPT_RECORD]
            contents = np.asarray(content_hash(rows.select(names), self.ignored).to_numpy())
        return self._digests(rows, contents, days, ~_is_delete(rows))

    def _digests(
        self,
        rows: pa.RecordBatch,
        contents: npt.NDArray[np.int64],
        days: npt.NDArray[np.int32],
        is_due: npt.NDArray[np.bool_],
    ) -> Digests:
        found = np.empty(len(rows), DIGEST)
        columns = [rows.column(name) for name in (*self.key, CORRUPT_RECORD)]
        columns += [pa.array(days)] if self.by_partition else []
        found["row"] = row_hash(columns).to_numpy()
        found["content"] = contents
        found["day"] = days
        found["is_due"] = is_due
        found["at"] = 0
        if self.number is not None:
            found["at"] = rows.column(self.number).cast(pa.int64()).fill_null(0).to_numpy()
        return found


@dataclass(frozen=True)
class Comparison:
    """What differs between a source and raw.

    Attributes:
        rows: Rows of the source in partitions that exist.
        missing: Rows that raw lacks.
        changed: Rows that raw has with other values.
        extra: Rows that the source lacks.
        waiting: Rows that differ, and that the next capture reads anyway.
        repeated: Rows whose key the source repeats; they are not compared.
        counts: How many are missing, changed and extra; the digests may be fewer
            (MOST_DIFFERENCES).
    """

    rows: int
    missing: Digests
    changed: Digests
    extra: Digests
    waiting: int
    repeated: int
    counts: tuple[int, int, int]

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return not any(self.counts)

    @property
    def is_whole(self) -> bool:
        """Whether there are the digests of all rows that differ."""
        return sum(map(len, (self.missing, self.changed, self.extra))) == sum(self.counts)

    @property
    def days(self) -> set[date]:
        """The partitions of rows that differ; of rows without days 1970-01-01."""
        numbers = np.unique(np.concatenate([self.missing, self.changed, self.extra])["day"])
        return {*numbers.astype("datetime64[D]").astype(object)}


def compared(source: DigestStore, raw: DigestStore) -> Comparison:
    """Compare the digests of a source with those of raw, in the order of raw's captures."""
    found: tuple[list[Digests], ...] = ([], [], [])
    counts, kept = [0, 0, 0], 0
    waiting = repeated = 0
    for ours, theirs in paired_parts(source, raw):
        once, again = _single(ours)
        repeated += len(again)
        known = _latest(theirs)
        known = known[known["is_due"] & ~np.isin(known["row"], again["row"])]
        place = np.searchsorted(known["row"], once["row"])
        place = np.minimum(place, max(len(known) - 1, 0))
        is_there = np.zeros(len(once), dtype=bool)
        is_equal = is_there.copy()
        if len(known):
            is_there = known["row"][place] == once["row"]
            is_equal = is_there & (known["content"][place] == once["content"])
        waiting += int((~is_equal & ~once["is_due"]).sum())
        parts = (
            once[~is_there & once["is_due"]],
            once[is_there & ~is_equal & once["is_due"]],
            known[~np.isin(known["row"], once["row"])],
        )
        for number, part in enumerate(parts):
            counts[number] += len(part)
            kept += len(part)
            if kept <= MOST_DIFFERENCES:
                found[number].append(part)
    nothing = np.empty(0, DIGEST)
    missing, changed, extra = (np.concatenate([nothing, *some]) for some in found)
    return Comparison(
        source.count, missing, changed, extra, waiting, repeated, (counts[0], counts[1], counts[2])
    )


def raw_batches(
    folder: DataFolder, captured: Captured, schema: TableSchema, *, newest_first: bool = False
) -> Iterator[pa.RecordBatch]:
    """The rows of raw that count, a file after the other in the order of their captures."""
    files = [
        (day, version)
        for day, versions in captured.items()
        for version in current_versions(versions).values()
        if version.rows
    ]
    ordered = sorted(files, key=lambda one: _order_of(folder, *one), reverse=newest_first)
    for day, version in ordered:
        fragment = _PARQUET.make_fragment(_path(folder, day, version), folder.filesystem)
        dataset = ds.FileSystemDataset(
            [fragment], schema=schema.arrow(), format=_PARQUET, filesystem=folder.filesystem
        )
        yield from dataset.to_batches(batch_readahead=1, fragment_readahead=1)


def as_deleted(rows: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """Rows of raw as a connector gives deletes of them."""
    names = [*columns, CORRUPT_RECORD, CORRUPT_REASON, POSITION]
    batch = rows.select(names)
    return batch.append_column(OPERATION, pa.repeat(pa.scalar(DELETE), len(rows)))


def is_among(rows: Digests, sorted_rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which digests are of some rows."""
    if not len(sorted_rows):
        return np.zeros(len(rows), dtype=bool)
    place = np.minimum(np.searchsorted(sorted_rows, rows["row"]), len(sorted_rows) - 1)
    return np.asarray(sorted_rows[place] == rows["row"])


def sorted_rows(parts: Iterable[Digests]) -> npt.NDArray[np.int64]:
    """The rows of some digests, sorted, each once."""
    return np.unique(np.concatenate([np.empty(0, np.int64), *(part["row"] for part in parts)]))


def without(comparison: Comparison, left_out: npt.NDArray[np.int64]) -> Comparison:
    """The comparison without some rows, which the next capture reads anyway."""
    parts, counts = [], []
    for part, count in zip(
        (comparison.missing, comparison.changed, comparison.extra), comparison.counts, strict=True
    ):
        left = is_among(part, left_out)
        parts.append(part[~left])
        counts.append(count - int(left.sum()))
    waiting = comparison.waiting + sum(comparison.counts) - sum(counts)
    missing, changed, extra = parts
    return Comparison(
        comparison.rows,
        missing,
        changed,
        extra,
        waiting,
        comparison.repeated,
        (counts[0], counts[1], counts[2]),
    )


def _single(digests: Digests) -> tuple[Digests, Digests]:
    """Digests in the order of their rows: those of rows that come once, and the others."""
    ordered = digests[np.argsort(digests["row"], kind="stable")]
    same = ordered["row"][1:] == ordered["row"][:-1]
    is_again = np.r_[False, same] | np.r_[same, False] if len(ordered) else same
    return ordered[~is_again], ordered[is_again]


def _latest(digests: Digests) -> Digests:
    """The last digest of each row, in the order of the rows."""
    ordered = digests[np.argsort(digests["row"], kind="stable")]
    is_last = np.r_[ordered["row"][1:] != ordered["row"][:-1], True] if len(ordered) else []
    latest: Digests = ordered[np.asarray(is_last, dtype=bool)]
    return latest


def _numbers(days: npt.NDArray[np.datetime64]) -> npt.NDArray[np.int32]:
    return days.astype("datetime64[D]").astype(np.int64).astype(np.int32)


def _is_delete(rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    deletes = pc.equal(rows.column(OPERATION), DELETE).fill_null(False)  # noqa: FBT003
    return np.asarray(deletes.to_numpy(zero_copy_only=False))


def _order_of(folder: DataFolder, day: date, version: CapturedVersion) -> tuple[str, str]:
    path = _path(folder, day, version)
    with folder.filesystem.open_input_file(path) as file:
        footer = pq.read_metadata(file).metadata or {}
    return footer.get(b"headrace.delivery_order", b"").decode(), path


def _path(folder: DataFolder, day: date, version: CapturedVersion) -> str:
    return f"{folder.path}/_pd={day}/{file_name(version)}"
