"""Staged files, partitions and tables: passed from staging to the audit and to publication."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Literal
from uuid import uuid4

import pyarrow.parquet as pq

from headrace.schema import TableSchema


@dataclass(frozen=True)
class StagedFile:
    """One complete Parquet file, either staged or found in a scan.

    Attributes:
        path: Full path or URI, as the engine reads it.
        rows: Number of rows, from the footer.
        size_bytes: Size of the file.
        null_counts: Number of nulls by column, from the footer; without list columns, of which a
            footer counts elements.
        footer: The footer, so that publication need not read it again.
    """

    path: str
    rows: int
    size_bytes: int
    null_counts: Mapping[str, int]
    footer: pq.FileMetaData | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class StagedPartition:
    """All files that a run staged for one partition; without files it is empty."""

    partition: date
    files: tuple[StagedFile, ...] = ()

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(file.rows for file in self.files)

    def nulls(self, column: str) -> int:
        """Nulls of `column` in all files."""
        return sum(file.null_counts.get(column, 0) for file in self.files)


@dataclass(frozen=True)
class StagedPartitions:
    """A step's audited output for a partitioned table.

    Attributes:
        schema: Columns of the table.
        partitions: The days that passed; these are published, including empty ones.
        held: Days that failed their audit, with the reason; they keep their published state.
        properties: Snapshot properties: run, code version, source offsets.
        mode: `replace` overwrites the days with these files, `append` adds the files.
    """

    schema: TableSchema
    partitions: Mapping[date, StagedPartition]
    held: Mapping[date, str] = field(default_factory=lambda: MappingProxyType({}))
    properties: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    mode: Literal["replace", "append"] = "replace"


@dataclass(frozen=True)
class StagedTable:
    """A step's audited output for a table without partitions, which replaces the whole table.

    Attributes:
        schema: Columns of the table.
        files: Files of all rows.
        properties: Snapshot properties.
        held: Days whose audit failed, with the reason; if there are any, nothing is published.
    """

    schema: TableSchema
    files: tuple[StagedFile, ...]
    properties: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    held: Mapping[date, str] = field(default_factory=lambda: MappingProxyType({}))


def new_token() -> str:
    """A unique name for one staging; begins with the time (UTC).

    Names a folder that is never reused, because its files may be published.
    """
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex}"
