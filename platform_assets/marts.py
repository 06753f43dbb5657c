"""Marts: which days of them are built, and what became of these.

Belongs here: the asset's run, dbt's results as partitions, its tests as checks.
Elsewhere: what Dagster is told of the models (platform_assets.dbt_models), running dbt
(headrace.marts), the models themselves (dbt/).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

import dagster as dg

from headrace import progress
from headrace.marts import MartBuilder, NodeResult
from headrace.quality.report import PartitionReport
from headrace.warehouse import views
from platform_assets import events
from platform_assets.dbt_models import dbt_models
from platform_assets.keys import MARTS, WAREHOUSE, name_of, warehouse_key
from platform_assets.partitions import days_of
from platform_assets.recorder import PublicationRecorder


def build_mart_assets(
    manifest: Path,
    builder: MartBuilder,
    facts: Sequence[str],
    view_folder: Path,
    partitions: dg.PartitionsDefinition,
    *,
    for_ui: bool,
) -> dg.AssetsDefinition:
    """Every dbt model; a run builds the days that the warehouse holds of its window.

    It also builds the days whose facts, or what these point to, changed since a mart was built.

    Args:
        manifest: dbt's manifest, parsed before.
        builder: Runs dbt.
        facts: Warehouse tables whose published days decide which days are built.
        view_folder: Views that follow what is built.
        partitions: The days.
        for_ui: See `platform_assets.dbt_models`.
    """

    @dbt_models(manifest, partitions, for_ui=for_ui)
    def marts(
        context: dg.AssetExecutionContext, recorder: PublicationRecorder
    ) -> Iterator[dg.Output[None]]:
        keys = sorted(context.selected_asset_keys)
        step = context.get_step_execution_context()
        if not keys:
            # A check's Execute button: its tests are run on what is published.
            checks = sorted(context.selected_asset_check_keys)
            results = builder.test([check.name for check in checks])
            events.log_checks(step, _judged([check.asset_key for check in checks], results))
            yield from _outputs(context, {})
            return
        days = days_of(context.partition_keys)
        with recorder.attempt(context, days, keys):
            restated = recorder.warehouse.restatements()
            # Before the facts are looked at: a load in between is built again, and never missed.
            load = restated.last_load()
            behind = restated.marts_behind(
                [name_of(key) for key in keys], [f"{WAREHOUSE}.{fact}" for fact in facts]
            )
            facts_of = _published_facts(recorder, facts, sorted({*days, *behind}))
            progress.report("marts", 0, len(days))
            names = [key.path[-1] for key in keys]
            results = builder.build(names, list(facts_of)) if facts_of else ()
            reports = {key: _reports(key, results, facts_of) for key in keys}
            for key in keys:
                recorder.write_down(step, key, reports[key], snapshot_id=load)
            events.log_checks(step, _judged(keys, results))
            views.follow(recorder.warehouse.connector(), view_folder, [MARTS])
            progress.report("marts", len(days), len(days))
        recorder.end(step, keys, reports)
        yield from _outputs(context, {"days_restated": len({*facts_of} - {*days})})

    return marts


def _published_facts(
    recorder: PublicationRecorder, facts: Sequence[str], days: Sequence[date]
) -> dict[date, int]:
    """The days on which every fact table may be read, in order, with their facts."""
    states = [recorder.ledger().states(name_of(warehouse_key(fact)), days) for fact in facts]
    return {
        day: sum(some[day].rows_out for some in states)
        for day in days
        if all(day in some and some[day].status == "published" for some in states)
    }


def _reports(
    key: dg.AssetKey, results: Sequence[NodeResult], facts_of: Mapping[date, int]
) -> dict[date, PartitionReport]:
    """What became of a model: dbt builds a window whole, so all of its days fare alike.

    A day's rows are the facts that went into it: a mart's own rows may stand for many days.
    """
    model = key.path[-1]
    built = next((r for r in results if r.kind == "model" and r.name == model), None)
    why = None
    if built is None or built.status != "success":
        why = f"dbt: {built.message}" if built else "dbt did not build it"
    elif broken := [r for r in results if r.kind == "test" and model in r.models and not r.passed]:
        why = "; ".join(f"dbt test {r.name}: {r.message}" for r in broken)
    return {
        day: PartitionReport(day, rows_in=rows, rows_out=rows, error=why)
        for day, rows in facts_of.items()
    }


def _judged(
    keys: Sequence[dg.AssetKey], results: Sequence[NodeResult]
) -> Iterator[events.JudgedCheck]:
    """Dbt's tests as Dagster's checks; a test looks at the whole window at once."""
    built = {key.path[-1]: key for key in keys}
    for test in results:
        if test.kind == "test" and test.models and test.models[0] in built:
            found = {"failing_rows": test.failures or 0}
            yield events.JudgedCheck(built[test.models[0]], test.name, test.passed, metadata=found)


def _outputs(
    context: dg.AssetExecutionContext, metadata: Mapping[str, int]
) -> Iterator[dg.Output[None]]:
    for key in sorted(context.selected_asset_keys):
        name = context.assets_def.get_output_name_for_asset_key(key)
        yield dg.Output(None, output_name=name, metadata=metadata)
    for check in sorted(context.selected_asset_check_keys):
        name = context.assets_def.get_output_name_for_asset_check_key(check)
        yield dg.Output(None, output_name=name)
