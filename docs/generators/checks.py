"""Generates docs/reference/checks.md from the registry of checks."""

from typing import get_args

from docs.generators.markdown import MADE, code, table
from docs.generators.wording import CHECKS, CHECKS_END, PARTITION_CHECKS, ROW_CHECKS
from headrace.quality.registry import CHECKS as REGISTERED
from headrace.quality.registry import Check, Layer, TableKind, row_checks

TABLES: dict[TableKind, str] = {
    "entity": "every entity",
    "entity_of_full_snapshots": "entities of a dimension with `full_snapshot`",
    "dimension": "every dimension",
    "fact": "every fact",
    "periodic_snapshot": "periodic snapshots",
    "warehouse_fact": "every fact",
    "warehouse_fact_by_upsert": "facts with `load: upsert`",
    "mart": "every mart",
}


def page() -> str:
    """The page."""
    rows = [
        (code(check.id), check.layer, check.description, ", ".join(map(code, check.reasons)))
        for check in row_checks()
    ]
    by_row = table(("check", "layer", "a row is quarantined when", "reasons"), rows)
    parts = [MADE, "# Checks\n", CHECKS, ROW_CHECKS, by_row, PARTITION_CHECKS]
    for layer in get_args(Layer):
        checks = [c for c in REGISTERED if c.layer == layer and c.level == "partition"]
        if checks:
            lines = [(code(c.id), _tables(c), c.description) for c in checks]
            by_table = table(("check", "tables", "passes when"), lines)
            parts += [f"### {layer.capitalize()}\n", by_table]
    return "\n".join([*parts, CHECKS_END])


def _tables(check: Check) -> str:
    return TABLES[check.tables[0]] if check.tables else "tables that are published in one piece"
