"""The seam between what is assessed and how: entities that can be listed and sampled as Arrow.

Files implement it (`folder.py`); a connection to a database or an API can.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol

import pyarrow as pa

# Columns of every sample, besides the entity's own.
OBJECT, DAY, POSITION = "_source_object", "_object_day", "_source_position"
SAMPLE_COLUMNS = pa.schema(
    [(OBJECT, pa.string()), (DAY, pa.date32()), (POSITION, pa.int64())],
)


@dataclass(frozen=True)
class SourceField:
    """One field of an entity as its source has it.

    Attributes:
        name: Its name once processed, lower snake case.
        source_name: Its name in the source.
        type: Its logical type; `string` where the source has no types.
        options: Further options of its column, such as `since`.
        evidence: Why it has these options.
    """

    name: str
    source_name: str
    type: str = "string"
    options: Mapping[str, Any] = field(default_factory=dict)
    evidence: str = ""


@dataclass(frozen=True)
class FoundEntity:
    """An entity that a source has, before any row is typed.

    Attributes:
        name: Its name, lower snake case.
        extract: Its `extract` as YAML would hold it, without `partition_by`.
        options: Further options of the entity, such as `partition`.
        fields: Its columns, in their order.
        is_typed: Whether its values have types.
        delimiter: Text between fields; '' where there is none.
        is_dated: Whether each object names the day of its rows.
        objects: Files, or 1 for a table.
        evidence: Why it is read this way, one sentence each.
        problems: What somebody has to look at.
        objects_by_day: Objects of each day that one names.
    """

    name: str
    extract: Mapping[str, Any]
    fields: tuple[SourceField, ...]
    is_typed: bool
    options: Mapping[str, Any] = field(default_factory=dict)
    delimiter: str = ""
    is_dated: bool = False
    objects: int = 1
    evidence: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    objects_by_day: Mapping[date, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TableStatistics:
    """What a source says of an entity without reading its rows; None where it does not know."""

    rows: int | None
    size_bytes: int | None


class SampleSource(Protocol):
    """Something whose entities can be listed and sampled."""

    @property
    def connector(self) -> str:
        """`connector` of the source's configuration."""
        ...

    @property
    def title(self) -> str:
        """What it is, for the heading of a report: a folder, or a connection's name."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader has to know or do before the source can be captured."""
        ...

    def list_entities(self) -> tuple[FoundEntity, ...]:
        """The entities, by name."""
        ...

    def sample_rows(self, entity: FoundEntity, max_rows: int) -> Iterator[pa.RecordBatch]:
        """At most `max_rows` rows: the entity's fields, then `SAMPLE_COLUMNS`.

        Memory is bounded by a batch.
        """
        ...

    def problems_of(self, entity: FoundEntity) -> tuple[str, ...]:
        """What was met while it was sampled, such as a file that cannot be read."""
        ...

    def statistics(self, entity: FoundEntity) -> TableStatistics:
        """Rows and bytes of an entity, where they are known without reading it."""
        ...
