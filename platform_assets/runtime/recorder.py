"""What becomes of each partition of a run: planned, published or not, and written down."""

import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from functools import cache

import dagster as dg
from pyspark.errors import PySparkException

from headrace.engine.outage import outage_of
from headrace.errors import HeadraceError, TransientError, UnpublishedTableError
from headrace.grain import WHOLE, Grain
from headrace.lake.commit import Commit
from headrace.lake.table import LakeTable
from headrace.ledger import liveness
from headrace.ledger.build_plan import AssetLineage, BuildPlan, Gate, content_id
from headrace.ledger.causes import BadPartition, fold
from headrace.ledger.ledger import Ledger, PartitionRecord, PartitionState
from headrace.ledger.reconciliation import unrecorded_partitions
from headrace.ledger.staleness import gate, is_overtaken, read_stale, read_states
from headrace.quality.report import (
    AuditedOutput,
    AuditedTable,
    CheckResult,
    PartitionReport,
    passed_days,
)
from headrace.schema import TableSchema
from headrace.staged import StagedOutput, StagedTable
from headrace.warehouse.sessions import HeldLock
from io_managers.contexts import REBUILD_TAG
from platform_assets.keys import RAW, name_of
from platform_assets.partitions import grains_in, takes_stale_days_only, window_of
from platform_assets.runtime import events
from resources.warehouse import WarehouseResource

_NAMED = 5
Output = StagedOutput | StagedTable


