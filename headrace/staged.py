"""What is written but not yet visible: the hand-over from staging to audit to publication."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import Literal
from uuid import uuid4

import pyarrow.parquet as pq

from headrace.schema import TableSchema


@dataclass(frozen=True)
class StagedFile:
    """One complete Parquet file: staged, so that no table refers to it yet, or found in a scan.

    Attributes:
        path: Full path or URI, as the engine reads it.
        rows: Rows in it, from its footer.
        size_bytes: Its size.
        null_counts: Column name to number of nulls, from its footer; lists are left out, because
            a footer counts their elements.
        footer: The footer itself, so that publication need not read it a second time.
    """

    path: str
    rows: int
    size_bytes: int
    null_counts: Mapping[str, int]
    footer: pq.FileMetaData | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class StagedPartition:
    """All files that a run staged for one partition; none of them means: no rows."""

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
class StagedOutput:
    """What a step hands over for a partitioned table once its files are audited.

    Attributes:
        schema: Columns of the table.
        partitions: The days that passed; only these are published, an empty one as empty.
        held: Days that failed their audit, with the reason; they keep their earlier state.
        properties: Recorded with the commit: run, code version, source offsets.
        mode: `replace` makes the days hold these files alone, `append` adds to what they hold.
    """

    schema: TableSchema
    partitions: Mapping[date, StagedPartition]
    held: Mapping[date, str] = field(default_factory=lambda: MappingProxyType({}))
    properties: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    mode: Literal["replace", "append"] = "replace"


@dataclass(frozen=True)
class StagedTable:
    """What a step hands over for a table without partitions; it replaces the whole table.

    Attributes:
        schema: Columns of the table.
        files: All its rows.
        properties: Recorded with the commit.
        held: Days whose audit failed, with the reason: then nothing of the table is published.
    """

    schema: TableSchema
    files: tuple[StagedFile, ...]
    properties: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    held: Mapping[date, str] = field(default_factory=lambda: MappingProxyType({}))


def new_token() -> str:
    """A name for one staging, never used again: what it wrote may be published."""
    return uuid4().hex
