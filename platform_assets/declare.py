"""What every asset of ours declares in the same way.

Belongs here: the arguments that asset decorators share, check specs, column schemas for the UI.
Elsewhere: the assets (the layers' modules).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from headrace.quality.frames import frame_schema
from headrace.schema import TableSchema

# Checks are judged before publication and logged a partition; Dagster is told their names so that
# the UI shows them beside the asset.
RAW_CHECKS = ("row_count",)
PROCESSED_CHECKS = ("row_balance", "row_count", "quarantined_share", "not_null", "unique_key")
DIMENSION_CHECKS = ("unique_key", "one_current_version")
FACT_CHECKS = ("same_totals", "not_null")
SNAPSHOT_CHECKS = (*FACT_CHECKS, "one_row_a_key")
WAREHOUSE_FACT_CHECKS = ("same_totals", "referential_integrity")
# Of a fact that is loaded by `upsert`.
KEYED_FACT_CHECKS = (*WAREHOUSE_FACT_CHECKS, "primary_key")


def check_specs(key: dg.AssetKey, names: Sequence[str], *, for_ui: bool) -> list[dg.AssetCheckSpec]:
    """One spec a name; blocking: a partition that fails one is not published.

    Args:
        key: The asset.
        names: Of its checks.
        for_ui: False for runs from the command line: Dagster plans each declared check for each
            day with a row of its own, 8.8 s of a year. Their results are logged all the same, and
            the definitions that the UI loads declare them.
    """
    return [dg.AssetCheckSpec(name, asset=key, blocking=True) for name in names if for_ui]


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
    metadata = {"table": name, "dagster/column_schema": _columns(schema)}
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
