"""What dbt's parsed manifest says of marts: their tables, their windows, and what they read."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.config.model import did_you_mean
from headrace.errors import ConfigError

# Grains of a window, from the shortest to the longest.
GRAINS = ("day", "week", "month", "quarter", "year")


@dataclass(frozen=True)
class Mart:
    """A model that is materialized as a table.

    Attributes:
        schema: Its schema in Postgres.
        table: Its table in the schema.
        grain: Grain of the rows that a build replaces; None: a build replaces the whole table.
    """

    schema: str
    table: str
    grain: str | None


def marts_of(manifest: Path) -> dict[str, Mart]:
    """The models that are materialized as tables, by name.

    Raises:
        ConfigError: A `meta.window` has unknown keys, no column, or an unknown grain.
    """
    nodes = json.loads(manifest.read_bytes())["nodes"].values()
    return {
        node["name"]: Mart(node["schema"], node["alias"], _grain_of(node))
        for node in nodes
        if node["resource_type"] == "model"
        and node["config"]["materialized"] in {"incremental", "table"}
    }


def has_staging_macros(manifest: Path) -> bool:
    """Whether the project has the macros of `dbt/macros/write_audit_publish.sql`."""
    return b".publish_model" in manifest.read_bytes()


def missing_tables(manifest: Path, schema: str, tables: Collection[str]) -> list[str]:
    """One message for each table of `schema` that models read and that is not among `tables`."""
    parsed = json.loads(manifest.read_bytes())
    read = {
        name
        for node in parsed["nodes"].values()
        if node["resource_type"] == "model"
        for name in node["depends_on"]["nodes"]
    }
    return [
        f"dbt {source['original_file_path']}: sources[{source['source_name']}]: the star has no "
        f"table '{source['identifier']}'{did_you_mean(source['identifier'], tables)}"
        for name, source in parsed["sources"].items()
        if name in read and source["schema"] == schema and source["identifier"] not in tables
    ]


def _grain_of(node: Mapping[str, Any]) -> str | None:
    """The grain of a model's window, which dbt/macros/window.sql reads too."""
    window = (node["config"].get("meta") or {}).get("window")
    if window is None or node["config"]["materialized"] != "incremental":
        return None
    where, form = node["original_file_path"], "{'column': 'month', 'grain': 'month'}"
    if not isinstance(window, dict) or not isinstance(window.get("column"), str):
        raise ConfigError(f"dbt {where}: meta.window names no column", fix=f"write {form}")
    columns = [name for name in node.get("columns", ()) if _declares_all_columns(node)]
    if columns and window["column"] not in columns:
        near = did_you_mean(window["column"], columns)
        raise ConfigError(
            f"dbt {where}: meta.window: the model has no column '{window['column']}'{near}",
            fix="name a column of its contract",
        )
    if unknown := sorted({*window} - {"column", "grain", "whole_months"}):
        raise ConfigError(
            f"dbt {where}: meta.window: unknown key '{unknown[0]}'",
            fix=f"there are column and grain, such as {form}",
        )
    grain = window.get("grain") or ("month" if window.get("whole_months") else "day")
    if grain not in GRAINS:
        raise ConfigError(
            f"dbt {where}: meta.window: grain '{grain}' is not one of {', '.join(GRAINS)}",
            fix="name one of them; it is day if left out",
        )
    return str(grain)


def _declares_all_columns(node: Mapping[str, Any]) -> bool:
    """Whether a model has an enforced contract, which declares all columns."""
    return bool((node["config"].get("contract") or {}).get("enforced"))
