"""Relations as a database has them, against what is declared of an entity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace.config.columns import ColumnConfig
from headrace.config.table_source import TableEntity
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


@dataclass(frozen=True)
class FoundColumn:
    """A column of a relation.

    Attributes:
        type: One of headrace.schema.TYPE_NAMES, or of this module; `string` for a type that is read
            in its text form.
        database_type: Its type as the database says it, of tables and views.
        is_nullable: Whether it may be NULL, as far as it is declared.
        comment: Its comment.
    """

    name: str
    type: str
    database_type: str = ""
    is_nullable: bool = True
    comment: str = ""


@dataclass(frozen=True)
class FoundRelation:
    """A table or a view that the user may read.

    Attributes:
        name: `schema.table`, quoted where it must be.
        rows: As the planner estimates; None: not known.
        columns: In their order.
        key: Columns of the primary key, or of a unique index without NULLs; empty: there is none.
        indexed: Columns that begin an index.
        comment: Its comment.
    """

    name: str
    kind: str
    rows: int | None
    columns: tuple[FoundColumn, ...]
    key: tuple[str, ...]
    indexed: tuple[str, ...]
    comment: str = ""


def require_id(entity: TableEntity, name: str, found: Mapping[str, str]) -> None:
    """Check that an increasing id is an integer in the database, too.

    Raises:
        SourceRejectedError: It is none.
    """
    known = entity.column(name).source_names
    kind = next((found[one] for one in known if one in found), "")
    if kind not in ("int", "bigint", BIGINT_UNSIGNED):
        raise SourceRejectedError(
            f"column '{name}' is an id, and is {kind} in the database",
            fix="read a query that casts it to bigint",
        )


def source_names(entity: TableEntity, found: Mapping[str, str], label: str) -> dict[str, str]:
    """By declared column its name in the relation.

    Raises:
        SourceRejectedError: A column is missing, or has another type than it is declared with.
    """
    names: dict[str, str] = {}
    for column in entity.columns:
        name = next((name for name in column.source_names if name in found), None)
        if name is None:
            raise SourceRejectedError(
                f"{label}: column '{column.source_name}' is missing",
                fix="correct its name (`from`), or drop it from columns; the columns there are "
                + ", ".join(sorted(found)),
            )
        _require_type(entity, column, found[name], label)
        names[column.name] = name
    return names


def require_times(entity: TableEntity, names: Sequence[str], found: Mapping[str, str]) -> None:
    """Check that columns which say a time have times in the database, too.

    Raises:
        SourceRejectedError: One is a text there, by which rows cannot be selected.
    """
    for name in names:
        known = entity.column(name).source_names
        kind = next((found[one] for one in known if one in found), "")
        if kind not in TIMES:
            raise SourceRejectedError(
                f"column '{name}' says a time, and is {kind} in the database",
                fix="read a query that casts it to date, timestamp or timestamptz",
            )


def _require_type(entity: TableEntity, column: ColumnConfig, found: str, label: str) -> None:
    declared = entity.captured_type(column)
    kind = "decimal" if decimal_parts(declared) else declared
    base = "decimal" if decimal_parts(found) else found
    if declared == "string" or kind in _FITTING.get(base, (base,)):
        return
    suggested = _SUGGESTED.get(found, found)
    raise SourceRejectedError(
        f"{label}: column '{column.source_name}' is {found}, not {declared}",
        fix=f"declare source_type: {suggested}, or type: {suggested}",
    )
