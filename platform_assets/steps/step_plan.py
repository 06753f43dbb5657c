"""The plan of a step: the partitions that it builds, its inputs, and the lock that it holds."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache

import dagster as dg

from headrace.grain import WHOLE, Grain
from headrace.ledger import liveness
from headrace.ledger.build_plan import AssetLineage, BuildPlan, Gate
from headrace.ledger.ledger import Ledger
from headrace.ledger.records import PartitionRecord
from headrace.ledger.staleness import gate, read_stale, read_states
from headrace.warehouse.sessions import HeldLock
from io_managers.contexts import REBUILD_TAG
from platform_assets.keys import RAW, name_of
from platform_assets.partitions import takes_stale_days_only, window_of
from platform_assets.steps import events
from resources.warehouse import WarehouseResource


@dataclass(frozen=True)
class SourcePartitions:
    """The partitions that the connector of a raw asset reports.

    Attributes:
        named: The asset's partitions in the run; None: those in the run's window.
        pending: Partitions for which the source has new rows; a run with `--stale` builds them.
    """

    named: Collection[date] | None = None
    pending: Collection[date] = ()


_OF_WINDOW = SourcePartitions()


def plan_step(
    warehouse: WarehouseResource,
    context: dg.AssetExecutionContext,
    lineage: AssetLineage,
    *,
    with_stale: bool = False,
    own: SourcePartitions = _OF_WINDOW,
    sources: Mapping[str, AssetLineage] | None = None,
) -> BuildPlan:
    """Choose the partitions that a step builds and the input versions that it reads.

    A partition whose inputs are not published is skipped; the ledger and the log state why.

    Args:
        warehouse: Holds the ledger.
        context: Of the step.
        lineage: The asset that is built.
        with_stale: Whether the step also builds stale partitions outside the run's window.
        own: For a raw asset, which reads from outside the platform: its source's partitions.
        sources: By name, all raw assets.
    """
    ledger, step = warehouse.ledger(), context.get_step_execution_context()
    events.defer_asset_events(step)
    liveness.acquire(warehouse.connection_factory(), step.run_id)
    only_stale = takes_stale_days_only(context.run)
    needs_stale = only_stale or with_stale or not lineage.grain.has_periods
    stale = _stale_partitions(ledger, step, lineage) if needs_stale else set()
    stale |= _without_running(ledger, lineage, own.pending)
    partitions = own.named
    if partitions is None:
        partitions = _partitions_of_run(ledger, context.run, lineage, stale)
    days = [day for day in partitions if day in stale] if only_stale else sorted(partitions)
    candidates = {*days, *(stale if with_stale else ())}
    found = gate(lineage, read_states(ledger, lineage, candidates), candidates)
    in_run = {*days}
    plan = BuildPlan(
        lineage,
        gate=_gate_of(found, in_run),
        table_versions=ledger.watermarks.current_versions(lineage.table_inputs)
        if lineage.table_inputs
        else {},
        stale={day: read for day, read in found.open.items() if day not in in_run},
    )
    _record_skipped(ledger, step, plan)
    ledger.begin(lineage.name, plan.days, step.run_id)
    if not lineage.partition_inputs and not only_stale:
        _expect_other_sources(ledger, step, lineage, sources or {})
    return plan


def hold_lock(warehouse: WarehouseResource, step: events.Step, name: str) -> HeldLock:
    """Take an advisory lock; `release_lock` or the caller's `with` block frees it."""
    held = HeldLock(warehouse.connection_factory(), name)
    _held_locks()[step.run_id, step.step.key] = held
    return held


def release_lock(step: events.Step) -> None:
    """Free the lock that a step holds, if it holds one."""
    if held := _held_locks().pop((step.run_id, step.step.key), None):
        held.release()


@cache
def _held_locks() -> dict[tuple[str, str], HeldLock]:
    """The locks of this process by run and step.

    They are no attribute of a resource, because Dagster copies resources.
    """
    return {}


def _stale_partitions(ledger: Ledger, step: events.Step, lineage: AssetLineage) -> set[date]:
    """Stale partitions of an asset, except those that another running run will build."""
    found = read_stale(ledger, lineage)
    others = ledger.alive({run for one in found for run in one.runs}) - {step.run_id}
    return {one.partition for one in found if one.partition and not one.runs & others}


def _without_running(
    ledger: Ledger, lineage: AssetLineage, partitions: Collection[date]
) -> set[date]:
    """The partitions without those that a running run builds: that run captures their new rows."""
    states = ledger.states(lineage.name, partitions) if partitions else {}
    at = {day: state.running_run_id for day, state in states.items() if state.running_run_id}
    alive = ledger.alive({*at.values()}) if at else frozenset()
    return {day for day in partitions if at.get(day) not in alive}


def _partitions_of_run(
    ledger: Ledger, run: dg.DagsterRun, lineage: AssetLineage, stale: Collection[date]
) -> Collection[date]:
    """The partitions of an asset in a run's window.

    An asset whose grain has no periods is built in every run: its bad and stale partitions.
    """
    window = window_of(run)
    if lineage.grain.has_periods:
        return lineage.grain.starts(*window) if window else ()
    if not lineage.partition_inputs:
        return [WHOLE] if lineage.grain == Grain.NONE else []
    known = {
        day for name in lineage.partition_inputs for day in ledger.states(name) if day is not None
    }
    if lineage.grain == Grain.NONE:
        known &= {WHOLE}
    if window is None or REBUILD_TAG in run.tags:
        return known
    own = ledger.states(lineage.name)
    bad = {day for day in known if day in own and own[day].status != "published"}
    return bad | (known & {*stale})


def _record_skipped(ledger: Ledger, step: events.Step, plan: BuildPlan) -> None:
    """Record the partitions that cannot be built, with the reason."""
    if not plan.gate.shut:
        return
    name, code = plan.lineage.name, plan.lineage.code_version
    ledger.record(
        PartitionRecord(
            name, day, "skipped", step.run_id, code_version=code, error=why, quality_score=0
        )
        for day, why in plan.gate.shut.items()
    )
    for day, why in plan.gate.shut.items():
        step.log.warning("%s %s skipped: %s", name, plan.lineage.grain.label(day), why)


def _expect_other_sources(
    ledger: Ledger, step: events.Step, lineage: AssetLineage, sources: Mapping[str, AssetLineage]
) -> None:
    """Record the partitions of the run's other raw assets as expected.

    If the run is killed before those assets start, the ledger still lists their partitions.
    """
    window = window_of(step.dagster_run)
    if window is None:
        return
    selected = step.job_def.asset_layer.selected_asset_keys
    raw_assets = {name_of(key) for key in selected if key.path[0] == RAW}
    for name in raw_assets & sources.keys() - {lineage.name}:
        ledger.expect(name, sources[name].grain.starts(*window), step.run_id)


def _gate_of(found: Gate, days: Collection[date]) -> Gate:
    """The gate of some of its days."""
    return Gate(
        {day: read for day, read in found.open.items() if day in days},
        {day: why for day, why in found.shut.items() if day in days},
    )
