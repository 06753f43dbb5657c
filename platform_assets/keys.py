"""Asset keys: the layer, then the table, as in the lake and the warehouse."""

import dagster as dg

from headrace.project.lineage import CURATED, MARTS, PROCESSED, QUARANTINE, RAW, WAREHOUSE, table_of

__all__ = ["CURATED", "MARTS", "PROCESSED", "QUARANTINE", "RAW", "WAREHOUSE", "table_of"]


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
