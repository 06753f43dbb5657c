"""Staged Parquet files: their footers, and the Iceberg metadata of a data file made from them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import (
    DataFileStatistics,
    MetricModeTypes,
    MetricsMode,
    StatisticsCollector,
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record
from pyiceberg.types import TimestampType, TimestamptzType

from headrace.errors import StagedFileRejectedError
from headrace.lake.storage import LakeFile, Storage
from headrace.staged import StagedFile

_EPOCH = date(1970, 1, 1)


def read_staged_file(storage: Storage, stored: LakeFile) -> StagedFile:
    """The description of a staged file, from its footer.

    Raises:
        StagedFileRejectedError: It is not a complete Parquet file.
    """
    footer = read_footer(storage, stored.uri)
    return StagedFile(
        path=stored.uri,
        rows=footer.num_rows,
        size_bytes=stored.size_bytes,
        null_counts=_null_counts(storage, stored.uri, footer),
        footer=footer,
    )


def read_footer(storage: Storage, uri: str) -> pq.FileMetaData:
    """The footer of a Parquet file.

    Raises:
        StagedFileRejectedError: The file is missing, or not a complete Parquet file.
    """
    try:
        with storage.open(uri) as file:
            return pq.read_metadata(file)
    except (pa.ArrowInvalid, FileNotFoundError) as error:
        raise StagedFileRejectedError(
            f"{uri} is not a complete Parquet file: {error}",
            fix="run the step again: it writes new files",
        ) from error


@dataclass(frozen=True)
class FileLayout:
    """The parts of a table's metadata that the metadata of its data files depends on.

    Attributes:
        spec_id: The partition spec.
        metrics: Metrics mode by field id: which counts and bounds are stored.
        field_ids: Field id by a column's path in the Parquet file.
    """

    spec_id: int
    metrics: Mapping[int, StatisticsCollector]
    field_ids: Mapping[str, int]

    @classmethod
    def of(cls, metadata: TableMetadata) -> "FileLayout":
        """The layout of a table's current schema and `write.metadata.metrics` properties."""
        schema = metadata.schema()
        return cls(
            metadata.default_spec_id,
            compute_statistics_plan(schema, metadata.properties),
            parquet_path_to_id_mapping(schema),
        )

    def data_file(self, file: StagedFile, footer: pq.FileMetaData, day: date | None) -> DataFile:
        """The Iceberg metadata of a file, with the bounds by which readers skip it."""
        # PyIceberg's add_files makes the same metadata, but reads every footer again and searches
        # every manifest for the paths.
        statistics = self._statistics(footer)
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=file.path,
            file_format=FileFormat.PARQUET,
            partition=Record() if day is None else Record(partition_value(day)),
            file_size_in_bytes=file.size_bytes,
            sort_order_id=None,
            spec_id=self.spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )

    def _statistics(self, footer: pq.FileMetaData) -> DataFileStatistics:
        field_ids, metrics = dict(self.field_ids), self._metrics_of(footer)
        try:
            return data_file_statistics_from_parquet_metadata(footer, metrics, field_ids)
        except (OverflowError, ValueError):
            # PyIceberg reads bounds as Python's datetime, which holds the years 1 to 9999, but a
            # timestamptz may lie in the year 10000 of UTC. Without bounds, scans never skip a file.
            counted = {
                number: _in_mode(one, MetricModeTypes.COUNTS) if _is_time(one) else one
                for number, one in metrics.items()
            }
            return data_file_statistics_from_parquet_metadata(footer, counted, field_ids)

    def _metrics_of(self, footer: pq.FileMetaData) -> dict[int, StatisticsCollector]:
        """The metrics modes for one file: none for columns without statistics in its footer.

        Otherwise PyIceberg logs a warning for each such column. Files of raw have statistics for
        the partition date only.
        """
        groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
        chunks = (group.column(at) for group in groups for at in range(footer.num_columns))
        without = {self.field_ids[c.path_in_schema] for c in chunks if not c.is_stats_set}
        return {
            number: _in_mode(one, MetricModeTypes.NONE) if number in without else one
            for number, one in self.metrics.items()
        }


def _is_time(collector: StatisticsCollector) -> bool:
    return isinstance(collector.iceberg_type, TimestampType | TimestamptzType)


def _in_mode(collector: StatisticsCollector, mode: MetricModeTypes) -> StatisticsCollector:
    return replace(collector, mode=MetricsMode(mode))


def partition_value(day: date) -> int:
    """A day as Iceberg stores it: days since 1970-01-01."""
    return (day - _EPOCH).days


def day_of(value: date | int) -> date:
    """The day of a partition value, which PyIceberg gives as a date or as days since 1970-01-01."""
    return value if isinstance(value, date) else date.fromordinal(value + _EPOCH.toordinal())


def check_day(
    storage: Storage, file: StagedFile, footer: pq.FileMetaData, column: str, day: date
) -> None:
    """Check that every row of `file` has `day` in `column`.

    Readers take the value of an identity partition from Iceberg's metadata, not from the rows: rows
    with another day, or without the column, would be read as rows of `day` without an error.

    Raises:
        StagedFileRejectedError: A row has another day or NULL, or the column is missing.
    """
    low, high, nulls = _bounds(storage, file.path, footer, column)
    if nulls or low != day or high != day:
        found = "no value" if low is None else f"{low} to {high}, {nulls} NULL"
        raise StagedFileRejectedError(
            f"a file staged for {day} has other values in {column}: {found}: {file.path}",
            fix=f"write one day per file, with the day in {column}",
        )


def _bounds(
    storage: Storage, uri: str, footer: pq.FileMetaData, column: str
) -> tuple[date | None, date | None, int]:
    """Smallest and largest value, and number of nulls; from the rows if the footer lacks them."""
    position = _positions(footer).get(column)
    if position is None:
        return None, None, footer.num_rows
    low: list[date] = []
    high: list[date] = []
    nulls = 0
    for group in range(footer.num_row_groups):
        statistics = footer.row_group(group).column(position).statistics
        if statistics is None or not (statistics.has_min_max and statistics.has_null_count):
            values = _read_column(storage, uri, column)
            bounds = pc.min_max(values)
            return bounds["min"].as_py(), bounds["max"].as_py(), values.null_count
        low.append(statistics.min)
        high.append(statistics.max)
        nulls += statistics.null_count
    return min(low, default=None), max(high, default=None), nulls


def _null_counts(storage: Storage, uri: str, footer: pq.FileMetaData) -> dict[str, int]:
    positions = _positions(footer)
    counts = dict.fromkeys(positions, 0)
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    for name, position in positions.items():
        for group in groups:
            statistics = group.column(position).statistics
            if statistics is None or not statistics.has_null_count:
                # parquet-java omits the null count of columns with values longer than 4 KiB.
                counts[name] = _read_column(storage, uri, name).null_count
                break
            counts[name] += statistics.null_count
    return counts


def _positions(footer: pq.FileMetaData) -> dict[str, int]:
    """The position of each column in the footer, without lists."""
    columns = (footer.schema.column(number) for number in range(footer.num_columns))
    return {c.path: n for n, c in enumerate(columns) if c.max_repetition_level == 0}


def _read_column(storage: Storage, uri: str, column: str) -> pa.ChunkedArray:
    with storage.open(uri) as file:
        return pq.ParquetFile(file).read(columns=[column]).column(0)
