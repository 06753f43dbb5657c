"""Declarations that all assets share: checks, columns, pandera schemas."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from headrace.quality.pandera_schemas import frame_schema
from headrace.quality.registry import TableKind, partition_checks
from headrace.schema import TableSchema
from platform_assets.keys import WAREHOUSE

# The Iceberg catalog's name for Spark and other engines.
_LAKE = "lake"


@dataclass(frozen=True)
class Declarations:
    """How much the assets declare: all that the UI shows, or only what a run needs.

    Attributes:
        for_ui: False omits checks, pandera schemas and dagster-dbt. Dagster plans each declared
            check for each day in a row of its own, which takes 8.8 s of a year; the imports of
            pandera and dagster-dbt take a second each. Check results are logged in both cases.
    """

    for_ui: bool

    def check_specs(self, key: dg.AssetKey, table: TableKind) -> list[dg.AssetCheckSpec]:
        """The registered checks of a kind of table; blocking: a failure holds the partition."""
        return [
            dg.AssetCheckSpec(check.id, asset=key, description=check.description, blocking=True)
            for check in partition_checks(table)
            if self.for_ui
        ]

    def table_metadata(self, name: str, schema: TableSchema) -> dict[str, Any]:
        """The table (namespace.name), its columns, and for the UI its pandera schema."""
        database = WAREHOUSE if name.startswith(f"{WAREHOUSE}.") else _LAKE
        metadata = {
            "table": name,
            # With the database or catalog, as in dbt's models: Dagster's catalog search needs it.
            "dagster/table_name": f"{database}.{name}",
            "dagster/column_schema": _columns(schema),
        }
        if not self.for_ui:
            return metadata
        from dagster_pandera import pandera_schema_to_dagster_type  # noqa: PLC0415

        described = pandera_schema_to_dagster_type(frame_schema(name, schema))
        return {**metadata, "pandera_schema": described.metadata["schema"]}

    def dbt_assets(
        self,
        manifest: Mapping[str, Any],
        specs: Callable[[], Sequence[dg.AssetSpec]],
        translator: Callable[[], Any],
        **options: Any,
    ) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
        """A decorator for the function that builds dbt models: one asset a model.

        Args:
            manifest: dbt's parsed manifest.
            specs: Makes the assets without dagster-dbt, whose import loads all of dbt.
            translator: Makes dagster-dbt's translator, for the UI.
            options: Further arguments of the decorator.
        """
        if not self.for_ui:
            return dg.multi_asset(specs=specs(), can_subset=True, **options)
        from dagster_dbt import dbt_assets  # noqa: PLC0415

        return dbt_assets(manifest=manifest, dagster_dbt_translator=translator(), **options)


FOR_UI = Declarations(for_ui=True)
FOR_COMMANDS = Declarations(for_ui=False)


def check_outputs(context: dg.AssetExecutionContext) -> Iterator[dg.Output[Any]]:
    """Yield the check outputs that Dagster waits for; the results are logged already."""
    for check in sorted(context.selected_asset_check_keys):
        name = context.assets_def.get_output_name_for_asset_check_key(check)
        yield dg.Output(None, output_name=name)


def _columns(schema: TableSchema) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                column.type,
                description=column.description or None,
                constraints=dg.TableColumnConstraints(nullable=column.nullable),
            )
            for column in schema
        ]
    )
