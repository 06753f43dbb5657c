"""dbt's models as assets: what Dagster is told of them.

Belongs here: keys, groups and dependencies of models, by dagster-dbt for the UI, and the same from
the manifest alone for runs from the command line.
Elsewhere: what the asset does (platform_assets.marts), parsing the project (headrace.marts).
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from platform_assets.keys import MARTS, mart_key, warehouse_key

_BUILT = ("model", "seed", "snapshot")

_Compute = Callable[..., Iterator[dg.Output[None]]]


def dbt_models(
    manifest: Path, partitions: dg.PartitionsDefinition, *, for_ui: bool
) -> Callable[[_Compute], dg.AssetsDefinition]:
    """Decorates what builds the models: one asset a model, dbt's tests as checks of it.

    Args:
        manifest: dbt's manifest, parsed before.
        partitions: The days.
        for_ui: False for runs from the command line: no checks (see
            `platform_assets.declare.check_specs`), and without importing dagster-dbt, which brings
            all of dbt along and takes a second of each command.
    """
    parsed = json.loads(manifest.read_text())
    options: Mapping[str, Any] = {
        "name": "marts",
        "partitions_def": partitions,
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
