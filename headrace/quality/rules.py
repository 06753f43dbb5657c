"""Violations of row checks as Spark expressions: the reasons to quarantine a row."""

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F

from headrace.config.entities.entity import RowRule
from headrace.quality.registry import DECLARED_RULE, Check

REASON_SEPARATOR = "; "


@dataclass(frozen=True)
class Violation:
    """A reason to quarantine a row, and the condition under which a row has it.

    Attributes:
        check: The row check that is violated.
        reason: The text that a quarantined row shows.
        holds: Whether a row has the violation; never NULL.
        unreadable: The column whose text cannot be read, if that is the reason.
    """

    check: Check
    reason: str
    holds: Column
    unreadable: str | None = None


def declared_violations(rules: Sequence[RowRule]) -> tuple[Violation, ...]:
    """Violations of the declared rules; as in SQL's CHECK, a condition that is NULL passes."""
    return tuple(
        Violation(DECLARED_RULE, rule.reason, ~F.coalesce(F.expr(f"({rule.expect})"), F.lit(True)))
        for rule in rules
    )


def any_holds(violations: Sequence[Violation]) -> Column:
    """Whether a row is quarantined; never NULL."""
    condition = F.lit(False)
    for violation in violations:
        condition = condition | violation.holds
    return condition


def reasons(violations: Sequence[Violation]) -> Column:
    """The reasons of all violations of a row, in the order of declaration.

    Text, not an array: engines name an array's elements differently in Parquet.
    """
    return F.concat_ws(REASON_SEPARATOR, *(F.when(v.holds, F.lit(v.reason)) for v in violations))
