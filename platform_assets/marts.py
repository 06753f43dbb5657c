"""Assets of the marts: which partitions of dbt's models are built, and their outcomes."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from headrace import progress
from headrace.config.loader import Project
from headrace.grain import WHOLE, Grain
from headrace.ledger.build_plan import AssetLineage, BuildPlan
from headrace.ledger.ledger import Ledger
from headrace.marts.builder import DaysBuilt, MartBuilder
from headrace.marts.commands import NodeResult
from headrace.quality.registry import dbt_test
from headrace.quality.report import CheckResult, PartitionReport
from headrace.warehouse.ddl import views
from io_managers.contexts import REBUILD_TAG
from platform_assets.keys import MARTS, mart_key, name_of, warehouse_key
from platform_assets.metadata import Declarations
from platform_assets.partitions import with_partitions
from platform_assets.steps import events
from platform_assets.steps.recorder import LedgerRecorder

_BUILT = ("model", "seed", "snapshot")


def dbt_models(
    manifest: Path, declarations: Declarations
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """A decorator for the function that builds the models: one asset a model, tests as checks.

    Args:
        manifest: dbt's parsed manifest.
        declarations: Extent of the assets' declarations.
    """
    parsed = json.loads(manifest.read_text())
    return declarations.dbt_assets(
        parsed,
        lambda: _specs(parsed),
        _translator,
        name="marts",
        backfill_policy=dg.BackfillPolicy.single_run(),
    )


def _translator() -> Any:  # dagster-dbt is imported only if it is needed
    from dagster_dbt import (  # noqa: PLC0415
        DagsterDbtTranslator,
        DagsterDbtTranslatorSettings,
        DbtProject,
    )

    class Translator(DagsterDbtTranslator):
        """Keys and groups as in the other layers: the layer, then the table."""

        def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
            return _key(dbt_resource_props)

        def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
            return None if dbt_resource_props["resource_type"] == "source" else MARTS

        def get_asset_check_spec(
            self,
            asset_spec: dg.AssetSpec,
            manifest: Mapping[str, Any],
            unique_id: str,
            project: DbtProject | None,
        ) -> dg.AssetCheckSpec | None:
            spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
            if spec is None or spec.description:
                return spec
            return dg.AssetCheckSpec(
                spec.name,
                asset=spec.asset_key,
                description=_test_description(manifest["nodes"][unique_id]),
                additional_deps=spec.additional_deps,
                metadata=spec.metadata,
                blocking=spec.blocking,
            )

    return Translator(settings=DagsterDbtTranslatorSettings(enable_asset_checks=True))


def _test_description(node: Mapping[str, Any]) -> str:
    """The description of a dbt test, or else its kind and arguments."""
    if node.get("description"):
        return str(node["description"])
    kind = node.get("test_metadata") or {}
    arguments = {
        name: value for name, value in (kind.get("kwargs") or {}).items() if name != "model"
    }
    shown = ", ".join(f"{name}: {value}" for name, value in arguments.items())
    return f"dbt test {kind.get('name') or node['name']}" + (f" ({shown})" if shown else "")


def _specs(manifest: Mapping[str, Any]) -> list[dg.AssetSpec]:
    """The assets that dagster-dbt would make of the manifest, with what a run needs of them."""
    nodes = {**manifest["nodes"], **manifest["sources"]}
    return [
        dg.AssetSpec(
            _key(node),
            deps=sorted({_key(nodes[name]) for name in _parents(node, nodes)}),
            group_name=MARTS,
            code_version=hashlib.sha1(node["raw_code"].encode()).hexdigest(),  # noqa: S324
            kinds={"dbt", manifest["metadata"]["adapter_type"]},
        )
        for node in nodes.values()
        if node["resource_type"] in _BUILT and not _is_ephemeral(node)
    ]


def _parents(node: Mapping[str, Any], nodes: Mapping[str, Any]) -> Iterator[str]:
    """The parents of a model; ephemeral models are replaced by their own parents."""
    for name in node.get("depends_on", {}).get("nodes", ()):
        if _is_ephemeral(nodes[name]):
            yield from _parents(nodes[name], nodes)
        else:
            yield name


def _is_ephemeral(node: Mapping[str, Any]) -> bool:
    return bool(node.get("config", {}).get("materialized") == "ephemeral")


def _key(node: Mapping[str, Any]) -> dg.AssetKey:
    name = str(node["name"])
    return warehouse_key(name) if node["resource_type"] == "source" else mart_key(name)


def build_mart_assets(
    manifest: Path,
    builder: MartBuilder,
    lineages: Mapping[str, AssetLineage],
    project: Project,
    declarations: Declarations,
) -> dg.AssetsDefinition:
    """All dbt models. A run builds the partitions of its window that the warehouse has.

    It also builds stale partitions: their facts, or the members of these, have changed.

    Args:
        manifest: dbt's parsed manifest.
        builder: Runs dbt.
        lineages: Lineage by asset.
        project: Its partitions, and its views, which are refreshed after a build.
        declarations: Extent of the assets' declarations.
    """

    @dbt_models(manifest, declarations)
    def marts(
        context: dg.AssetExecutionContext, recorder: LedgerRecorder
    ) -> Iterator[dg.Output[None]]:
        step = context.get_step_execution_context()
        # In topological order: a model's event names the versions of its upstream models.
        in_order = step.job_def.asset_layer.asset_graph.toposorted_asset_keys
        keys = [key for key in in_order if key in context.selected_asset_keys]
        if not keys:
            # The Execute button of a check: run its tests on the published tables.
            checks = sorted(context.selected_asset_check_keys)
            results = builder.test([check.name for check in checks])
            checked = [check.asset_key for check in checks]
            events.log_checks(step, _check_evaluations(checked, [DaysBuilt((), results)]))
            yield from _outputs(context, {})
            return
        # The plan is made before dbt reads the facts: a load in between makes the partition stale.
        plans = {
            key: recorder.plan(context, lineages[name_of(key)], with_stale=True) for key in keys
        }
        reports: list[PartitionReport] = []
        rebuild = REBUILD_TAG in context.run.tags
        with recorder.recording_failure(context, plans):
            planned = len({day for plan in plans.values() for day in (*plan.days, *plan.stale)})
            progress.report("marts", 0, planned)
            for partitions, some in _by_partitions(plans):
                names = [key.path[-1] for key in some]
                days = _days_of(plans[some[0]].lineage, partitions)
                builds = builder.build_days(names, days, rebuild=rebuild) if partitions else []
                for key in some:
                    fact_rows = _fact_rows(recorder.ledger(), plans[key].lineage, partitions)
                    own = _reports(key, builds, fact_rows, plans[key].lineage)
                    recorder.record_reports(step, key, plans[key], own)
                    reports += own.values()
                events.log_checks(step, _check_evaluations(some, builds))
            views.refresh(recorder.warehouse.connection_factory(), project.views, [MARTS])
            progress.report("marts", planned, planned)
        recorder.end(step, keys, reports)
        stale = {day for plan in plans.values() for day in plan.stale}
        yield from _outputs(context, {"days_restated": len(stale)})

    built = {key: lineages[name_of(key)].grain for key in marts.keys}
    return with_partitions(marts, built, project.settings.partitions)


def _by_partitions(
    plans: Mapping[dg.AssetKey, BuildPlan],
) -> list[tuple[list[date], list[dg.AssetKey]]]:
    """Group models that are built for the same partitions; upstream models come first.

    A model has all facts of its upstream models as inputs, and so at most as many partitions.
    """
    together: dict[tuple[object, ...], list[dg.AssetKey]] = {}
    partitions: dict[tuple[object, ...], list[date]] = {}
    for key, plan in plans.items():
        some = sorted({*plan.days, *plan.stale})
        kind = (plan.lineage.grain, *sorted(plan.lineage.grains.items()), *some)
        together.setdefault(kind, []).append(key)
        partitions[kind] = some
    found = [(partitions[kind], keys) for kind, keys in together.items()]
    return sorted(found, key=lambda pair: len(pair[0]), reverse=True)


def _days_of(lineage: AssetLineage, partitions: Sequence[date]) -> list[date] | None:
    """The days that are built for a model's partitions; None: all days.

    If a longer partition of a fact begins on one of them, all its days are built.
    """
    days: set[date] = set()
    for partition in partitions:
        for name in lineage.inputs:
            grain = lineage.grain_of(name)
            if grain == Grain.NONE and partition == WHOLE:
                return None
            if grain.start_of(partition) == partition:
                days |= {*grain.days_of(partition)}
    return sorted(days)


def _fact_rows(ledger: Ledger, lineage: AssetLineage, days: Sequence[date]) -> dict[date, int]:
    """By day, the number of fact rows that a model is built from."""
    states = [ledger.states(name, days) for name in lineage.inputs]
    return {day: sum(some[day].rows_out for some in states if day in some) for day in days}


def _reports(
    key: dg.AssetKey,
    builds: Sequence[DaysBuilt],
    fact_rows: Mapping[date, int],
    lineage: AssetLineage,
) -> dict[date, PartitionReport]:
    """A report of each partition of a model; partitions of one build have the same outcome.

    Its row count is that of the facts, because a row of a mart may stand for many days.
    """
    model, reports = key.path[-1], dict[date, PartitionReport]()
    for build in builds:
        built = next((r for r in build.results if r.kind == "model" and r.name == model), None)
        if built is None:
            continue
        why = _not_built(built, build.results)
        tests = [r for r in build.results if r.kind == "test" and model in r.models]
        checks = tuple(_check(test) for test in tests if not test.passed) if why is None else ()
        has_all_days = model in build.rebuilt and why is None and not checks
        for partition in _covered(lineage, fact_rows, None if has_all_days else build.days):
            rows = fact_rows[partition]
            report = PartitionReport(
                partition, rows, rows, checks=checks, error=why, counts_are_inputs=True
            )
            # If the days of a partition are in several builds, a failed one decides.
            if partition not in reports or report.outcome != "passed":
                reports[partition] = report
    return reports


def _covered(
    lineage: AssetLineage, partitions: Collection[date], days: Collection[date] | None
) -> list[date]:
    """The partitions that contain some of the days; None: all days."""
    if days is None:
        return [*partitions]
    some = {*days}
    return [p for p in partitions if some & {*(_days_of(lineage, [p]) or some)}]


def _not_built(model: NodeResult, results: Sequence[NodeResult]) -> str | None:
    """Why dbt did not build a model; None if it did."""
    if model.status == "success":
        return None
    if model.status != "skipped":
        return f"dbt: {model.message}"
    causes = sorted(r.name for r in results if r.status in {"fail", "error"})
    return f"dbt skipped it, because of {', '.join(causes) or 'an upstream model'}"


def _check(test: NodeResult) -> CheckResult:
    """The check of a failed test, which holds the model's partitions."""
    found = test.message if test.failures is None else f"{test.failures} failing rows"
    return CheckResult(dbt_test(test.name), test.passed, "no failing rows", found)


