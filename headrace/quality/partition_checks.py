"""Partition rules: what has to be true of a day's counts and sums before it is published."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from headrace.config.sources import QualityConfig
from headrace.quality.report import CheckResult
from headrace.schema import TableSchema
from headrace.staged import StagedPartition

# Among a day's totals, its number of rows: no measure can be called so.
ROWS = "_rows"


def row_balance(
    *, rows_in: int, rows_out: int, quarantined: int, repeated: int, left_out: int = 0
) -> CheckResult:
    """Every row read was published, quarantined, a repeat, or another entity's: none is lost."""
    found = f"{rows_out} published + {quarantined} quarantined + {repeated} repeated"
    found += f" + {left_out} left out" if left_out else ""
    accounted = rows_out + quarantined + repeated + left_out
    return CheckResult("row_balance", rows_in == accounted, f"{rows_in} rows", found)


def row_count(config: QualityConfig, rows: int) -> CheckResult:
    """The day's rows lie within the declared bounds; an empty day passes where allowed."""
    upper = "any" if config.max_rows is None else str(config.max_rows)
    within = rows >= config.min_rows and (config.max_rows is None or rows <= config.max_rows)
    passed = within if rows else config.allow_empty
    return CheckResult("row_count", passed, f"{config.min_rows} to {upper} rows", f"{rows} rows")


def quarantined_share(config: QualityConfig, *, rows_in: int, quarantined: int) -> CheckResult:
    """Not more rows than declared were quarantined."""
    share = quarantined / rows_in if rows_in else 0.0
    return CheckResult(
        "quarantined_share",
        share <= config.max_quarantined_share,
        f"at most {config.max_quarantined_share:.2%}",
        f"{share:.2%} ({quarantined} of {rows_in} rows)",
    )


def not_null(schema: TableSchema, staged: StagedPartition) -> CheckResult:
    """No column that must be there is NULL; counted from the files' footers, without a read."""
    required = [column.name for column in schema if not column.nullable]
    nulls = {name: staged.nulls(name) for name in required if staged.nulls(name)}
    found = ", ".join(f"{count} in {name}" for name, count in nulls.items()) or "none"
    return CheckResult("not_null", not nulls, "no NULL in required columns", found)


def same_totals(
    name: str, expected: Mapping[str, Decimal], found: Mapping[str, Decimal]
) -> CheckResult:
    """Row count and sums of every measure equal those of the layer above, to the last digit."""
    wrong = [key for key in expected if expected[key] != found.get(key)]
    shown = list(wrong or expected)
    return CheckResult(name, not wrong, _sums(expected, shown), _sums(found, shown))


def one_row_a_key(grain: Sequence[str], repeated: int) -> CheckResult:
    """A periodic snapshot has each combination of its grain's values once a day."""
    found = f"{repeated} repeated"
    return CheckResult("one_row_a_key", not repeated, f"one row for each {', '.join(grain)}", found)


def primary_key(columns: Sequence[str], faults: Mapping[str, int]) -> CheckResult:
    """Every row's grain is there, its own within the day, and short enough for Postgres's index.

    Args:
        columns: Of the key.
        faults: What is wrong with keys, such as `repeated`, and how many are.
    """
    wrong = {fault: count for fault, count in faults.items() if count}
    found = ", ".join(f"{count} {fault}" for fault, count in wrong.items()) or "nothing else"
    return CheckResult("primary_key", not wrong, f"each {', '.join(columns)} once", found)


def referential_integrity(orphans: Mapping[str, int]) -> CheckResult:
    """Every foreign key has its member: column to number of rows whose member is missing."""
    missing = {column: count for column, count in orphans.items() if count}
    found = ", ".join(f"{count} rows in {column}" for column, count in missing.items()) or "none"
    return CheckResult("referential_integrity", not missing, "no key without a member", found)


def _sums(values: Mapping[str, Decimal], names: Sequence[str]) -> str:
    return ", ".join(f"{name.removeprefix('_')} {values.get(name, 0):f}" for name in names)
