"""Arguments and metadata that every asset declares alike: checks, columns, owners."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from headrace.quality.pandera_schemas import frame_schema
from headrace.quality.registry import TableKind, partition_checks
from headrace.schema import TableSchema
from platform_assets.keys import WAREHOUSE

# The Iceberg catalog's name for Spark and other engines.
_LAKE = "lake"


def check_specs(key: dg.AssetKey, table: TableKind, *, for_ui: bool) -> list[dg.AssetCheckSpec]:
    """The registered checks of a kind of table; blocking: a failure holds the partition.

    Args:
        key: The asset.
        table: The kind of its table.
        for_ui: False for runs from the command line, where the list is empty: Dagster plans each
            declared check for each day with a row of its own, 8.8 s of a year. Results are logged
            all the same, and the definitions that the UI loads declare the checks.
    """
    return [
        dg.AssetCheckSpec(check.id, asset=key, description=check.description, blocking=True)
        for check in partition_checks(table)
        if for_ui
    ]


def check_outputs(context: dg.AssetExecutionContext) -> Iterator[dg.Output[Any]]:
    """Satisfy the check outputs that Dagster waits for; their results are logged already."""
    for check in sorted(context.selected_asset_check_keys):
        name = context.assets_def.get_output_name_for_asset_check_key(check)
        yield dg.Output(None, output_name=name)


def table_metadata(name: str, schema: TableSchema, *, for_ui: bool) -> dict[str, Any]:
    """The table, its columns, and for the UI the pandera schema that guards it.

    Args:
        name: As namespace.name.
        schema: Its columns.
        for_ui: pandera takes a second to import; runs from the command line look at no metadata.
    """
    database = WAREHOUSE if name.startswith(f"{WAREHOUSE}.") else _LAKE
    metadata = {
        "table": name,
        # With its database or catalog, as dbt names its models: Dagster's catalog finds it by that.
        "dagster/table_name": f"{database}.{name}",
        "dagster/column_schema": _columns(schema),
    }
    if not for_ui:
        return metadata
    from dagster_pandera import pandera_schema_to_dagster_type  # noqa: PLC0415

    described = pandera_schema_to_dagster_type(frame_schema(name, schema))
    return {**metadata, "pandera_schema": described.metadata["schema"]}


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
