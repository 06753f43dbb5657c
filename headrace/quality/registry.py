"""The registry of checks: id, layer, level, severity and meaning of every check of a row or day.

A `CheckResult` holds an entry of this module, a `Violation` a reason made from one. Dagster's
asset checks and `docs/reference/checks.md` are generated from it.
"""

from dataclasses import dataclass
from typing import Literal

Layer = Literal["raw", "processed", "curated", "warehouse", "marts"]
Level = Literal["row", "partition"]
Severity = Literal["quarantine", "hold"]
TableKind = Literal[
    "entity",
    "entity_of_full_snapshots",
    "dimension",
    "fact",
    "periodic_snapshot",
    "warehouse_fact",
    "warehouse_fact_by_upsert",
    "mart",
]

_ENTITIES: tuple[TableKind, ...] = ("entity", "entity_of_full_snapshots")
_FACTS: tuple[TableKind, ...] = ("fact", "periodic_snapshot")
_WAREHOUSE_FACTS: tuple[TableKind, ...] = ("warehouse_fact", "warehouse_fact_by_upsert")


@dataclass(frozen=True)
class Check:
    """One kind of check.

    Attributes:
        id: Its name in the ledger and in Dagster; unique within a layer.
        layer: The layer whose rows it checks.
        description: For a partition, when it passes; for a row, when the row is quarantined.
        tables: The kinds of tables to which it applies.
        level: Whether it checks single rows or all rows of a partition.
        severity: What a failure does: quarantine the row, or hold the partition.
        reasons: Of a row check: the reasons that a quarantined row shows, as templates.
    """

    id: str
    layer: Layer
    description: str
    tables: tuple[TableKind, ...]
    level: Level = "partition"
    severity: Severity = "hold"
    reasons: tuple[str, ...] = ()

    def reason(self, **values: str) -> str:
        """The first template of `reasons`, with values for its placeholders."""
        return self.reasons[0].format(**values)


def _row_check(id: str, layer: Layer, description: str, *reasons: str) -> Check:  # noqa: A002
    return Check(id, layer, description, _ENTITIES, "row", "quarantine", reasons)


# Rows, in the order in which reasons are listed.
MALFORMED_RECORD = _row_check(
    "malformed_record",
    "raw",
    "The record has no columns, or a column that PostgreSQL cannot store.",
    "too few fields",
    "too many fields",
    "a quote is opened and never closed",
    "text after a closing quote",
    "text after a closing quote: declare format.escape if \\ escapes quotes",
    "more line breaks in quotes than format.max_line_breaks",
    "a NUL character",
    "bytes that are no text",
)
NOT_A_ROW = _row_check(
    "not_a_row",
    "processed",
    "Raw holds the record as text, without columns; the row shows raw's reason instead.",
    "not a row",
)
UNREADABLE_VALUE = _row_check(
    "unreadable_value",
    "processed",
    "A value cannot be read as the column's type.",
    "{column}: not {article} {type}",
)
SURPLUS_PLACES = _row_check(
    "surplus_places",
    "processed",
    "A value has more decimal places than the column's type, which does not declare `round`.",
    "{column}: {surplus}",
)
MISSING_VALUE = _row_check(
    "missing_value",
    "processed",
    "A column of the key, or one with `required: true`, has no value.",
    "{column}: missing",
)
FAILED_CALCULATION = _row_check(
    "failed_calculation",
    "processed",
    "The expression of a calculated column has no result for the row.",
    "{column}: division by zero",
    "{column}: a text that cannot be cast",
    "{column}: a result out of range",
)
MISSING_REFERENCE = _row_check(
    "missing_reference",
    "processed",
    "A lookup with `missing: quarantine` finds no row of the reference entity.",
    "{column}: not in {entity}",
)
MISPLACED_ROW = _row_check(
    "misplaced_row",
    "processed",
    "The row's event time lies outside its partition.",
    "{column}: not on the partition's {grain}{zone}",
)
DECLARED_RULE = _row_check(
    "declared_rule",
    "processed",
    "The condition of one of the entity's `rules` is false.",
    "{reason}",
)

