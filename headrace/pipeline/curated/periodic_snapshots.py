"""Processed to curated: stages periodic snapshots, whose days depend on the days before them.

A publication records the watermark of its processed table. The files added and removed since give
the first day that changed; from that day on every published day is rebuilt, starting from the last
day before it. A day in order reads the day before and its own rows: its cost does not grow with
the history.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import reduce

from pyiceberg.expressions import BooleanExpression, GreaterThan
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headrace.engine.partition_batches import plan_batches, stage_partition_batches
from headrace.lake.changes import FileChanges
from headrace.lake.scan import EVERYTHING, LakeScan
from headrace.lake.table import LakeTable
from headrace.pipeline.curated.fact_audit import Totals, plus
from headrace.pipeline.curated.facts import AuditedFact, FactStep, JoinedDimensions
from headrace.pipeline.processed import AuditedDays
from headrace.pipeline.watermarks import as_read, changes_since_read
from headrace.quality.partition_checks import ROWS
from headrace.quality.report import PartitionReport, bad_days, passed_days
from headrace.schema import PARTITION_COLUMN
from headrace.star.facts import STATE_DATE
from headrace.star.periodic_snapshots import first_change, state_changes, states

# Snapshot property: version of the code and configuration that computed the states.
_CODE = "headrace.states-version"
# Sail keeps a writer open for each day of a batch.
_DAYS_AT_ONCE = 30
_ROW_BYTES = 16


@dataclass(frozen=True)
class PeriodicSnapshotStep:
    """Stages days of a periodic snapshot, and the published days that depend on them.

    Attributes:
        fact: Joins keys and audits days.
        processed: The table whose rows are accumulated.
        published: Days that the fact has, including empty ones.
        code_version: Version of the code and configuration that compute a state.
    """

    fact: FactStep
    processed: LakeTable
    published: Collection[date]
    code_version: str

    def stage(self, asset: str, days: Sequence[date]) -> AuditedFact:
        """Stage `days`, published days that depend on changes, and days whose keys changed."""
        before = self.fact.table.snapshot_properties()
        changes = None
        if before.get(_CODE) == self.code_version and self._can_continue():
            changes = changes_since_read(before, self.processed)
        requested = sorted({*days, *self._dependent_days(changes, days)})
        last = max(
            (day for day in self.published if requested and day < requested[0]), default=None
        )
        # Scanned after the changes were read: rows published in between are read now, and once more
        # by the next run.
        rows = self.processed.scan(where=EVERYTHING if last is None else _after(last))
        scans = self.fact.dimensions_since(min(requested, default=None))
        staged = self._in_order(asset, rows, last, requested, self.fact.versions_of(scans))
        moved = self.fact.moved()
        rekeyed = self.fact.rekeyed(asset, moved, passed_days(staged.reports))
        dependent = rekeyed | _of(staged, {*requested} - {*days})
        read = self.fact.dimensions_read(scans)
        read |= as_read(self.processed, rows if changes is None else changes.added)
        read[_CODE] = self.code_version
        bad = {*bad_days(staged.reports), *bad_days(rekeyed.reports)}
        is_stale = bool(bad & {*self.published})
        if is_stale:
            # These days keep their old rows; with the old watermarks the next run retries them.
            read = {name: before[name] for name in read if name in before}
        # A day depends on all days before it, so its rows may change while its own inputs do not.
        renewed = days if changes is None or changes else {*(moved.rows if moved else ())} & {*days}
        return AuditedFact(_of(staged, {*days}), dependent, read, frozenset(renewed), not is_stale)

    def _can_continue(self) -> bool:
        """Whether the published states have the column that later states of changes are built from.

        States of an earlier release may lack it.
        """
        is_sum = self.fact.config.snapshot_of == "movements"
        return is_sum or STATE_DATE in self.fact.table.schema().names

    def _dependent_days(self, changes: FileChanges | None, days: Sequence[date]) -> set[date]:
        """Published days, except the requested ones, whose rows have to be rebuilt."""
        if changes is None:
            # Their inputs are unknown: rebuild all.
            return {*self.published} - {*days}
        touched = [*changes.added.days, *changes.removed.days]
        later = {day for day in self.published if touched and day >= min(touched)} - {*days}
        if not later:
            return set()
        spark, fact = self.fact.spark, self.fact
        removed, added = changes.removed.frame(spark), changes.added.frame(spark)
        # A file redelivered with the same rows changes no later day.
        first = first_change(removed, added, fact.config, fact.entity)
        return {day for day in later if first is not None and day >= first}

    def _in_order(
        self,
        asset: str,
        rows: LakeScan,
        last: date | None,
        days: Sequence[date],
        versions: JoinedDimensions,
    ) -> AuditedDays:
        if not days:
            return AuditedDays({}, {}, {})
        before = self.fact.table.scan([last]).frame(self.fact.spark) if last else None
        stager = _DayStager(self.fact, rows, versions, last or date.min, before)
        stager.expect(days)
        least = self.fact.batch_bytes // _DAYS_AT_ONCE
        sizes = {day: max(size, least) for day, size in stager.sizes().items()}
        batches = plan_batches(days, sizes, self.fact.batch_bytes)
        results, failed = stage_partition_batches(asset, batches, stager.stage)
        errors = {day: PartitionReport(day, error=why) for day, why in failed.items()}
        return reduce(AuditedDays.__or__, results, AuditedDays({}, {}, errors))


@dataclass
class _DayStager:
    """Stages days in order, each batch from the state at the end of the one before.

    Attributes:
        last: The day of `before`; rows of later days are not in it.
        before: The fact's rows of that day; None without any.
        expected: By day, the expected totals.
    """

    fact: FactStep
    rows: LakeScan
    versions: JoinedDimensions
    last: date
    before: DataFrame | None
    expected: dict[date, Totals] = field(default_factory=dict)

    def expect(self, days: Sequence[date]) -> None:
        """Compute the expected totals of `days`, independently of how the states are computed."""
        changes = self._changes(days[-1]).withColumnRenamed(STATE_DATE, PARTITION_COLUMN)
        new = _new_keys(changes, self.fact.config.grain)
        is_sum = self.fact.config.snapshot_of == "movements"
        sums = self.fact.totals(changes) if is_sum else {}
        total: Totals = {ROWS: Decimal(0)}
        change_days = sorted({*new, *sums})
        for day in days:
            while change_days and change_days[0] <= day:
                one = change_days.pop(0)
                total = plus(total, {**sums.get(one, {}), ROWS: Decimal(new.get(one, 0))})
            self.expected[day] = total if total[ROWS] else {}

    def sizes(self) -> dict[date, int]:
        """Estimated bytes of each day."""
        row = self.rows.total_bytes // max(self.rows.total_rows, 1) or _ROW_BYTES
        return {day: int(of.get(ROWS, 0)) * row for day, of in self.expected.items()}

    def stage(self, days: Sequence[date]) -> AuditedDays:
        """Stage days that follow those staged before."""
        fact = self.fact
        rows = states(self._changes(days[-1]), days, fact.config, fact.entity)
        rows_in = {day: self.rows.rows(day) if day in self.rows.files_by_day else 0 for day in days}
        staged = fact.stage_rows(rows, self.versions, rows_in, self.expected)
        # The next batch reads the states and no surrogate keys, so it may start from a day that is
        # held for its keys.
        self.last = days[-1]
        self.before = fact.read({self.last: staged.partitions[self.last]})
        return staged

    def _changes(self, until: date) -> DataFrame:
        since = [day for day in self.rows.days if self.last < day <= until]
        rows = self.rows.frame(self.fact.spark, since)
        return state_changes(self.before, rows, self.fact.config, self.fact.entity)


def _after(day: date) -> BooleanExpression:
    return GreaterThan(term=PARTITION_COLUMN, value=day.isoformat())


def _new_keys(changes: DataFrame, grain: Sequence[str]) -> dict[date, int]:
    """By day, the number of keys of the grain that occur on it for the first time."""
    first = changes.groupBy(*grain).agg(F.min(PARTITION_COLUMN).alias("_first"))
    found = first.groupBy("_first").agg(F.count(F.lit(1)).alias("_keys")).collect()
    return {row["_first"]: row["_keys"] for row in found}


def _of(staged: AuditedDays, days: Collection[date]) -> AuditedDays:
    return AuditedDays(
        {day: partition for day, partition in staged.partitions.items() if day in days},
        {},
        {day: report for day, report in staged.reports.items() if day in days},
    )