class PublicationRecorder(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Ledger rows and per-partition events of what a step published, held or failed."""

    warehouse: dg.ResourceDependency[WarehouseResource]

    def ledger(self) -> Ledger:
        """The ledger in the warehouse's database."""
        return self.warehouse.ledger()

    def publishable(self, key: dg.AssetKey, days: Collection[date]) -> frozenset[date]:
        """The days that downstream may read: their last attempt was published."""
        return self.ledger().publishable(name_of(key), days)

    def lock(self, context: dg.AssetExecutionContext, name: str) -> HeldLock:
        """Hold a lock until the step's output is published, or the step ends.

        Not until the asset's generator is closed: when an IO manager fails, it stays open for as
        long as the error is kept.
        """
        step = context.get_step_execution_context()
        held = HeldLock(self.warehouse.connection_factory(), name)
        _held_locks()[step.run_id, step.step.key] = held
        return held

    def plan(
        self,
        context: dg.AssetExecutionContext,
        lineage: AssetLineage,
        *,
        with_stale: bool = False,
        partitions: Collection[date] | None = None,
        sources: Mapping[str, AssetLineage] | None = None,
    ) -> BuildPlan:
        """Which partitions a step builds, from which versions; before it reads anything.

        Those whose inputs are not published are skipped, and say so in the ledger and in the log.

        Args:
            context: Of the step.
            lineage: The asset that is built.
            with_stale: Whether stale partitions are taken up that the run is not about.
            partitions: The asset's partitions that the run is about, where its days do not tell.
            sources: By name, every asset that reads from outside of the platform.
        """
        ledger, step = self.ledger(), context.get_step_execution_context()
        events.defer_asset_events(step)
        liveness.hold(self.warehouse.connection_factory(), step.run_id)
        only_stale = takes_stale_days_only(context.run)
        takes_stale = only_stale or with_stale or not lineage.grain.has_periods
        stale = self._stale(step, lineage) if takes_stale else set()
        days = partitions if partitions is not None else self._asked(context.run, lineage, stale)
        days = [day for day in days if day in stale] if only_stale else sorted(days)
        wanted = {*days, *(stale if with_stale else ())}
        found_gate = gate(lineage, read_states(ledger, lineage, wanted), wanted)
        asked = {*days}
        plan = BuildPlan(
            lineage,
            _among(found_gate, asked),
            ledger.table_versions(lineage.table_inputs) if lineage.table_inputs else {},
            {day: read for day, read in found_gate.open.items() if day not in asked},
        )
        self._skip(step, plan)
        ledger.begin(lineage.name, plan.days, step.run_id)
        window = window_of(context.run)
        if not lineage.read and window and not only_stale:
            # If the run dies before their turn, nothing else would tell that these were asked for.
            for name in _sources_of_run(step) & (sources or {}).keys() - {lineage.name}:
                grain = (sources or {})[name].grain
                ledger.expect(name, grain.starts(*window), step.run_id)
        return plan

    def built_from_other_inputs(self, plan: BuildPlan) -> dict[date, PartitionState]:
        """Days of a plan that are published, built by the same code from other inputs."""
        states = self.ledger().states(plan.lineage.name, plan.days)
        return {
            day: state
            for day in plan.days
            if (state := states.get(day))
            and state.inputs is not None
            and state.inputs != plan.inputs(day)
            and state.published_code_version == plan.lineage.code_version
        }

    def _stale(self, step: events.Step, lineage: AssetLineage) -> set[date]:
        """What has to be built of an asset, less what another run under way brings further."""
        ledger = self.ledger()
        found = read_stale(ledger, lineage)
        others = ledger.alive({run for one in found for run in one.runs}) - {step.run_id}
        return {one.partition for one in found if one.partition and not one.runs & others}

    def _asked(
        self, run: dg.DagsterRun, lineage: AssetLineage, stale: Collection[date]
    ) -> Collection[date]:
        """The partitions of an asset that a run is about.

        Any run is about those that have no period, as far as they are not as they should be.
        """
        window = window_of(run)
        if lineage.grain.has_periods:
            return lineage.grain.starts(*window) if window else ()
        if not lineage.read:
            return lineage.grain.starts(date.min, date.min)
        ledger = self.ledger()
        known = {day for name in lineage.read for day in ledger.states(name) if day is not None}
        if lineage.grain == Grain.NONE:
            known &= {WHOLE}
        if window is None or REBUILD_TAG in run.tags:
            return known
        own = ledger.states(lineage.name)
        bad = {day for day in known if day in own and own[day].status != "published"}
        return bad | (known & {*stale})

    def attempted(
        self,
        context: dg.AssetExecutionContext,
        plan: BuildPlan,
        stage: Callable[[Sequence[date]], AuditedOutput | AuditedTable],
    ) -> AuditedOutput | AuditedTable:
        """What a step staged; an error that no single day explains fails all of its days.

        The step goes on: what it feeds has other inputs too, and its last one turns the run red.

        Raises:
            TransientError: Repeating may help, and the step's policy allows it.
        """
        try:
            return _planned(stage(plan.days), plan)
        except Exception as error:
            if not plan.days and isinstance(error, UnpublishedTableError):
                # Nothing is there yet that could have changed.
                return _planned(AuditedOutput(TableSchema(()), {}, is_current=False), plan)
            if not plan.days:
                raise
            step = context.get_step_execution_context()
            reports = _failed(step, plan.days, error)
            nothing = AuditedOutput(TableSchema(()), {}, reports=reports, is_current=False)
            return _planned(nothing, plan)

    @contextmanager
    def attempt(
        self, context: dg.AssetExecutionContext, plans: Mapping[dg.AssetKey, BuildPlan]
    ) -> Iterator[None]:
        """Run a part of a step that builds several assets as one: an error fails all their days.

        Raises:
            TransientError: Repeating may help, and the step's policy allows it.
            dg.Failure: It cannot.
        """
        step = context.get_step_execution_context()
        try:
            yield
        except Exception as error:  # noqa: BLE001  # whatever it is, these days failed by it
            self.record_failure(step, plans, error)
            hint = f"\nhint: {error.fix}" if isinstance(error, HeadraceError) else ""
            what = str(error) if hint else f"unexpected {type(error).__name__}"
            raise dg.Failure(f"{what}{hint}", allow_retries=False) from None

    def record_failure(
        self, step: events.Step, plans: Mapping[dg.AssetKey, BuildPlan], error: Exception
    ) -> None:
        """Write down that an error failed the run's days of some assets.

        Raises:
            Exception: The error, where the step may be tried again.
        """
        for key, plan in plans.items():
            self.write_down(step, key, plan, _failed(step, plan.days, error))

    def publish(
        self, context: dg.OutputContext, output: Output, commit: Callable[[Output], Commit | None]
    ) -> Commit | None:
        """Publish what passed, write down what became of each day, then end the step.

        Raises:
            TransientError: Repeating may help, and the step's policy allows it.
            dg.Failure: This step is the run's last one over days that failed.
        """
        step, key = context.step_context, context.asset_key
        if not isinstance(output, AuditedOutput | AuditedTable):
            published = commit(output)
            self._record_whole(step, key, output, published)
            return published
        plan = output.plan or BuildPlan(_lineage_of(step, key), gate=_open(output.reports))
        output = _held_together(_planned(output, plan))
        try:
            return self._publish(step, key, output, plan, commit)
        finally:
            release_lock(step)

    def _publish(
        self,
        step: events.Step,
        key: dg.AssetKey,
        output: AuditedOutput | AuditedTable,
        plan: BuildPlan,
        commit: Callable[[Output], Commit | None],
    ) -> Commit | None:
        done: Commit | None = None
        # From the look at what others published since to the record of what is published now.
        with self.warehouse.lock(f"publish {plan.lineage.name}"):
            output, overtaken = self._giving_way(step, output, plan)
            try:
                if isinstance(output, AuditedOutput) and output.set_aside:
                    output.set_aside(output.reports)
                done = commit(output)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is of these days alone
                reports = _failed(step, passed_days(output.reports), error)
                output = _replaced(output, {**output.reports, **reports})
            self._write_down(step, key, output, plan, done, overtaken)
        self.end(step, [key], output.reports.values())
        return done

    def _giving_way(
        self, step: events.Step, output: AuditedOutput | AuditedTable, plan: BuildPlan
    ) -> tuple[AuditedOutput | AuditedTable, list[date]]:
        """The output without days that a newer run has been at with newer inputs, and these."""
        if not plan.lineage.read or isinstance(output, AuditedTable):
            return output, []  # A whole table is built and published under the asset's lock.
        states = read_states(self.ledger(), plan.lineage, plan.days)
        overtaken = [
            day
            for day, read in plan.gate.open.items()
            if is_overtaken(plan.lineage, states, day, read, step.run_id)
        ]
        return (_without(output, overtaken) if overtaken else output), overtaken

    def _write_down(
        self,
        step: events.Step,
        key: dg.AssetKey,
        output: AuditedOutput | AuditedTable,
        plan: BuildPlan,
        commit: Commit | None,
        overtaken: Sequence[date],
    ) -> None:
        ledger = self.ledger()
        snapshot_id = commit.snapshot_id if commit else None
        reports, restated = output.reports, output.restated
        own = ledger_records(step, plan, reports, snapshot_id)
        if isinstance(output, AuditedOutput):
            own = _with_versions(own, output, snapshot_id, self._still_unchanged(plan, output))
        own += [_given_way(step, plan, day) for day in overtaken]
        anew = self._restated_records(step, plan, restated, snapshot_id)
        # A day of the run that failed may be among the restated ones, and its failure is the news.
        ledger.record(anew, own)
        followed = not isinstance(output, AuditedOutput) or output.is_current
        if plan.table_versions and followed:
            ledger.record_followed(plan.lineage.name, plan.table_versions)
        if overtaken:
            ledger.end(plan.lineage.name, overtaken, step.run_id)
            step.log.warning(
                "%s: a newer run was faster with %s: its rows stay",
                plan.lineage.name,
                ", ".join(map(str, overtaken)),
            )
        if restated:
            self.log(step, key, restated)
        self.log(step, key, reports)

    def _still_unchanged(self, plan: BuildPlan, output: AuditedOutput) -> set[date]:
        """Days that hold what was published before, if no other run has published since."""
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
        """Days besides the run's: built from other inputs, or with other keys from the same."""
        if not restated:
            return []
        states = self.ledger().states(plan.lineage.name, restated)
        records = ledger_records(step, plan, restated, snapshot_id)
        return [
            record
            if record.partition in plan.stale
            else _rekeyed(record, states.get(record.partition))
            for record in records
        ]

    def _skip(self, step: events.Step, plan: BuildPlan) -> None:
        """Write down days that cannot be built, and why."""
        if not plan.gate.shut:
            return
        name, code = plan.lineage.name, plan.lineage.code_version
        self.ledger().record(
            PartitionRecord(
                name, day, "skipped", step.run_id, code_version=code, error=why, quality_score=0
            )
            for day, why in plan.gate.shut.items()
        )
        for day, why in plan.gate.shut.items():
            step.log.warning("%s %s skipped: %s", name, plan.lineage.grain.label(day), why)

    def _record_whole(
        self, step: events.Step, key: dg.AssetKey, output: Output, commit: Commit | None
    ) -> None:
        """Write down the publication of an asset without partitions."""
        files = output.files if isinstance(output, StagedTable) else ()
        rows = sum(file.rows for file in files)
        version = _lineage_of(step, key).code_version
        snapshot_id = commit.snapshot_id if commit else None
        # What has no inputs is a function of its code alone.
        content = content_id(version)
        self.ledger().record(
            [
                PartitionRecord(
                    asset=name_of(key),
                    partition=None,
                    status="published",
                    run_id=step.run_id,
                    snapshot_id=snapshot_id,
                    code_version=version,
                    rows_in=rows,
                    rows_out=rows,
                    data_version=content,
                    inputs={},
                )
            ]
        )
        events.defer_asset_events(step)
        said = events.Materialized({"dagster/row_count": rows}, content)
        events.log_materializations(step, key, {None: said})

    def end(
        self,
        step: events.Step,
        keys: Sequence[dg.AssetKey],
        reports: Collection[PartitionReport],
    ) -> None:
        """Let the run go on with its good days; turn it red where it ends.

        A failing step would stop every step below it, good days and other branches and all. So
        the last step below it fails, naming the days. Before that, a step with days that may pass
        is tried again as often as the job's policy allows; those that are published stay so, and
        raw reads nothing twice.

        Raises:
            TransientError: Days may pass when the step is tried again.
            dg.Failure: Nothing comes after this step, and not all that the run tried is published.
        """
        passing = [report for report in reports if report.is_transient]
        if takes_stale_days_only(step.dagster_run):
            # The landing sensor starts a run when the file comes. A stale run that sleeps until
            # its step is retried keeps one of the places of the run queue from other runs.
            passing = [report for report in passing if not report.waits]
        if passing and _may_try_again(step):
            raise dg.Failure(f"{len(passing)} days may pass later: {passing[0].why()}")
        if _has_selected_children(step, keys):
            return
        ledger = self.ledger()
        bad = ledger.bad_of_run(step.run_id) or ledger.skipped_of_run(step.run_id)
        if bad:
            grains = grains_in(step.job_def)
            causes = fold(
                BadPartition(r.asset, r.partition, r.status, r.error or "", grains(r.asset))
                for r in bad
            )
            named = [cause.line() for cause in causes[:_NAMED]]
            more = [f"… and {len(causes) - _NAMED} more causes"] if len(causes) > _NAMED else []
            what = f"{len(bad)} partitions were not published; they keep their last state"
            raise dg.Failure("\n".join([what, *named, *more]), allow_retries=False)

    def write_down(
        self,
        step: events.Step,
        key: dg.AssetKey,
        plan: BuildPlan,
        reports: Mapping[date, PartitionReport],
    ) -> None:
        """Ledger rows, all or none, and events, without ending the step."""
        self.ledger().record(ledger_records(step, plan, reports, None))
        self.log(step, key, reports)

    def catch_up(
        self, context: dg.AssetExecutionContext, lineage: AssetLineage, table: LakeTable
    ) -> None:
        """Write down what a run published that was killed before it could.

        With other content, from unknown inputs: so the warehouse and the marts follow, and the
        days are built again.

        Args:
            context: Of the step that publishes the asset; it has the asset's lock.
            lineage: The asset.
            table: The asset's, with partitions.
        """
        step, key = context.get_step_execution_context(), context.asset_key
        found = unrecorded_partitions(lineage.name, table, self.ledger())
        if found is None:
            return
        snapshot_id, reports = found
        plan = BuildPlan(lineage, _open(reports))
        records = ledger_records(step, plan, reports, snapshot_id)
        self.ledger().record(_rekeyed(record, None) for record in records)
        self.log(step, key, reports)
        step.log.warning(
            "%s: %d days were published by a run that was killed; written down now",
            lineage.name,
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
        step = context.get_step_execution_context()
        judged = _judged(key, reports, _Partitions.of(step, key))
        events.log_checks(step, [one for one in judged if one.name in names])

    def log(
        self,
        step: events.Step,
        key: dg.AssetKey,
        reports: Mapping[date, PartitionReport],
    ) -> None:
        """Dagster's events alone, after the ledger was written, whose data versions they have."""
        passed = passed_days(reports)
        states = self.ledger().states(name_of(key), passed)
        named = _Partitions.of(step, key)
        said: dict[str | None, events.Materialized] = {
            named.key(day): _materialized(reports[day], states.get(day))
            for day in sorted(passed)
            if day in named
        }
        events.log_materializations(step, key, said)
        events.log_checks(step, _judged(key, reports, named))
        bad = sorted(day for day in reports if reports[day].outcome != "passed")
        keys = dict.fromkeys(named.key(day) for day in bad if day in named)
        events.log_planned(step, key, [*keys])
        for day in bad:
            step.log.error(
                "%s %s %s: %s",
                name_of(key),
                grains_in(step.job_def)(name_of(key)).label(day),
                reports[day].outcome,
                reports[day].why(),
            )


def _sources_of_run(step: events.Step) -> set[str]:
    """Names of the assets of a run that read from outside of the platform."""
    selected = step.job_def.asset_layer.selected_asset_keys
    return {name_of(key) for key in selected if key.path[0] == RAW}


def release_lock(step: events.Step) -> None:
    """Free the lock that a step holds, if it holds one."""
    if held := _held_locks().pop((step.run_id, step.step.key), None):
        held.release()


@cache
def _held_locks() -> dict[tuple[str, str], HeldLock]:
    """By run and step: the locks of this process. Dagster copies resources, so none has them."""
    return {}


def ledger_records(
    step: events.Step,
    plan: BuildPlan,
    reports: Mapping[date, PartitionReport],
    snapshot_id: int | None,
) -> list[PartitionRecord]:
    """One ledger row a day.

    What may pass by itself is written down without its inputs: it is stale, and tried again.
    """
    return [
        PartitionRecord(
            asset=plan.lineage.name,
            partition=day,
            status="published" if report.outcome == "passed" else report.outcome,
            run_id=step.run_id,
            snapshot_id=snapshot_id if report.outcome == "passed" else None,
            code_version=plan.lineage.code_version,
            rows_in=report.rows_in,
            rows_out=report.rows_out,
            rows_quarantined=report.rows_quarantined,
            quality_score=report.quality_score,
            error=report.why() or None,
            data_version=plan.derived_version(day),
            seconds=round(time.monotonic() - plan.began, 3),
            inputs=None if report.is_transient else plan.inputs(day),
            checks=[
                {"name": c.name, "passed": c.passed, "expected": c.expected, "found": c.found}
                for c in report.checks
            ],
        )
        for day, report in reports.items()
    ]


def _planned(output: AuditedOutput | AuditedTable, plan: BuildPlan) -> AuditedOutput | AuditedTable:
    return replace(output, plan=plan)


def _held_together(output: AuditedOutput | AuditedTable) -> AuditedOutput | AuditedTable:
    """Of a table that is published whole, every day is held if one did not pass."""
    if not isinstance(output, AuditedTable) or not output.held:
        return output
    why = CheckResult(
        "published_whole",
        passed=False,
        expected="every day passes",
        found=f"{min(output.held)} did not",
    )
    reports = {
        day: report if day in output.held else replace(report, checks=(*report.checks, why))
        for day, report in {**output.restated, **output.reports}.items()
    }
    return replace(output, reports=reports, restated={})


def _replaced(
    output: AuditedOutput | AuditedTable, reports: Mapping[date, PartitionReport]
) -> AuditedOutput | AuditedTable:
    """The output with other reports; of a fact, nothing was restated or followed."""
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


def _among(found: Gate, days: Collection[date]) -> Gate:
    return Gate(
        {day: read for day, read in found.open.items() if day in days},
        {day: why for day, why in found.shut.items() if day in days},
    )


def _open(days: Collection[date]) -> Gate:
    """A gate that is open for days of which nothing more is known."""
    return Gate({day: {} for day in days})


def _with_versions(
    records: Sequence[PartitionRecord],
    output: AuditedOutput,
    snapshot_id: int | None,
    unchanged: Collection[date],
) -> list[PartitionRecord]:
    """The records with what is known of each day's content."""
    published = [r.partition for r in records if r.status == "published" and r.partition]
    versions = output.versions(published) if output.versions else {}
    found = [_with_version(record, output, versions, snapshot_id) for record in records]
    return [replace(r, content="same") if r.partition in unchanged else r for r in found]


def _with_version(
    record: PartitionRecord,
    output: AuditedOutput,
    versions: Mapping[date, str],
    snapshot_id: int | None,
) -> PartitionRecord:
    day = record.partition
    if day is not None and day in versions:
        return replace(record, data_version=versions[day], content="new")
    if day in output.renewed:
        version = content_id(str(record.data_version), str(snapshot_id))
        return replace(record, data_version=version, content="new")
    return record


def _rekeyed(record: PartitionRecord, before: PartitionState | None) -> PartitionRecord:
    """A record of other content from the inputs of before; without these they are unknown."""
    code = before.published_code_version if before else None
    return replace(
        record,
        inputs=before.inputs if before else None,
        code_version=code or record.code_version,
        data_version=content_id(str(record.snapshot_id), str(record.partition)),
        content="new",
    )


def _given_way(step: events.Step, plan: BuildPlan, day: date) -> PartitionRecord:
    return PartitionRecord(
        plan.lineage.name,
        day,
        "superseded",
        step.run_id,
        code_version=plan.lineage.code_version,
        inputs=plan.inputs(day),
        error="a newer run was faster, with newer inputs",
    )


def _failed(
    step: events.Step, days: Sequence[date], error: Exception
) -> dict[date, PartitionReport]:
    """Reports of days that an error failed; it is raised if the step may be tried again.

    Raises:
        Exception: The error, where repeating may help.
    """
    if isinstance(error, PySparkException):
        error = outage_of(error) or error
    is_transient = isinstance(error, TransientError | OSError)
    if is_transient and _may_try_again(step):
        raise error
    if isinstance(error, HeadraceError):
        why = f"{error} ({error.fix})"
    else:
        # Without its text, which may quote a row.
        why = f"unexpected {type(error).__name__} (the run's log shows where; please report it)"
        where = "".join(traceback.format_tb(error.__traceback__))
        step.log.error("unexpected %s\n%s", type(error).__name__, where)
    return {day: PartitionReport(day, error=why, is_transient=is_transient) for day in days}


def _lineage_of(step: events.Step, key: dg.AssetKey) -> AssetLineage:
    """Of an asset that declares none: only its code version is known."""
    return AssetLineage(name_of(key), step.job_def.asset_layer.get(key).code_version or "")


def _materialized(report: PartitionReport, state: PartitionState | None) -> events.Materialized:
    if state is None:
        return events.Materialized(_metadata(report))
    return events.Materialized(_metadata(report), state.data_version, state.inputs or {})


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


@dataclass(frozen=True)
class _Partitions:
    """An asset's partitions as Dagster knows them.

    Attributes:
        keys: None of an asset without partitions: its events are of the whole asset.
    """

    keys: frozenset[str] | None

    @classmethod
    def of(cls, step: events.Step, key: dg.AssetKey) -> "_Partitions":
        """Of an asset of a step."""
        layer = step.job_def.asset_layer
        definition = layer.get(key).partitions_def if layer.has(key) else None
        return cls(None if definition is None else frozenset(definition.get_partition_keys()))

    def __contains__(self, day: date) -> bool:
        """Whether Dagster knows the partition; the ledger also has those of sparse inputs."""
        return self.keys is None or day.isoformat() in self.keys

    def key(self, day: date) -> str | None:
        """The partition's key."""
        return None if self.keys is None else day.isoformat()


def _judged(
    key: dg.AssetKey, reports: Mapping[date, PartitionReport], named: _Partitions
) -> Iterator[events.JudgedCheck]:
    for day, report in sorted(reports.items()):
        if day not in named:
            continue
        partition = named.key(day)
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