def _check_evaluations(
    keys: Sequence[dg.AssetKey], builds: Sequence[DaysBuilt]
) -> Iterator[events.CheckEvaluation]:
    """Results of tests as Dagster's check evaluations; tests that did not run have none."""
    built = {key.path[-1]: key for key in keys}
    tests: dict[str, list[NodeResult]] = {}
    days = _span([day for build in builds for day in build.days or ()])
    for build in builds:
        for test in build.results:
            is_ours = test.kind == "test" and test.models and test.models[0] in built
            if is_ours and test.status != "skipped":
                tests.setdefault(test.unique_id, []).append(test)
    for some in tests.values():
        found = {"failing_rows": sum(test.failures or 0 for test in some)}
        key, passed = built[some[0].models[0]], all(test.passed for test in some)
        text = f"{days}: expected no failing rows, found {found['failing_rows']}"
        yield events.CheckEvaluation(key, some[0].name, passed, None, found, text)


def _span(days: Sequence[date]) -> str:
    if not days:
        return "all days"
    return str(min(days)) if len({*days}) == 1 else f"{min(days)} to {max(days)}"


def _outputs(
    context: dg.AssetExecutionContext, metadata: Mapping[str, int]
) -> Iterator[dg.Output[None]]:
    for key in sorted(context.selected_asset_keys):
        name = context.assets_def.get_output_name_for_asset_key(key)
        yield dg.Output(None, output_name=name, metadata=metadata)
    for check in sorted(context.selected_asset_check_keys):
        name = context.assets_def.get_output_name_for_asset_check_key(check)
        yield dg.Output(None, output_name=name)
