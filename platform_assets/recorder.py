"""What happened to each partition, written down: ledger first, then Dagster's events.

Belongs here: the hook that IO managers call once they have published, and how a run ends.
Elsewhere: Dagster's private parts (platform_assets.events), the ledger's table (headrace.ledger).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from types import MappingProxyType

import dagster as dg

from headrace.errors import HeadraceError, PermanentError
from headrace.lake.commit import Commit
from headrace.lake.table import LakeTable
from headrace.layers.unrecorded import unrecorded_days
from headrace.ledger.ledger import Ledger, PartitionRecord
from headrace.quality.report import AuditedOutput, AuditedTable, PartitionReport, passed_days
from headrace.staged import StagedOutput, StagedTable
from platform_assets import events
from platform_assets.keys import name_of
from resources.warehouse import WarehouseResource

_NAMED = 5
_NO_REPORTS: Mapping[date, PartitionReport] = MappingProxyType({})


class PublicationRecorder(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Ledger rows and per-partition events of what a step published, held or failed."""

    warehouse: dg.ResourceDependency[WarehouseResource]

    def ledger(self) -> Ledger:
        """The ledger in the warehouse's database."""
        return self.warehouse.ledger()

    def publishable(self, key: dg.AssetKey, days: Collection[date]) -> frozenset[date]:
        """The days that downstream may read: their last attempt was published."""
        return self.ledger().publishable(name_of(key), days)

    @contextmanager
    def attempt(
        self,
        context: dg.AssetExecutionContext,
        days: Sequence[date],
        keys: Sequence[dg.AssetKey] | None = None,
    ) -> Iterator[None]:
        """Run a step's body; an error that no single day explains fails all of its days.

        Restated days are none of `days`: they stay behind, and the next run takes them up.
        """
        step = context.get_step_execution_context()
        keys = keys or [context.asset_key]
        events.defer_asset_events(context.run)
        try:
            yield
        except (HeadraceError, OSError) as error:
            fix = error.fix if isinstance(error, HeadraceError) else "see the run's log"
            reports = {day: PartitionReport(day, error=f"{error} ({fix})") for day in days}
            for key in keys:
                self.write_down(step, key, reports, snapshot_id=None)
            if isinstance(error, PermanentError):
                raise dg.Failure(f"{error}\nhint: {fix}", allow_retries=False) from error
            raise

    def published(
        self, context: dg.OutputContext, output: StagedOutput | StagedTable, commit: Commit | None
    ) -> None:
        """Write down what became of each day, then end the step.

        Raises:
            dg.Failure: Nothing passed, or this step is the run's last one over days that failed.
        """
        step, key = context.step_context, context.asset_key
        snapshot_id = commit.snapshot_id if commit else None
        if isinstance(output, AuditedOutput | AuditedTable):
            restated = output.restated if isinstance(output, AuditedOutput) else {}
            self.write_down(step, key, output.reports, snapshot_id, restated)
            self.end(step, [key], {key: output.reports})
        else:
            files = output.files if isinstance(output, StagedTable) else ()
            self._record_whole(step, key, sum(file.rows for file in files), commit)

    def _record_whole(
        self, step: events.Step, key: dg.AssetKey, rows: int, commit: Commit | None
    ) -> None:
        """Write down the publication of an asset without partitions."""
        self.ledger().record(
            [
                PartitionRecord(
                    asset=name_of(key),
                    partition=None,
                    status="published",
                    run_id=step.run_id,
                    snapshot_id=commit.snapshot_id if commit else None,
                    code_version=step.job_def.asset_layer.get(key).code_version or "",
                    rows_in=rows,
                    rows_out=rows,
                    rows_quarantined=0,
                    quality_score=1.0,
                    error=None,
                )
            ]
        )
        events.defer_asset_events(step.dagster_run)
        events.log_materializations(step, key, {None: {"dagster/row_count": rows}})

    def end(
        self,
        step: events.Step,
        keys: Sequence[dg.AssetKey],
        reports: Mapping[dg.AssetKey, Mapping[date, PartitionReport]],
    ) -> None:
        """Let the run go on with its good days; turn it red where it ends.

        A failing step would stop every step below it, good days and all. So a step fails at once
        only if no day passed; else the last step below it fails, naming the days. Before that,
        a step with days that may pass is tried again as often as the job's policy allows; those
        that are published stay so, and raw reads nothing twice.

        Raises:
            dg.Failure: As said.
        """
        judged = [report for some in reports.values() for report in some.values()]
        passing = [report for report in judged if report.is_transient]
        if passing and _may_try_again(step):
            raise dg.Failure(f"{len(passing)} days may pass later: {passing[0].why()}")
        hopeless = bool(judged) and all(report.outcome != "passed" for report in judged)
        if not hopeless and _has_selected_children(step, keys):
            return
        bad = self.ledger().bad_of_run(step.run_id)
        if bad:
            named = [f"{r.asset} {r.partition} {r.status}: {r.error}" for r in bad[:_NAMED]]
            more = [f"… and {len(bad) - _NAMED} more"] if len(bad) > _NAMED else []
            what = f"{len(bad)} partitions were not published; they keep their last state"
            raise dg.Failure("\n".join([what, *named, *more]), allow_retries=False)

    def write_down(
        self,
        step: events.Step,
        key: dg.AssetKey,
        reports: Mapping[date, PartitionReport],
        snapshot_id: int | None,
        restated: Mapping[date, PartitionReport] = _NO_REPORTS,
    ) -> None:
        """Ledger rows, all or none, and events, without ending the step."""
        # A day of the run that failed may be among the restated ones, and its failure is the news.
        both = {day: report for day, report in reports.items() if day in restated}
        self.ledger().record(
            ledger_records(step, key, {**reports, **restated}, snapshot_id),
            ledger_records(step, key, both, snapshot_id),
        )
        if restated:
            self.log(step, key, restated)
        self.log(step, key, reports)

    def catch_up(self, context: dg.AssetExecutionContext, table: LakeTable) -> None:
        """Write down what a run published that was killed before it could.

        As published anew: so the warehouse and the marts follow, whatever days this run is about.

        Args:
            context: Of the step that publishes the asset; it has the asset's lock.
            table: The asset's, with partitions.
        """
        step, key = context.get_step_execution_context(), context.asset_key
        found = unrecorded_days(name_of(key), table, self.ledger())
        if found is None:
            return
        snapshot_id, reports = found
        self.write_down(step, key, reports, snapshot_id)
        step.log.warning(
            "%s: %d days were published by a run that was killed; written down now",
            name_of(key),
            len(reports),
        )

    def log_checks(
        self,
        context: dg.AssetExecutionContext,
        key: dg.AssetKey,
        reports: Mapping[date, PartitionReport],
        names: Collection[str],
    ) -> None:
        """The results of some checks alone, of what was published before."""
        judged = [one for one in _judged(key, reports) if one.name in names]
        events.log_checks(context.get_step_execution_context(), judged)

    def log(
        self,
        step: events.Step,
        key: dg.AssetKey,
        reports: Mapping[date, PartitionReport],
    ) -> None:
        """Dagster's events alone, where the ledger was written with the publication itself."""
        passed = passed_days(reports)
        rows: dict[str | None, dict[str, int | float | str]] = {
            day.isoformat(): _metadata(reports[day]) for day in passed
        }
        events.log_materializations(step, key, rows)
        events.log_checks(step, _judged(key, reports))
        bad = [day.isoformat() for day in reports if reports[day].outcome != "passed"]
        events.log_planned(step, key, bad)
        for day in sorted(day for day in reports if reports[day].outcome != "passed"):
            step.log.error(
                "%s %s %s: %s", name_of(key), day, reports[day].outcome, reports[day].why()
            )


