"""What is found out about files of one entity that are neither delimited text nor Parquet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.assess.sample_source import SourceField


@dataclass(frozen=True)
class FileForm:
    """How files are read.

    Attributes:
        format: `format` of the extract.
        fields: Their columns.
        evidence: What it was concluded from.
        problems: What somebody has to look at.
        extract: Further options of the extract.
        label: Name of the sheet, where a workbook has several tables.
        days: Columns of which all values are days, though written with a time of midnight.
    """

    format: Mapping[str, Any]
    fields: tuple[SourceField, ...]
    evidence: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    extract: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    days: frozenset[str] = frozenset()
