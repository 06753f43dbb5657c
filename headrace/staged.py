"""What is written but not yet visible: the hand-over from staging to audit to publication.

Belongs here: values that name staged files by partition.
Elsewhere: writing them (headrace.engine, headrace.ingestion), publishing them (headrace.lake).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class StagedFile:
    """One complete Parquet file that no table refers to yet.

    Attributes:
        path: Full path or URI, as the engine reads it.
        rows: Rows in it, from its footer.
        size_bytes: Its size.
        null_counts: Column name to number of nulls, from its footer.
    """

    path: str
    rows: int
    size_bytes: int
    null_counts: Mapping[str, int]


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
