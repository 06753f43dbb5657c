"""docs/reference/checks.md: what is checked where before a day is published."""

from docs.generators.markdown import MADE, code, table
from docs.generators.wording import CHECKS, CHECKS_END
from platform_assets import metadata

LAYERS: dict[str, metadata.Checks] = {
    "processed": metadata.PROCESSED_CHECKS,
    "processed: full snapshots of a dimension": metadata.FULL_SNAPSHOT_CHECKS,
    "curated: dimensions": metadata.DIMENSION_CHECKS,
    "curated: facts": metadata.FACT_CHECKS,
    "curated: periodic snapshots": metadata.SNAPSHOT_CHECKS,
    "warehouse: facts": metadata.WAREHOUSE_FACT_CHECKS,
    "warehouse: facts with load: upsert": metadata.KEYED_FACT_CHECKS,
}


def page() -> str:
    """The page."""
    parts = [MADE, "# Checks\n", CHECKS]
    for layer, checks in LAYERS.items():
        rows = [(code(name), meaning) for name, meaning in checks.items()]
        parts += [f"## {layer.capitalize()}\n", table(("check", "passes when"), rows)]
    return "\n".join([*parts, CHECKS_END])
