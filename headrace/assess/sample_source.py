"""The seam between what is assessed and how: entities that can be listed and sampled as Arrow.

Files implement it (`files/folder.py`) and databases (`tables/samples.py`); an API can.
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
        is_declared: Whether the source itself says the type: a text that looks like a number is a
            text then.
        is_nullable: Whether it may lack a value; None: the source does not say.
        fits: Types that its values can be read as without `source_type`, besides `type`.
    """

    name: str
    source_name: str
    type: str = "string"
    options: Mapping[str, Any] = field(default_factory=dict)
    evidence: str = ""
    is_declared: bool = False
    is_nullable: bool | None = None
    fits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reference:
    """Columns of an entity that hold the key of another one of its source, by a foreign key."""

    columns: tuple[str, ...]
    entity: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Catalog:
    """What a database says of a table beside its columns; names are those once processed.

    Attributes:
        key: The primary key, or a unique index without NULLs; empty: there is none.
        key_kind: `primary key` or `unique index`.
        unique: Further unique indexes without NULLs.
        references: Foreign keys to entities of the source.
        is_referenced: Whether others refer to it.
        filled: By column, what fills it; see headrace.sources.tables.relations.Filled.
        indexed: Columns that begin an index.
        rows: Estimate; None: not known.
        is_appended: Whether rows are only added, by the server's counts; None: not known.
        least_overlap: `overlap` of a cursor, where the source always needs one.
        blind_spot: What lets the connection's user see the transactions of others; '': it does.
    """

    key: tuple[str, ...] = ()
    key_kind: str = "primary key"
    unique: tuple[tuple[str, ...], ...] = ()
    references: tuple[Reference, ...] = ()
    is_referenced: bool = False
    filled: Mapping[str, str] = field(default_factory=dict)
    indexed: tuple[str, ...] = ()
    rows: int | None = None
    is_appended: bool | None = None
    least_overlap: str = ""
    blind_spot: str = ""


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
        catalog: What the catalog of a database says; None of other sources.
        undated: Why a column has to say the day of a row; '' of files.
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
    catalog: Catalog | None = None
    undated: str = ""


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
    def options(self) -> Mapping[str, Any]:
        """Further options of the source's configuration, such as `connection`."""
        ...

    @property
    def description(self) -> str:
        """What it is, one sentence."""
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


def with_place(batch: pa.RecordBatch, source_object: str, day: date | None) -> pa.RecordBatch:
    """Rows as `sample_rows` gives them, from rows as a connector reads them."""
    count = batch.num_rows
    places = [pa.array([source_object] * count, pa.string()), pa.array([day] * count, pa.date32())]
    whole = pa.RecordBatch.from_arrays(
        [*batch.columns, *places], names=[*batch.schema.names, OBJECT, DAY]
    )
    return whole.drop_columns(["_corrupt_record"])
