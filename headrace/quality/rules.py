"""Row checks as Spark expressions: the reasons to quarantine a row."""

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F

from headrace.config.sources import RowRule
from headrace.quality.registry import DECLARED_RULE, Check

BETWEEN_REASONS = "; "


@dataclass(frozen=True)
class Objection:
    """A reason to quarantine a row, and the condition under which it holds (never NULL).

    Attributes:
        check: The row check that gives the reason.
        unreadable: The column whose text cannot be read, if that is the reason.
    """

    check: Check
    reason: str
    holds: Column
    unreadable: str | None = None


def declared_objections(rules: Sequence[RowRule]) -> tuple[Objection, ...]:
    """The declared rules; as in SQL's CHECK, a condition that is NULL passes."""
    return tuple(
        Objection(DECLARED_RULE, rule.reason, ~F.coalesce(F.expr(f"({rule.expect})"), F.lit(True)))
        for rule in rules
    )


def any_holds(objections: Sequence[Objection]) -> Column:
    """Whether a row is quarantined; never NULL."""
    condition = F.lit(False)
    for objection in objections:
        condition = condition | objection.holds
    return condition


def reasons(objections: Sequence[Objection]) -> Column:
    """Every reason that holds, in the order of declaration, joined by BETWEEN_REASONS.

    Text, not an array: engines name an array's elements differently in Parquet.
    """
    return F.concat_ws(BETWEEN_REASONS, *(F.when(o.holds, F.lit(o.reason)) for o in objections))
