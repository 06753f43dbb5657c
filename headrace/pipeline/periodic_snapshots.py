"""Processed to curated: periodic snapshots whose days depend on the days before them.

A publication records the state of processed that it was made from. Files that came or went since
name the first day that tells something else; from that day on every published day is made anew,
from the last one before it. A day in order reads the day before and its own rows: what it costs
does not grow with the history.
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
from headrace.pipeline.fact_audit import Totals, plus
from headrace.pipeline.facts import FactStep, StagedFact, Versions
from headrace.pipeline.processed import StagedDays
from headrace.pipeline.watermarks import as_read, changes_since_read
from headrace.quality.partition_checks import ROWS
from headrace.quality.report import PartitionReport, bad_days, passed_days
from headrace.standardize.schemas import PARTITION_COLUMN
from headrace.star.facts import STATE_DATE
from headrace.star.periodic_snapshots import first_change, state_changes, states

# Property of a publication: the code and the configuration that its states were made with.
_CODE = "headrace.states-version"
# Sail keeps a writer open for each day of a slice.
_DAYS_AT_ONCE = 30
_ROW_BYTES = 16


@dataclass(frozen=True)
class SnapshotStep:
    """Stages days of a fact that accumulates, and the published days that follow from them.

    Attributes:
        fact: Keys and audit of its days.
        processed: The rows that it accumulates.
        published: Days that the fact has, empty ones too.
        code_version: Of the code and the configuration that make a state.
    """

    fact: FactStep
    processed: LakeTable
    published: Collection[date]
    code_version: str

    def stage(self, asset: str, days: Sequence[date]) -> StagedFact:
        """Stage `days`, published days that follow from what changed, and those with other keys."""
        before = self.fact.table.snapshot_properties()
        changes = None
        if before.get(_CODE) == self.code_version:
            changes = changes_since_read(before, self.processed)
        asked = sorted({*days, *self._following(changes, days)})
        last = max((day for day in self.published if asked and day < asked[0]), default=None)
        # After the changes: what comes in between is read now, and found again by the next run.
        rows = self.processed.scan(where=EVERYTHING if last is None else _after(last))
        scans = self.fact.dimensions_since(min(asked, default=None))
        staged = self._in_order(asset, rows, last, asked, self.fact.versions_of(scans))
        moved = self.fact.moved()
        rekeyed = self.fact.rekeyed(asset, moved, passed_days(staged.reports))
        following = rekeyed | _of(staged, {*asked} - {*days})
        read = self.fact.dimensions_read(scans)
        read |= as_read(self.processed, rows if changes is None else changes.added)
        read[_CODE] = self.code_version
        bad = {*bad_days(staged.reports), *bad_days(rekeyed.reports)}
        is_behind = bool(bad & {*self.published})
        if is_behind:
            # Those days still have the rows of before: the next run has to look at them again.
            read = {name: before[name] for name in read if name in before}
        # A day follows from all before it: its own inputs do not tell what it holds.
        renewed = days if changes is None or changes else {*(moved.rows if moved else ())} & {*days}
        return StagedFact(_of(staged, {*days}), following, read, frozenset(renewed), not is_behind)

    def _following(self, changes: FileChanges | None, days: Sequence[date]) -> set[date]:
        """Published days, but those asked for, whose rows are others now."""
        if changes is None:
            # Nobody knows what they were made from: from nothing, then.
            return {*self.published} - {*days}
        touched = [*changes.added.days, *changes.removed.days]
        later = {day for day in self.published if touched and day >= min(touched)} - {*days}
        if not later:
            return set()
        spark, fact = self.fact.spark, self.fact
        removed, added = changes.removed.frame(spark), changes.added.frame(spark)
        # A file that was delivered again with the same rows changes no later day.
        first = first_change(removed, added, fact.config, fact.entity)
        return {day for day in later if first is not None and day >= first}

    def _in_order(
        self,
        asset: str,
        rows: LakeScan,
        last: date | None,
        days: Sequence[date],
        versions: Versions,
    ) -> StagedDays:
        if not days:
            return StagedDays({}, {}, {})
        before = self.fact.table.scan([last]).frame(self.fact.spark) if last else None
        chain = _Chain(self.fact, rows, versions, last or date.min, before)
        chain.expect(days)
        least = self.fact.slice_bytes // _DAYS_AT_ONCE
        sizes = {day: max(size, least) for day, size in chain.sizes().items()}
        slices = plan_batches(days, sizes, self.fact.slice_bytes)
        results, failed = stage_partition_batches(asset, slices, chain.stage)
        errors = {day: PartitionReport(day, error=why) for day, why in failed.items()}
        return reduce(StagedDays.__or__, results, StagedDays({}, {}, errors))


@dataclass
class _Chain:
    """Days staged one after the other, each from the one before it.

    Attributes:
        last: The day that `before` is of; rows of later days are not in it.
        before: The fact's rows of that day; None: there are none.
        expected: By day, what it must add up to.
    """

    fact: FactStep
    rows: LakeScan
    versions: Versions
    last: date
    before: DataFrame | None
    expected: dict[date, Totals] = field(default_factory=dict)

    def expect(self, days: Sequence[date]) -> None:
        """Find out what each of `days` must add up to, by another way than it is made."""
        told = self._told(days[-1]).withColumnRenamed(STATE_DATE, PARTITION_COLUMN)
        new = _new_keys(told, self.fact.config.grain)
        is_sum = self.fact.config.snapshot_of == "movements"
        sums = self.fact.totals(told) if is_sum else {}
        total: Totals = {ROWS: Decimal(0)}
        told_on = sorted({*new, *sums})
        for day in days:
            while told_on and told_on[0] <= day:
                one = told_on.pop(0)
                total = plus(total, {**sums.get(one, {}), ROWS: Decimal(new.get(one, 0))})
            self.expected[day] = total if total[ROWS] else {}

    def sizes(self) -> dict[date, int]:
        """About how many bytes each day will have."""
        row = self.rows.total_bytes // max(self.rows.total_rows, 1) or _ROW_BYTES
        return {day: int(of.get(ROWS, 0)) * row for day, of in self.expected.items()}

    def stage(self, days: Sequence[date]) -> StagedDays:
        """Stage days that come after all that were staged before."""
        fact = self.fact
        rows = states(self._told(days[-1]), days, fact.config, fact.entity)
        rows_in = {day: self.rows.rows(day) if day in self.rows.files_by_day else 0 for day in days}
        staged = fact.stage_rows(rows, self.versions, rows_in, self.expected)
        # Its keys are not looked at: a day that is held for them is a good start all the same.
        self.last = days[-1]
        self.before = fact.read({self.last: staged.partitions[self.last]})
        return staged

    def _told(self, until: date) -> DataFrame:
        since = [day for day in self.rows.days if self.last < day <= until]
        rows = self.rows.frame(self.fact.spark, since)
        return state_changes(self.before, rows, self.fact.config, self.fact.entity)


def _after(day: date) -> BooleanExpression:
    return GreaterThan(term=PARTITION_COLUMN, value=day.isoformat())


def _new_keys(told: DataFrame, grain: Sequence[str]) -> dict[date, int]:
    """How many combinations of the grain's values each day is the first to tell of."""
    first = told.groupBy(*grain).agg(F.min(PARTITION_COLUMN).alias("_first"))
    found = first.groupBy("_first").agg(F.count(F.lit(1)).alias("_keys")).collect()
    return {row["_first"]: row["_keys"] for row in found}


def _of(staged: StagedDays, days: Collection[date]) -> StagedDays:
    return StagedDays(
        {day: partition for day, partition in staged.partitions.items() if day in days},
        {},
        {day: report for day, report in staged.reports.items() if day in days},
    )