# Partitions.
ROW_BALANCE = Check(
    "row_balance",
    "processed",
    "Every captured row is published, quarantined, dropped as a repeat, or left out by `where` or "
    "`transform`.",
    _ENTITIES,
)
ROW_COUNT = Check(
    "row_count",
    "processed",
    "The number of rows lies within `quality.min_rows` and `max_rows`; an empty day passes with "
    "`allow_empty`.",
    _ENTITIES,
)
QUARANTINED_SHARE = Check(
    "quarantined_share",
    "processed",
    "The share of quarantined rows is at most `quality.max_quarantined_share`.",
    _ENTITIES,
)
NOT_NULL = Check(
    "not_null", "processed", "Required columns have no NULL (from the files' footers).", _ENTITIES
)
UNIQUE_NATURAL_KEY = Check("unique_key", "processed", "Every natural key occurs once.", _ENTITIES)
VANISHED_MEMBERS = Check(
    "vanished_members",
    "processed",
    "At most `max_vanished_share` of the previous full snapshot's members are absent, and none "
    "while quarantined rows have no readable key.",
    ("entity_of_full_snapshots",),
)
UNIQUE_SURROGATE_KEY = Check(
    "unique_key", "curated", "Every surrogate key occurs once.", ("dimension",)
)
ONE_CURRENT_VERSION = Check(
    "one_current_version",
    "curated",
    "Every member has exactly one latest version, and every version ends after it begins.",
    ("dimension",),
)
SAME_TOTALS = Check(
    "same_totals",
    "curated",
    "Row count and sums of all measures equal those of the entity, exactly.",
    _FACTS,
)
FACT_NOT_NULL = Check(
    "not_null", "curated", "Required columns have no NULL (from the files' footers).", _FACTS
)
ONE_ROW_A_KEY = Check(
    "one_row_a_key",
    "curated",
    "Each combination of the grain's values occurs once a day.",
    ("periodic_snapshot",),
)
LOADED_TOTALS = Check(
    "same_totals",
    "warehouse",
    "Row count and sums of all measures equal those of the lake's table, exactly.",
    _WAREHOUSE_FACTS,
)
REFERENTIAL_INTEGRITY = Check(
    "referential_integrity",
    "warehouse",
    "Every foreign key refers to a row of its dimension.",
    _WAREHOUSE_FACTS,
)
PRIMARY_KEY = Check(
    "primary_key",
    "warehouse",
    "The primary key has no NULL, is unique, and fits into PostgreSQL's index.",
    ("warehouse_fact_by_upsert",),
)
PUBLISHED_WHOLE = Check(
    "published_whole",
    "curated",
    "All other days of the run passed: the table is published in one piece.",
    (),
)

CHECKS = (
    *(MALFORMED_RECORD, NOT_A_ROW, UNREADABLE_VALUE, SURPLUS_PLACES, MISSING_VALUE),
    *(MISSING_REFERENCE, FAILED_CALCULATION, MISPLACED_ROW, DECLARED_RULE),
    *(ROW_BALANCE, ROW_COUNT, QUARANTINED_SHARE, NOT_NULL, UNIQUE_NATURAL_KEY, VANISHED_MEMBERS),
    *(UNIQUE_SURROGATE_KEY, ONE_CURRENT_VERSION),
    *(SAME_TOTALS, FACT_NOT_NULL, ONE_ROW_A_KEY, PUBLISHED_WHOLE),
    *(LOADED_TOTALS, REFERENTIAL_INTEGRITY, PRIMARY_KEY),
)


def partition_checks(table: TableKind) -> tuple[Check, ...]:
    """The checks of a partition of one kind of table, in the order of the registry."""
    return tuple(c for c in CHECKS if c.level == "partition" and table in c.tables)


def row_checks() -> tuple[Check, ...]:
    """The checks of single rows."""
    return tuple(check for check in CHECKS if check.level == "row")


def dbt_test(name: str) -> Check:
    """A test that a dbt project declares: it holds the days that the mart was built for."""
    return Check(name, "marts", "The dbt test of this name finds no failing row.", ("mart",))