def ledger_records(
    step: events.Step,
    key: dg.AssetKey,
    reports: Mapping[date, PartitionReport],
    snapshot_id: int | None,
) -> list[PartitionRecord]:
    """One ledger row a day."""
    version = step.job_def.asset_layer.get(key).code_version
    return [
        PartitionRecord(
            asset=name_of(key),
            partition=day,
            status="published" if report.outcome == "passed" else report.outcome,
            run_id=step.run_id,
            snapshot_id=snapshot_id if report.outcome == "passed" else None,
            code_version=version or "",
            rows_in=report.rows_in,
            rows_out=report.rows_out,
            rows_quarantined=report.rows_quarantined,
            quality_score=report.quality_score,
            error=report.why() or None,
        )
        for day, report in reports.items()
    ]


def _metadata(report: PartitionReport) -> dict[str, int | float | str]:
    if report.counts_are_inputs:
        return {"facts_read": report.rows_in}
    counts: dict[str, int | float | str] = {"dagster/partition_row_count": report.rows_out}
    # What is as it always is stays out: every value is stored once a partition and asset.
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


def _judged(
    key: dg.AssetKey, reports: Mapping[date, PartitionReport]
) -> Iterator[events.JudgedCheck]:
    for day, report in reports.items():
        partition = day.isoformat()
        for check in report.checks:
            said = {"expected": check.expected, "found": check.found}
            # The history of a check shows its description and no partition.
            told = f"{day}: expected {check.expected}, found {check.found}"
            yield events.JudgedCheck(key, check.name, check.passed, partition, said, told)


def _may_try_again(step: events.Step) -> bool:
    policy = step.op_retry_policy
    return policy is not None and step.previous_attempt_count < policy.max_retries


def _has_selected_children(step: events.Step, keys: Sequence[dg.AssetKey]) -> bool:
    layer = step.job_def.asset_layer
    selected = layer.selected_asset_keys
    children = {child for key in keys for child in layer.get(key).child_keys}
    return bool((children - {*keys}) & selected)
