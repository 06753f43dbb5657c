"""The resource that plans, stages, publishes and records the partitions of a step."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date

import dagster as dg

from headrace.errors import HeadraceError, UnpublishedTableError
from headrace.lake.commit import Commit
from headrace.lake.table import LakeTable
from headrace.ledger.build_plan import AssetLineage, BuildPlan, Gate, content_id
from headrace.ledger.ledger import Ledger
from headrace.ledger.reconciliation import unrecorded_partitions
from headrace.ledger.records import PartitionRecord, PartitionState
from headrace.ledger.staleness import is_superseded, read_states
from headrace.quality import registry
from headrace.quality.report import (
    AuditedOutput,
    AuditedTable,
    CheckResult,
    PartitionReport,
    passed_days,
)
from headrace.schema import TableSchema
from headrace.staged import StagedPartitions, StagedTable
from headrace.warehouse.sessions import HeldLock
from platform_assets.keys import name_of
from platform_assets.steps import events, partition_events
from platform_assets.steps.partition_records import (
    ledger_records,
    superseded_record,
    with_content_versions,
    with_new_content,
)
from platform_assets.steps.step_end import end_step, failed_reports
from platform_assets.steps.step_plan import SourcePartitions, hold_lock, plan_step, release_lock
from resources.warehouse import WarehouseResource

Output = StagedPartitions | StagedTable
Audited = AuditedOutput | AuditedTable


class LedgerRecorder(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Records the partitions that a step published, held or failed: ledger rows, then events."""

    warehouse: dg.ResourceDependency[WarehouseResource]

    def ledger(self) -> Ledger:
        """The ledger in the warehouse's database."""
        return self.warehouse.ledger()

    def readable(self, key: dg.AssetKey, days: Collection[date]) -> frozenset[date]:
        """The days that downstream may read: their last attempt was published."""
        return self.ledger().readable(name_of(key), days)

    def lock(self, context: dg.AssetExecutionContext, name: str) -> HeldLock:
        """Hold a lock until the step's output is published, or the step ends.

        A `with` block in the asset's generator alone would release it too late: after an error in
        the IO manager, the generator stays open as long as the error is referenced.
        """
        return hold_lock(self.warehouse, context.get_step_execution_context(), name)

    def plan(
        self,
        context: dg.AssetExecutionContext,
        lineage: AssetLineage,
        *,
        with_stale: bool = False,
        own: SourcePartitions = SourcePartitions(),  # noqa: B008  # it is frozen
        sources: Mapping[str, AssetLineage] | None = None,
    ) -> BuildPlan:
        """Choose the partitions that a step builds: see `plan_step`."""
        return plan_step(
            self.warehouse,
            context,
            lineage,
            with_stale=with_stale,
            own=own,
            sources=sources,
        )

    def built_from_other_inputs(self, plan: BuildPlan) -> dict[date, PartitionState]:
        """Published partitions of a plan that the same code built from other inputs."""
        states = self.ledger().states(plan.lineage.name, plan.days)
        return {
            day: state
            for day in plan.days
            if (state := states.get(day))
            and state.inputs is not None
            and state.inputs != plan.inputs(day)
            and state.published_code_version == plan.lineage.code_version
        }

    def stage(
        self,
        context: dg.AssetExecutionContext,
        plan: BuildPlan,
        stage: Callable[[Sequence[date]], Audited],
    ) -> Audited:
        """Stage the partitions of a plan; an error fails all of them.

        The step itself goes on, because other inputs of the steps below it may be good. The last
        step of the run turns it red.

        Raises:
            TransientError: A retry may help, and the step's policy allows it.
        """
        try:
            return replace(stage(plan.days), plan=plan)
        except Exception as error:
            nothing = AuditedOutput(TableSchema(()), {}, is_current=False, plan=plan)
            if plan.days:
                step = context.get_step_execution_context()
                return replace(nothing, reports=failed_reports(step, plan.days, error))
            if isinstance(error, UnpublishedTableError):
                return nothing  # The input table does not exist yet, so nothing is stale.
            raise

    @contextmanager
    def recording_failure(
        self, context: dg.AssetExecutionContext, plans: Mapping[dg.AssetKey, BuildPlan]
    ) -> Iterator[None]:
        """In this block, an error fails all partitions of a step that builds several assets.

        Raises:
            TransientError: A retry may help, and the step's policy allows it.
            dg.Failure: A retry cannot help.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001  # any error fails these partitions
            self.record_failure(context.get_step_execution_context(), plans, error)
            hint = f"\nhint: {error.fix}" if isinstance(error, HeadraceError) else ""
            what = str(error) if hint else f"unexpected {type(error).__name__}"
            raise dg.Failure(f"{what}{hint}", allow_retries=False) from None

    def record_failure(
        self, step: events.Step, plans: Mapping[dg.AssetKey, BuildPlan], error: Exception
    ) -> None:
        """Record that an error failed the planned partitions of some assets.

        Raises:
            Exception: `error`, if it is transient and the step's policy allows a retry.
        """
        for key, plan in plans.items():
            self.record_reports(step, key, plan, failed_reports(step, plan.days, error))

    def record_reports(
        self,
        step: events.Step,
        key: dg.AssetKey,
        plan: BuildPlan,
        reports: Mapping[date, PartitionReport],
    ) -> None:
        """Write ledger rows in one transaction, then events, without ending the step."""
        self.ledger().record(ledger_records(step, plan, reports, None))
        self.log_reports(step, key, reports)

    def log_reports(
        self, step: events.Step, key: dg.AssetKey, reports: Mapping[date, PartitionReport]
    ) -> None:
        """Log Dagster's events of partitions that the ledger has already."""
        partition_events.log_reports(self.ledger(), step, key, reports)

    def publish(
        self, context: dg.OutputContext, output: Output, commit: Callable[[Output], Commit | None]
    ) -> Commit | None:
        """Publish the partitions that passed their audit, record every partition, end the step.

        Raises:
            dg.Failure: A retry may help; or the step is the run's last and partitions are bad.
        """
        step, key = context.step_context, context.asset_key
        if not isinstance(output, Audited):
            published = commit(output)
            self._record_whole(step, key, output, published)
            return published
        plan = output.plan or BuildPlan(_lineage_of(step, key), gate=_open_gate(output.reports))
        output = _held_as_one(replace(output, plan=plan))
        try:
            published, output = self._publish(step, key, output, plan, commit)
            self.end(step, [key], output.reports.values())
        finally:
            release_lock(step)
        return published

    def end(
        self, step: events.Step, keys: Sequence[dg.AssetKey], reports: Collection[PartitionReport]
    ) -> None:
        """End a step: see `end_step`."""
        end_step(self.ledger(), step, keys, reports)

    def reconcile(
        self, context: dg.AssetExecutionContext, lineage: AssetLineage, table: LakeTable
    ) -> None:
        """Record partitions that a killed run published and could not record.

        They get a new content version, which makes derived tables stale, and no inputs, which makes
        the partitions themselves stale.

        Args:
            context: Of the step that publishes the asset and holds its lock.
            lineage: The asset.
            table: The asset's table, with partitions.
        """
        step, key = context.get_step_execution_context(), context.asset_key
        found = unrecorded_partitions(lineage.name, table, self.ledger())
        if found is None:
            return
        snapshot_id, rows = found
        # Only partitions that passed their audit are published; how many rows were read is unknown.
        reports = {day: PartitionReport(day, rows_in=n, rows_out=n) for day, n in rows.items()}
        plan = BuildPlan(lineage, _open_gate(reports))
        records = ledger_records(step, plan, reports, snapshot_id)
        self.ledger().record(with_new_content(record, None) for record in records)
        self.log_reports(step, key, reports)
        step.log.warning(
            "%s: recorded %d partitions that a killed run had published",
            lineage.name,
            len(reports),
        )

    def _publish(
        self,
        step: events.Step,
        key: dg.AssetKey,
        output: Audited,
        plan: BuildPlan,
        commit: Callable[[Output], Commit | None],
    ) -> tuple[Commit | None, Audited]:
        """Commit and record under the asset's lock.

        Returns:
            The commit, and the output without partitions that a newer run has overtaken; partitions
            whose commit failed have a failed report.
        """
        published: Commit | None = None
        # Between reading what other runs published and recording the own publication, no other run
        # may publish.
        with self.warehouse.lock(f"publish {plan.lineage.name}"):
            output, overtaken = self._without_overtaken(step, output, plan)
            try:
                if isinstance(output, AuditedOutput) and output.publish_quarantine:
                    output.publish_quarantine(output.reports)
                published = commit(output)
            except Exception as error:  # noqa: BLE001  # any error fails these partitions
                failed = failed_reports(step, passed_days(output.reports), error)
                output = _with_failures(output, failed)
            self._record(step, key, output, plan, published, overtaken)
        return published, output

    def _without_overtaken(
        self, step: events.Step, output: Audited, plan: BuildPlan
    ) -> tuple[Audited, list[date]]:
        """Remove partitions that a newer run attempted with newer inputs.

        Returns:
            The remaining output, and the removed partitions.
        """
        if not plan.lineage.partition_inputs or isinstance(output, AuditedTable):
            return output, []  # A whole table is built and published under the asset's lock.
        states = read_states(self.ledger(), plan.lineage, plan.days)
        overtaken = [
            day
            for day, read in plan.gate.open.items()
            if is_superseded(plan.lineage, states, day, read, step.run_id)
        ]
        return (_without(output, overtaken) if overtaken else output), overtaken

    def _record(
        self,
        step: events.Step,
        key: dg.AssetKey,
        output: Audited,
        plan: BuildPlan,
        commit: Commit | None,
        overtaken: Sequence[date],
    ) -> None:
        ledger = self.ledger()
        snapshot_id = commit.snapshot_id if commit else None
        own = ledger_records(step, plan, output.reports, snapshot_id)
        if isinstance(output, AuditedOutput):
            unchanged = self._unchanged(plan, output)
            own = with_content_versions(own, output, snapshot_id, unchanged)
        own += [superseded_record(step, plan, day) for day in overtaken]
        restated = self._restated_records(step, plan, output.restated, snapshot_id)
        # A partition that was restated and then failed is in both; the ledger keeps the last row.
        ledger.record(restated, own)
        has_read = not isinstance(output, AuditedOutput) or output.is_current
        if plan.table_versions and has_read:
            ledger.watermarks.record_versions_read(plan.lineage.name, plan.table_versions)
        if overtaken:
            ledger.end(plan.lineage.name, overtaken, step.run_id)
            step.log.warning(
                "%s: a newer run published %s first: its rows stay",
                plan.lineage.name,
                ", ".join(map(str, overtaken)),
            )
        if output.restated:
            self.log_reports(step, key, output.restated)
        self.log_reports(step, key, output.reports)

    def _unchanged(self, plan: BuildPlan, output: AuditedOutput) -> set[date]:
        """Partitions whose rows equal the published ones, if no other run has published since."""
        if not output.unchanged:
            return set()
        states = self.ledger().states(plan.lineage.name, output.unchanged)
        runs = {day: state.published_run_id for day, state in states.items()}
        return {day for day, run in output.unchanged.items() if runs.get(day) == run}

    def _restated_records(
        self,
        step: events.Step,
        plan: BuildPlan,
        restated: Mapping[date, PartitionReport],
        snapshot_id: int | None,
    ) -> list[PartitionRecord]:
        """Partitions outside the run: stale ones that were built, and others that were re-keyed."""
        if not restated:
            return []
        states = self.ledger().states(plan.lineage.name, restated)
        records = ledger_records(step, plan, restated, snapshot_id)
        return [
            record
            if record.partition in plan.stale
            else with_new_content(record, states.get(record.partition))
            for record in records
        ]

    def _record_whole(
        self, step: events.Step, key: dg.AssetKey, output: Output, commit: Commit | None
    ) -> None:
        """Record the publication of an asset without partitions."""
        files = output.files if isinstance(output, StagedTable) else ()
        rows = sum(file.rows for file in files)
        version = _lineage_of(step, key).code_version
        # Without inputs, the content depends on the code alone.
        content = content_id(version)
        self.ledger().record(
            [
                PartitionRecord(
                    asset=name_of(key),
                    partition=None,
                    status="published",
                    run_id=step.run_id,
                    snapshot_id=commit.snapshot_id if commit else None,
                    code_version=version,
                    rows_in=rows,
                    rows_out=rows,
                    data_version=content,
                    inputs={},
                )
            ]
        )
        events.defer_asset_events(step)
        materialization = events.Materialization({"dagster/row_count": rows}, content)
        events.log_materializations(step, key, {None: materialization})


