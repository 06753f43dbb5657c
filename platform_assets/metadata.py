"""Arguments and metadata that every asset declares alike: checks, columns, owners."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dagster as dg

from headrace.pipeline.full_snapshots import CHECK as FULL_SNAPSHOT
from headrace.quality import partition_checks
from headrace.quality.pandera_schemas import frame_schema
from headrace.quality.report import CheckResult
from headrace.schema import TableSchema
from platform_assets.keys import WAREHOUSE

# The Iceberg catalog's name for Spark and other engines.
_LAKE = "lake"

# Checks are judged before publication and logged a partition; Dagster is told their names and what
# they mean so that the UI shows them beside the asset.
Checks = Mapping[str, str]


def _described(*checks: Callable[..., CheckResult]) -> Checks:
    return {check.__name__: (check.__doc__ or "").split("\n")[0] for check in checks}


PROCESSED_CHECKS: Checks = {
    **_described(
        partition_checks.row_balance, partition_checks.row_count, partition_checks.quarantined_share
    ),
    **_described(partition_checks.not_null),
    "unique_key": "No natural key is there twice.",
}
# Of an entity whose every day brings all members of a dimension.
FULL_SNAPSHOT_CHECKS: Checks = {
    **PROCESSED_CHECKS,
    FULL_SNAPSHOT: "The snapshot tells of every member, and not more of them than declared vanish.",
}
DIMENSION_CHECKS: Checks = {
    "unique_key": "No surrogate key is there twice.",
    "one_current_version": "Every member has exactly one current version.",
}
FACT_CHECKS: Checks = _described(partition_checks.same_totals, partition_checks.not_null)
SNAPSHOT_CHECKS: Checks = {**FACT_CHECKS, **_described(partition_checks.one_row_a_key)}
WAREHOUSE_FACT_CHECKS: Checks = _described(
    partition_checks.same_totals, partition_checks.referential_integrity
)
# Of a fact that is loaded by `upsert`.
KEYED_FACT_CHECKS: Checks = {**WAREHOUSE_FACT_CHECKS, **_described(partition_checks.primary_key)}


def check_specs(key: dg.AssetKey, checks: Checks, *, for_ui: bool) -> list[dg.AssetCheckSpec]:
    """One spec a check; blocking: a partition that fails one is not published.

    Args:
        key: The asset.
        checks: Name to meaning.
        for_ui: False for runs from the command line: Dagster plans each declared check for each
            day with a row of its own, 8.8 s of a year. Their results are logged all the same, and
            the definitions that the UI loads declare them.
    """
    return [
        dg.AssetCheckSpec(name, asset=key, description=meaning, blocking=True)
        for name, meaning in checks.items()
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
