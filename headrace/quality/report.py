"""What an audit found: one report a partition, made of named checks."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import Literal

from headrace.ledger.build_plan import BuildPlan
from headrace.staged import StagedOutput, StagedTable

Outcome = Literal["passed", "held", "failed"]


@dataclass(frozen=True)
class CheckResult:
    """One check of one partition: what was expected and what was found, as text for people."""

    name: str
    passed: bool
    expected: str
    found: str


@dataclass(frozen=True)
class PartitionReport:
    """The audit of one staged partition.

    Attributes:
        rows_in: Rows read from the layer above.
        rows_out: Rows staged for publication.
        rows_quarantined: Rows set aside with their reasons.
        rows_repeated: Rows dropped because a later row has the same key.
        rows_left_out: Rows that are none of the entity's (its `where`).
        values_rounded: Values with more places than their type, of columns that say `round`.
        rows_rekeyed: Rows of a published fact whose surrogate keys a late version moved.
        counts_are_inputs: Whether both counts are rows that were read: a mart's own rows may stand
            for many days.
        reasons: Reason to number of quarantined rows that give it.
        checks: What was checked; one failure holds the partition.
        error: Why the partition could not be staged at all; None if it could.
        is_transient: Whether that may pass by itself, so that trying again may help.
        waits: Whether it is held for a delivery that has not come; nothing went wrong.
    """

    partition: date
    rows_in: int = 0
    rows_out: int = 0
    rows_quarantined: int = 0
    rows_repeated: int = 0
    rows_left_out: int = 0
    values_rounded: int = 0
    rows_rekeyed: int = 0
    counts_are_inputs: bool = False
    reasons: Mapping[str, int] = field(default_factory=dict)
    checks: tuple[CheckResult, ...] = ()
    error: str | None = None
    is_transient: bool = False
    waits: bool = False

    @property
    def outcome(self) -> Outcome:
        """Failed when it could not be staged, held when it waits or a check failed, else passed."""
        if self.error is not None:
            return "held" if self.waits else "failed"
        return "passed" if all(check.passed for check in self.checks) else "held"

    @property
    def quality_score(self) -> float:
        """Share of the entity's rows that were good, 0 to 1; 1 for an empty partition."""
        own = self.rows_in - self.rows_left_out
        return 1.0 if not own else 1 - self.rows_quarantined / own

    def why(self) -> str:
        """Why it may not be published, in one line; empty when it may."""
        if self.error is not None:
            return self.error
        failed = (check for check in self.checks if not check.passed)
        told = [f"{c.name}: expected {c.expected}, found {c.found}" for c in failed]
        if told and self.reasons:
            # A day is most often held for what most of its quarantined rows have in common.
            reason, rows = max(self.reasons.items(), key=lambda pair: pair[1])
            told.append(f"most are quarantined because '{reason}' ({rows} rows)")
        return "; ".join(told)


def _no_runs() -> Mapping[date, str]:
    return MappingProxyType({})


def _no_reports() -> Mapping[date, PartitionReport]:
    return MappingProxyType({})


@dataclass(frozen=True)
class AuditedOutput(StagedOutput):
    """Days of a partitioned table with the audit of each, the bad ones included.

    Attributes:
        reports: Of the days that the run is about.
        restated: Of published days that the run had to write anew, whatever days it is about.
        warnings: What somebody may want to look at though no day fails for it.
        renewed: Days whose content differs from what is published, though their inputs do not.
        unchanged: Days whose content is what is published, though their inputs differ; with the
            run that published it.
        is_current: Whether every published day agrees with the tables that the asset follows.
        versions: Asked after publication for the content of days that their inputs do not tell.
        set_aside: Publishes what was set aside of some days; called before their rows are, so
            that whoever sees a day sees also its quarantine. A held day's says why it is held.
        plan: What the step set out to build.
    """

    reports: Mapping[date, PartitionReport] = field(default_factory=_no_reports)
    restated: Mapping[date, PartitionReport] = field(default_factory=_no_reports)
    warnings: tuple[str, ...] = ()
    renewed: Collection[date] = ()
    unchanged: Mapping[date, str] = field(default_factory=_no_runs)
    is_current: bool = True
    versions: Callable[[Collection[date]], Mapping[date, str]] | None = None
    set_aside: Callable[[Collection[date]], None] | None = None
    plan: BuildPlan | None = None


@dataclass(frozen=True)
class AuditedTable(StagedTable):
    """A whole table with the audit of each day whose changes it brings.

    It is published whole: a day that does not pass holds it back.

    Attributes:
        reports: Of the days that the run is about.
        restated: Of other days whose inputs changed since the table was published.
        plan: What the step set out to build.
    """

    reports: Mapping[date, PartitionReport] = field(default_factory=_no_reports)
    restated: Mapping[date, PartitionReport] = field(default_factory=_no_reports)
    plan: BuildPlan | None = None

    def __post_init__(self) -> None:
        """Hold the table back if a day did not pass."""
        bad = bad_days({**self.restated, **self.reports})
        object.__setattr__(self, "held", {**self.held, **bad})


def passed_days(reports: Mapping[date, PartitionReport]) -> list[date]:
    """The days that may be published."""
    return [day for day, report in reports.items() if report.outcome == "passed"]


def bad_days(reports: Mapping[date, PartitionReport]) -> dict[date, str]:
    """The days that may not, and why."""
    return {day: report.why() for day, report in reports.items() if report.outcome != "passed"}
