"""docs/reference/checks.md: what is checked where before a day is published.

Belongs here: the checks' names by layer, as assets declare them, and their meaning.
Elsewhere: declaring them (platform_assets.declare), judging (headrace.quality.partitions).
"""

from docs.generators.markdown import MADE, code, table
from docs.generators.wording import CHECKS, CHECKS_END
from platform_assets import declare

LAYERS: dict[str, declare.Checks] = {
    "processed": declare.PROCESSED_CHECKS,
    "processed: full snapshots of a dimension": declare.FULL_SNAPSHOT_CHECKS,
    "curated: dimensions": declare.DIMENSION_CHECKS,
    "curated: facts": declare.FACT_CHECKS,
    "curated: periodic snapshots": declare.SNAPSHOT_CHECKS,
    "warehouse: facts": declare.WAREHOUSE_FACT_CHECKS,
    "warehouse: facts with load: upsert": declare.KEYED_FACT_CHECKS,
}


def page() -> str:
    """The page."""
    parts = [MADE, "# Checks\n", CHECKS]
    for layer, checks in LAYERS.items():
        rows = [(code(name), meaning) for name, meaning in checks.items()]
        parts += [f"## {layer.capitalize()}\n", table(("check", "passes when"), rows)]
    return "\n".join([*parts, CHECKS_END])
