"""Checks of a staged partition by its counts and sums, as pure functions."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from headrace.config.entities.entity import QualityConfig
from headrace.quality import registry
from headrace.quality.report import CheckResult
from headrace.schema import TableSchema
from headrace.staged import StagedPartition

# Key of the row count among a partition's totals; no measure can have this name.
ROWS = "_rows"


def row_balance(
    *, rows_in: int, rows_out: int, quarantined: int, repeated: int, left_out: int = 0
) -> CheckResult:
    """Check that every row read is published, quarantined, a repeat, or left out."""
    found = f"{rows_out} published + {quarantined} quarantined + {repeated} repeated"
    found += f" + {left_out} left out" if left_out else ""
    accounted = rows_out + quarantined + repeated + left_out
    return CheckResult(registry.ROW_BALANCE, rows_in == accounted, f"{rows_in} rows", found)


def row_count(config: QualityConfig, rows: int) -> CheckResult:
    """Check that the number of rows lies within the declared bounds."""
    upper = "any" if config.max_rows is None else str(config.max_rows)
    within = rows >= config.min_rows and (config.max_rows is None or rows <= config.max_rows)
    passed = within if rows else config.allow_empty
    return CheckResult(
        registry.ROW_COUNT, passed, f"{config.min_rows} to {upper} rows", f"{rows} rows"
    )


def quarantined_share(config: QualityConfig, *, rows_in: int, quarantined: int) -> CheckResult:
    """Check that the share of quarantined rows is at most the declared one."""
    share = quarantined / rows_in if rows_in else 0.0
    return CheckResult(
        registry.QUARANTINED_SHARE,
        share <= config.max_quarantined_share,
        f"at most {config.max_quarantined_share:.2%}",
        f"{share:.2%} ({quarantined} of {rows_in} rows)",
    )


def not_null(check: registry.Check, schema: TableSchema, staged: StagedPartition) -> CheckResult:
    """Check that required columns have no NULL, from the files' footers alone."""
    required = [column.name for column in schema if not column.nullable]
    nulls = {name: staged.nulls(name) for name in required if staged.nulls(name)}
    found = ", ".join(f"{count} in {name}" for name, count in nulls.items()) or "none"
    return CheckResult(check, not nulls, "no NULL in required columns", found)


def same_totals(
    check: registry.Check, expected: Mapping[str, Decimal], found: Mapping[str, Decimal]
) -> CheckResult:
    """Check that row count and sums of all measures equal those of the input, exactly."""
    wrong = [key for key in expected if expected[key] != found.get(key)]
    shown = list(wrong or expected)
    return CheckResult(check, not wrong, _sums(expected, shown), _sums(found, shown))


def one_row_a_key(grain: Sequence[str], repeated: int) -> CheckResult:
    """Check that each combination of the grain's values occurs once a day."""
    found = f"{repeated} repeated"
    return CheckResult(
        registry.ONE_ROW_A_KEY, not repeated, f"one row for each {', '.join(grain)}", found
    )


def primary_key(columns: Sequence[str], faults: Mapping[str, int]) -> CheckResult:
    """Check that the primary key has no NULL, is unique, and fits into PostgreSQL's index.

    Args:
        columns: The primary key.
        faults: Kind of fault, such as `repeated`, to the number of rows that have it.
    """
    wrong = {fault: count for fault, count in faults.items() if count}
    found = ", ".join(f"{count} {fault}" for fault, count in wrong.items()) or "nothing else"
    return CheckResult(registry.PRIMARY_KEY, not wrong, f"each {', '.join(columns)} once", found)


def referential_integrity(orphans: Mapping[str, int]) -> CheckResult:
    """Check that foreign keys refer to existing rows.

    Args:
        orphans: Foreign key column to the number of rows whose member is missing.
    """
    missing = {column: count for column, count in orphans.items() if count}
    found = ", ".join(f"{count} rows in {column}" for column, count in missing.items()) or "none"
    return CheckResult(
        registry.REFERENTIAL_INTEGRITY, not missing, "no key without a member", found
    )


def _sums(values: Mapping[str, Decimal], names: Sequence[str]) -> str:
    return ", ".join(f"{name.removeprefix('_')} {values.get(name, 0):f}" for name in names)
