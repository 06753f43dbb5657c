"""Relations as a database has them, against what is declared of an entity."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from headrace.config.entities.columns import ColumnConfig
from headrace.config.model import did_you_mean
from headrace.config.sources.table_source import IncreasingIdExtract, TableEntity, WatermarkExtract
from headrace.errors import SourceRejectedError
from headrace.schema import decimal_parts

# Types of numbers beside headrace.schema.TYPE_NAMES: of more digits than a decimal holds, or of any
# number of digits; MySQL's boolean, which may be any small number; and its integers up to 2^64.
NUMERIC = "numeric"
TINYINT = "tinyint(1)"
BIGINT_UNSIGNED = "bigint unsigned"
TIMES = ("date", "timestamp", "timestamptz")
# What a column of a type may be captured as without a change of any value. All may be text.
_FITTING: Mapping[str, tuple[str, ...]] = {
    "int": ("int", "bigint", "decimal"),
    "bigint": ("bigint", "decimal"),
    "decimal": ("decimal",),
    NUMERIC: ("decimal",),
    TINYINT: ("boolean", "int", "bigint", "decimal"),
    BIGINT_UNSIGNED: ("bigint", "decimal"),
}
_SUGGESTED = {NUMERIC: "decimal(38,10)", TINYINT: "int", BIGINT_UNSIGNED: "decimal(20,0)"}


# What fills a column where a statement gives it no value: a sequence (identity, serial,
# auto_increment); the time of the insert (a default); or the time of each update, too (a trigger,
# `on update`).
Filled = Literal["", "sequence", "insert", "update"]


@dataclass(frozen=True)
class FoundColumn:
    """A column of a relation.

    Attributes:
        type: One of headrace.schema.TYPE_NAMES, or of this module; `string` for a type that is read
            in its text form.
        database_type: Its type as the database says it, of tables and views.
        is_nullable: Whether it may be NULL, as far as it is declared.
        comment: Its comment.
        filled: See Filled.
    """

    name: str
    type: str
    database_type: str = ""
    is_nullable: bool = True
    comment: str = ""
    filled: Filled = ""


@dataclass(frozen=True)
class ForeignKey:
    """Columns of a relation that refer to those of another one.

    Attributes:
        columns: Names of columns.
        relation: The other relation, as FoundRelation.place.
        keys: Its columns, in the order of `columns`.
    """

    columns: tuple[str, ...]
    relation: tuple[str, str]
    keys: tuple[str, ...]


@dataclass(frozen=True)
class FoundRelation:
    """A table or a view that the user may read.

    Attributes:
        name: `schema.table`, quoted where it must be.
        kind: `table` or `view`.
        rows: As the planner estimates; None: not known.
        columns: In their order.
        key: Columns of the primary key, or of a unique index without NULLs; empty: there is none.
        indexed: Columns that begin an index.
        comment: Its comment.
        place: Schema and name, without quotes.
        is_primary: Whether `key` is the primary key.
        unique: Other keys: columns of unique indexes without NULLs.
        references: Foreign keys.
        size_bytes: Bytes of its rows; None: not known.
        is_appended: Whether rows were inserted and none was changed or deleted since the server
            counts; None: not known.
        has_pages: Whether the server can sample its pages.
    """

    name: str
    kind: str
    rows: int | None
    columns: tuple[FoundColumn, ...]
    key: tuple[str, ...]
    indexed: tuple[str, ...]
    comment: str = ""
    place: tuple[str, str] = ("", "")
    is_primary: bool = False
    unique: tuple[tuple[str, ...], ...] = ()
    references: tuple[ForeignKey, ...] = ()
    size_bytes: int | None = None
    is_appended: bool | None = None
    has_pages: bool = False


def source_names(entity: TableEntity, found: Mapping[str, str], label: str) -> dict[str, str]:
    """By declared column its name in the relation.

    Raises:
        SourceRejectedError: A column is missing, or has another type than it is declared with.
    """
    for _, error in column_faults(entity, found, label):
        raise error
    return {column.name: str(_name_there(column, found)) for column in entity.columns}


def column_faults(
    entity: TableEntity, found: Mapping[str, str], label: str
) -> Iterator[tuple[str, SourceRejectedError]]:
    """What does not fit the columns that a relation has: the path below the entity, and the error.

    Args:
        entity: What is declared.
        found: By column of the relation, its type.
        label: The relation, for messages.
    """
    for column in entity.columns:
        place = f"columns[{column.name}]"
        name = _name_there(column, found)
        if name is None:
            near = did_you_mean(column.source_name, found)
            yield (
                place,
                SourceRejectedError(
                    f"{label}: column '{column.source_name}' is missing",
                    fix="correct its name (`from`), or drop it from columns; the columns there are "
                    f"{', '.join(sorted(found))}{near}",
                ),
            )
        elif error := _type_fault(entity, column, found[name], label):
            key = "source_type" if column.source_type else "type"
            yield f"{place}.{key}", error
    yield from _cursor_faults(entity, found)


def _cursor_faults(
    entity: TableEntity, found: Mapping[str, str]
) -> Iterator[tuple[str, SourceRejectedError]]:
    """Columns that rows are selected by, and that are no times, or no ids, in the database."""
    extract = entity.extract
    times = {"extract.partition_by": extract.partition_by}
    times |= {"extract.cursor": extract.cursor} if isinstance(extract, WatermarkExtract) else {}
    for place, name in times.items():
        kind = _type_there(entity, name, found)
        if kind is not None and kind not in TIMES:
            yield (
                place,
                SourceRejectedError(
                    f"column '{name}' says a time, and is {kind} in the database",
                    fix="read a query that casts it to date, timestamp or timestamptz",
                ),
            )
    if isinstance(extract, IncreasingIdExtract):
        kind = _type_there(entity, extract.cursor, found)
        if kind is not None and kind not in ("int", "bigint", BIGINT_UNSIGNED):
            yield (
                "extract.cursor",
                SourceRejectedError(
                    f"column '{extract.cursor}' is an id, and is {kind} in the database",
                    fix="read a query that casts it to bigint",
                ),
            )


def _type_there(entity: TableEntity, name: str | None, found: Mapping[str, str]) -> str | None:
    there = _name_there(entity.column(name), found) if name else None
    return found[there] if there else None


def _name_there(column: ColumnConfig, found: Mapping[str, str]) -> str | None:
    return next((name for name in column.source_names if name in found), None)


def _type_fault(
    entity: TableEntity, column: ColumnConfig, found: str, label: str
) -> SourceRejectedError | None:
    declared = entity.captured_type(column)
    kind = "decimal" if decimal_parts(declared) else declared
    base = "decimal" if decimal_parts(found) else found
    if declared == "string" or kind in _FITTING.get(base, (base,)):
        return None
    suggested = _SUGGESTED.get(found, found)
    return SourceRejectedError(
        f"{label}: column '{column.source_name}' is {found}, not {declared}",
        fix=f"declare source_type: {suggested}, or type: {suggested}",
    )
