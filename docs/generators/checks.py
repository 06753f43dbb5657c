"""docs/reference/checks.md: what is checked where before a day is published.

Belongs here: the checks' names by layer, as assets declare them, and their meaning.
Elsewhere: declaring them (platform_assets.declare), judging (headrace.quality.partitions).
"""

from docs.generators.markdown import MADE, code, sentence, table
from docs.generators.wording import CHECK_MEANINGS, CHECKS, CHECKS_END
from headrace.quality import partitions
from platform_assets import declare

LAYERS: dict[str, tuple[str, ...]] = {
    "processed": declare.PROCESSED_CHECKS,
    "curated: dimensions": declare.DIMENSION_CHECKS,
    "curated: facts": declare.FACT_CHECKS,
    "curated: periodic snapshots": declare.SNAPSHOT_CHECKS,
    "warehouse: facts": declare.WAREHOUSE_FACT_CHECKS,
    "warehouse: facts with load: upsert": declare.KEYED_FACT_CHECKS,
}


def page() -> str:
    """The page."""
    parts = [MADE, "# Checks\n", CHECKS]
    for layer, names in LAYERS.items():
        rows = [(code(name), _meaning(layer, name)) for name in names]
        parts += [f"## {layer.capitalize()}\n", table(("check", "passes when"), rows)]
    return "\n".join([*parts, CHECKS_END])


def _meaning(layer: str, name: str) -> str:
    if found := CHECK_MEANINGS.get((layer, name)):
        return found
    return sentence(getattr(partitions, name).__doc__)