def _held_as_one(output: Audited) -> Audited:
    """Hold every partition of a table that is published whole if one of them is held."""
    if not isinstance(output, AuditedTable) or not output.held:
        return output
    failed_check = CheckResult(
        registry.PUBLISHED_WHOLE,
        passed=False,
        expected="every day passes",
        found=f"{min(output.held)} did not",
    )
    reports = {
        day: report
        if day in output.held
        else replace(report, checks=(*report.checks, failed_check))
        for day, report in {**output.restated, **output.reports}.items()
    }
    return replace(output, reports=reports, restated={})


def _with_failures(output: Audited, failed: Mapping[date, PartitionReport]) -> Audited:
    """The output of a commit that failed: nothing was restated, and no watermark advances."""
    reports = {**output.reports, **failed}
    if isinstance(output, AuditedTable):
        return replace(output, reports=reports)
    return replace(output, reports=reports, restated={}, is_current=False)


def _without(output: AuditedOutput, days: Collection[date]) -> AuditedOutput:
    return replace(
        output,
        partitions={day: some for day, some in output.partitions.items() if day not in days},
        held={day: why for day, why in output.held.items() if day not in days},
        reports={day: report for day, report in output.reports.items() if day not in days},
    )


def _open_gate(days: Collection[date]) -> Gate:
    """A gate that is open for days, without versions of inputs."""
    return Gate({day: {} for day in days})


def _lineage_of(step: events.Step, key: dg.AssetKey) -> AssetLineage:
    """The lineage of an asset that declares none: only its code version is known."""
    return AssetLineage(name_of(key), step.job_def.asset_layer.get(key).code_version or "")
