"""Dagster's events of the partitions that a step published, held or failed."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date

import dagster as dg

from headrace.ledger.ledger import Ledger
from headrace.ledger.records import PartitionState
from headrace.quality.report import PartitionReport, passed_days
from platform_assets.keys import name_of
from platform_assets.partitions import grains_in
from platform_assets.steps import events


def log_reports(
    ledger: Ledger, step: events.Step, key: dg.AssetKey, reports: Mapping[date, PartitionReport]
) -> None:
    """Log materializations, check evaluations and failures of an asset's partitions.

    The ledger must have the partitions already: their events carry its data versions.
    """
    passed = passed_days(reports)
    states = ledger.states(name_of(key), passed)
    partitions = _DagsterPartitions.of(step, key)
    materializations: dict[str | None, events.Materialization] = {
        partitions.key(day): _materialization(reports[day], states.get(day))
        for day in sorted(passed)
        if day in partitions
    }
    events.log_materializations(step, key, materializations)
    events.log_checks(step, _check_evaluations(key, reports, partitions))
    bad = sorted(day for day in reports if reports[day].outcome != "passed")
    keys = dict.fromkeys(partitions.key(day) for day in bad if day in partitions)
    events.log_planned(step, key, [*keys])
    for day in bad:
        step.log.error(
            "%s %s %s: %s",
            name_of(key),
            grains_in(step.job_def)(name_of(key)).label(day),
            reports[day].outcome,
            reports[day].why(),
        )


def log_checks(
    step: events.Step,
    key: dg.AssetKey,
    reports: Mapping[date, PartitionReport],
    names: Collection[str],
) -> None:
    """Log the evaluations of some checks of partitions that were published before."""
    evaluations = _check_evaluations(key, reports, _DagsterPartitions.of(step, key))
    events.log_checks(step, [one for one in evaluations if one.name in names])


def _materialization(
    report: PartitionReport, state: PartitionState | None
) -> events.Materialization:
    if state is None:
        return events.Materialization(_metadata(report))
    return events.Materialization(_metadata(report), state.data_version, state.inputs or {})


def _metadata(report: PartitionReport) -> dict[str, int | float | str]:
    if report.counts_are_inputs:
        return {"facts_read": report.rows_in}
    counts: dict[str, int | float | str] = {"dagster/partition_row_count": report.rows_out}
    # Default values are omitted: each value is stored once for every partition and asset.
    if report.rows_in != report.rows_out:
        counts["rows_in"] = report.rows_in
    if report.rows_repeated:
        counts["rows_repeated"] = report.rows_repeated
    if report.rows_left_out:
        counts["rows_left_out"] = report.rows_left_out
    if report.values_rounded:
        counts["values_rounded"] = report.values_rounded
    if report.rows_rekeyed:
        counts["rows_rekeyed"] = report.rows_rekeyed
    if report.rows_quarantined:
        counts["rows_quarantined"] = report.rows_quarantined
        counts["quality_score"] = round(report.quality_score, 6)
        counts["reasons"] = ", ".join(f"{why}: {n}" for why, n in report.reasons.items())
    return counts


@dataclass(frozen=True)
class _DagsterPartitions:
    """The partition keys of an asset's definition.

    Attributes:
        keys: None for an asset without partitions: its events are of the whole asset.
    """

    keys: frozenset[str] | None

    @classmethod
    def of(cls, step: events.Step, key: dg.AssetKey) -> "_DagsterPartitions":
        """The keys of an asset of a step."""
        layer = step.job_def.asset_layer
        definition = layer.get(key).partitions_def if layer.has(key) else None
        return cls(None if definition is None else frozenset(definition.get_partition_keys()))

    def __contains__(self, day: date) -> bool:
        """Whether Dagster has the partition; the ledger also has partitions of sparse inputs."""
        return self.keys is None or day.isoformat() in self.keys

    def key(self, day: date) -> str | None:
        """The partition key of a day."""
        return None if self.keys is None else day.isoformat()


def _check_evaluations(
    key: dg.AssetKey,
    reports: Mapping[date, PartitionReport],
    partitions: _DagsterPartitions,
) -> Iterator[events.CheckEvaluation]:
    for day, report in sorted(reports.items()):
        if day not in partitions:
            continue
        partition = partitions.key(day)
        for check in report.checks:
            values = {"expected": check.expected, "found": check.found}
            # Dagster's history of a check shows the description but not the partition.
            text = f"{day}: expected {check.expected}, found {check.found}"
            yield events.CheckEvaluation(key, check.name, check.passed, partition, values, text)
