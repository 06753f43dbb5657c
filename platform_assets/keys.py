"""Asset keys: the layer, then the table, as in the lake and the warehouse.

Belongs here: the only spelling of asset keys and table names.
Elsewhere: the assets themselves (the layers' modules).
"""

import dagster as dg

RAW, PROCESSED, QUARANTINE, CURATED = "raw", "processed", "quarantine", "curated"
WAREHOUSE, MARTS = "warehouse", "marts"


def table_of(entity: str) -> str:
    """Table of `source.entity` in raw, processed and quarantine: `source_entity`."""
    return entity.replace(".", "_")


def raw_key(entity: str) -> dg.AssetKey:
    """Captured versions of `source.entity`."""
    return dg.AssetKey([RAW, table_of(entity)])


def processed_key(entity: str) -> dg.AssetKey:
    """Typed rows of `source.entity`."""
    return dg.AssetKey([PROCESSED, table_of(entity)])


def curated_key(table: str) -> dg.AssetKey:
    """A dimension or fact in the lake."""
    return dg.AssetKey([CURATED, table])


def warehouse_key(table: str) -> dg.AssetKey:
    """A dimension or fact in Postgres."""
    return dg.AssetKey([WAREHOUSE, table])


def mart_key(model: str) -> dg.AssetKey:
    """A dbt mart."""
    return dg.AssetKey([MARTS, model])


def name_of(key: dg.AssetKey) -> str:
    """The asset in the ledger, logs and commands: `curated/fact_sales`."""
    return "/".join(key.path)
