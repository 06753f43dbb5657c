"""Marts: which days of them are built, and what became of these."""

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
from headrace.marts.builder import DaysBuilt, MartBuilder, NodeResult
from headrace.quality.registry import dbt_test
from headrace.quality.report import CheckResult, PartitionReport
from headrace.warehouse.ddl import views
from io_managers.contexts import REBUILD_TAG
from platform_assets.keys import MARTS, mart_key, name_of, warehouse_key
from platform_assets.partitions import with_partitions
from platform_assets.runtime import events
from platform_assets.runtime.recorder import LedgerRecorder

_BUILT = ("model", "seed", "snapshot")

_Compute = Callable[..., Iterator[dg.Output[None]]]


def dbt_models(manifest: Path, *, for_ui: bool) -> Callable[[_Compute], dg.AssetsDefinition]:
    """Decorates what builds the models: one asset a model, dbt's tests as checks of it.

    Args:
        manifest: dbt's manifest, parsed before.
        for_ui: False for runs from the command line: no checks (see
            `platform_assets.metadata.check_specs`), and without importing dagster-dbt, which brings
            all of dbt along and takes a second of each command.
    """
    parsed = json.loads(manifest.read_text())
    options: Mapping[str, Any] = {
        "name": "marts",
        "backfill_policy": dg.BackfillPolicy.single_run(),
    }
    if not for_ui:
        return dg.multi_asset(specs=_specs(parsed), can_subset=True, **options)
    from dagster_dbt import dbt_assets  # noqa: PLC0415

    return dbt_assets(manifest=parsed, dagster_dbt_translator=_translator(), **options)


def _translator() -> Any:  # dagster-dbt's class is imported only when it is needed
    from dagster_dbt import (  # noqa: PLC0415
        DagsterDbtTranslator,
        DagsterDbtTranslatorSettings,
        DbtProject,
    )

    class Translator(DagsterDbtTranslator):
        """Keys and groups as everywhere else: the layer, then the table."""

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
    """What a test of dbt says of itself, or else its kind and arguments."""
    if node.get("description"):
        return str(node["description"])
    kind = node.get("test_metadata") or {}
    arguments = {
        name: value for name, value in (kind.get("kwargs") or {}).items() if name != "model"
    }
    said = ", ".join(f"{name}: {value}" for name, value in arguments.items())
    return f"dbt test {kind.get('name') or node['name']}" + (f" ({said})" if said else "")


def _specs(manifest: Mapping[str, Any]) -> list[dg.AssetSpec]:
    """What dagster-dbt makes of the manifest, as far as a run looks at it."""
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
    """What a model reads, also through models that are only text in others."""
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
    *,
    for_ui: bool,
) -> dg.AssetsDefinition:
    """Every dbt model; a run builds the partitions that the warehouse holds of its window.

    It also builds those whose facts, or what these point to, changed since a mart was built.

    Args:
        manifest: dbt's manifest, parsed before.
        builder: Runs dbt.
        lineages: By asset: the facts that it is built from.
        project: Its partitions, and the views that follow what is built.
        for_ui: See `platform_assets.marts`.
    """

    @dbt_models(manifest, for_ui=for_ui)
    def marts(
        context: dg.AssetExecutionContext, recorder: LedgerRecorder
    ) -> Iterator[dg.Output[None]]:
        step = context.get_step_execution_context()
        # A model after those that it reads: its event says which of theirs it has seen.
        in_order = step.job_def.asset_layer.asset_graph.toposorted_asset_keys
        keys = [key for key in in_order if key in context.selected_asset_keys]
        if not keys:
            # A check's Execute button: its tests are run on what is published.
            checks = sorted(context.selected_asset_check_keys)
            results = builder.test([check.name for check in checks])
            checked = [check.asset_key for check in checks]
            events.log_checks(step, _judged(checked, [DaysBuilt((), results)]))
            yield from _outputs(context, {})
            return
        # Before the facts are read: a load in between makes its days stale, and is never missed.
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
                    facts_of = _facts_of(recorder.ledger(), plans[key].lineage, partitions)
                    judged = _reports(key, builds, facts_of, plans[key].lineage)
                    recorder.record_reports(step, key, plans[key], judged)
                    reports += judged.values()
                events.log_checks(step, _judged(some, builds))
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
    """Models that are built for the same partitions, together; what others may read comes first.

    A model that reads another one has all facts of that one, and so at most as many partitions.
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
    """The days of a model that its partitions stand for; None: all of them.

    A longer partition of a fact that begins in one of the model's has all its days built.
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


