"""The result of an audit: one report per partition, made of the results of checks."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from headrace.ledger.build_plan import BuildPlan
from headrace.quality.registry import Check
from headrace.staged import StagedPartitions, StagedTable

Outcome = Literal["passed", "held", "failed"]


@dataclass(frozen=True)
class CheckResult:
    """The result of one check of one partition, with expectation and finding as readable text."""

    check: Check
    passed: bool
    expected: str
    found: str

    @property
    def name(self) -> str:
        """The check's id, as the ledger and Dagster show it."""
        return self.check.id


@dataclass(frozen=True)
class PartitionReport:
    """The audit of one staged partition.

    Attributes:
        rows_in: Rows read from the input.
        rows_out: Rows staged for publication.
        rows_quarantined: Rows set aside with their reasons.
        rows_repeated: Rows dropped because a later row has the same key.
        rows_left_out: Rows that the entity's `where` or `transform` leaves out.
        values_rounded: Values with more places than their type, in columns with `round`.
        rows_rekeyed: Rows of a published fact whose surrogate keys changed by a late version.
        counts_are_inputs: Whether rows_out, too, counts the rows that were read. True for marts,
            whose rows may each aggregate several days.
        reasons: Reason to the number of quarantined rows that have it.
        checks: The results of checks; one failure holds the partition.
        error: Why the partition could not be staged; None if it was.
        is_transient: Whether a retry may succeed.
        waits: Whether the partition is held because its delivery has not arrived.
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
        """`failed` if not staged, `held` if it waits or a check failed, else `passed`."""
        if self.error is not None:
            return "held" if self.waits else "failed"
        return "passed" if all(check.passed for check in self.checks) else "held"

    @property
    def quality_score(self) -> float:
        """Share of the entity's rows that are not quarantined, 0 to 1; 1 for an empty partition."""
        own = self.rows_in - self.rows_left_out
        return 1.0 if not own else 1 - self.rows_quarantined / own

    def why(self) -> str:
        """Why the partition is not published, in one line; empty if it passed."""
        if self.error is not None:
            return self.error
        failed = (check for check in self.checks if not check.passed)
        lines = [f"{c.name}: expected {c.expected}, found {c.found}" for c in failed]
        if lines and self.reasons:
            # The most frequent reason usually explains why the partition is held.
            reason, rows = max(self.reasons.items(), key=lambda pair: pair[1])
            lines.append(f"most are quarantined because '{reason}' ({rows} rows)")
        return "; ".join(lines)


@dataclass(frozen=True)
class AuditedOutput(StagedPartitions):
    """Partitions of a table, with the audit of each, including those that did not pass.

    Attributes:
        reports: Reports of the run's partitions.
        restated: Reports of published partitions outside the run's window that it rewrote.
        warnings: Findings that fail no partition.
        renewed: Partitions whose content may differ from what is published, although their inputs
            are equal.
        unchanged: Partitions whose content equals what is published, although their inputs differ;
            each with the id of the run that published it.
        is_current: Whether all published partitions agree with the upstream tables' current
            snapshots.
        versions: Called after publication. Returns the content versions of partitions, for assets
            whose content does not follow from inputs.
        publish_quarantine: Publishes the quarantine of partitions. Called before their rows are
            published, so that a visible partition always has its quarantine; also for held ones.
        plan: The partitions that the step was to build.
    """

    reports: Mapping[date, PartitionReport] = field(default_factory=dict)
    restated: Mapping[date, PartitionReport] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    renewed: Collection[date] = ()
    unchanged: Mapping[date, str] = field(default_factory=dict)
    is_current: bool = True
    versions: Callable[[Collection[date]], Mapping[date, str]] | None = None
    publish_quarantine: Callable[[Collection[date]], None] | None = None
    plan: BuildPlan | None = None


@dataclass(frozen=True)
class AuditedTable(StagedTable):
    """A table that is published in one piece, with the audit of each partition that it changes.

    One partition that does not pass holds the whole table.

    Attributes:
        reports: Reports of the run's partitions.
        restated: Reports of other partitions whose inputs changed since the last publication.
        plan: The partitions that the step was to build.
    """

    reports: Mapping[date, PartitionReport] = field(default_factory=dict)
    restated: Mapping[date, PartitionReport] = field(default_factory=dict)
    plan: BuildPlan | None = None

    def __post_init__(self) -> None:
        """Hold the table if a partition did not pass."""
        bad = bad_days({**self.restated, **self.reports})
        object.__setattr__(self, "held", {**self.held, **bad})


def passed_days(reports: Mapping[date, PartitionReport]) -> list[date]:
    """The partitions that passed."""
    return [day for day, report in reports.items() if report.outcome == "passed"]


def bad_days(reports: Mapping[date, PartitionReport]) -> dict[date, str]:
    """The partitions that did not pass, and why."""
    return {day: report.why() for day, report in reports.items() if report.outcome != "passed"}