def _facts_of(ledger: Ledger, lineage: AssetLineage, days: Sequence[date]) -> dict[date, int]:
    """By day, the facts that a model is built from."""
    states = [ledger.states(name, days) for name in lineage.inputs]
    return {day: sum(some[day].rows_out for some in states if day in some) for day in days}


def _reports(
    key: dg.AssetKey,
    builds: Sequence[DaysBuilt],
    facts_of: Mapping[date, int],
    lineage: AssetLineage,
) -> dict[date, PartitionReport]:
    """What became of a model's partitions: those of one build fare alike.

    A partition's rows are the facts that went into it: a mart's own rows may stand for many days.
    """
    model, reports = key.path[-1], dict[date, PartitionReport]()
    for build in builds:
        built = next((r for r in build.results if r.kind == "model" and r.name == model), None)
        if built is None:
            continue
        why = _not_built(built, build.results)
        broken = [r for r in build.results if r.kind == "test" and model in r.models]
        checks = tuple(_check(test) for test in broken if not test.passed) if why is None else ()
        holds_all = model in build.anew and why is None and not checks
        for partition in _covered(lineage, facts_of, None if holds_all else build.days):
            rows = facts_of[partition]
            report = PartitionReport(
                partition, rows, rows, checks=checks, error=why, counts_are_inputs=True
            )
            # Of a partition whose days are in several builds, one that failed is what counts.
            if partition not in reports or report.outcome != "passed":
                reports[partition] = report
    return reports


def _covered(
    lineage: AssetLineage, partitions: Collection[date], days: Collection[date] | None
) -> list[date]:
    """The partitions that some days are of; None stands for all days."""
    if days is None:
        return [*partitions]
    some = {*days}
    return [p for p in partitions if some & {*(_days_of(lineage, [p]) or some)}]


def _not_built(model: NodeResult, results: Sequence[NodeResult]) -> str | None:
    """Why dbt made no rows of a model; None if it did."""
    if model.status == "success":
        return None
    if model.status != "skipped":
        return f"dbt: {model.message}"
    causes = sorted(r.name for r in results if r.status in {"fail", "error"})
    return f"dbt skipped it, because of {', '.join(causes) or 'what it reads'}"


def _check(test: NodeResult) -> CheckResult:
    """A failed test: it holds the model's days, whose rows stay what they were."""
    found = test.message if test.failures is None else f"{test.failures} failing rows"
    return CheckResult(dbt_test(test.name), test.passed, "no failing rows", found)


def _judged(
    keys: Sequence[dg.AssetKey], builds: Sequence[DaysBuilt]
) -> Iterator[events.CheckEvaluation]:
    """Dbt's tests as Dagster's checks; a test that never ran says nothing."""
    built = {key.path[-1]: key for key in keys}
    tests: dict[str, list[NodeResult]] = {}
    about = _span([day for build in builds for day in build.days or ()])
    for build in builds:
        for test in build.results:
            is_ours = test.kind == "test" and test.models and test.models[0] in built
            if is_ours and test.status != "skipped":
                tests.setdefault(test.unique_id, []).append(test)
    for some in tests.values():
        found = {"failing_rows": sum(test.failures or 0 for test in some)}
        key, passed = built[some[0].models[0]], all(test.passed for test in some)
        told = f"{about}: expected no failing rows, found {found['failing_rows']}"
        yield events.CheckEvaluation(key, some[0].name, passed, None, found, told)


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
