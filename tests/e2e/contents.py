"""What an installation holds, as texts that can be compared with another one's.

Columns that tell one run from another (its id, its time) are left out.
"""

from typing import Any

from tests.e2e.installation import Installation

TABLES = {
    "raw.retail_transactions": ("_captured_at", "_delivery_order", "_batch_id", "_object_version"),
    "processed.retail_transactions": (
        "_captured_at",
        "_delivery_order",
        "_processed_at",
        "_run_id",
    ),
    "quarantine.retail_transactions": (
        "_captured_at",
        "_delivery_order",
        "_processed_at",
        "_run_id",
    ),
    "curated.dim_product": (),
    "curated.dim_customer": (),
    "curated.fact_sales": (),
}
QUERIES = (
    "select * from warehouse.fact_sales",
    "select * from warehouse.dim_product",
    "select * from warehouse.dim_customer",
    "select * from warehouse.dim_date",
    "select * from marts.mart_daily_department",
    "select * from marts.mart_customer_rfm",
    "select * from marts.mart_product_month",
)


def contents(shop: Installation) -> dict[str, list[str]]:
    """Every table as sorted rows."""
    found: dict[str, list[Any]] = {query: shop.sql(query) for query in QUERIES}
    for table, left_out in TABLES.items():
        found[table] = [
            {name: value for name, value in row.items() if name not in left_out}
            for row in shop.lake(table)
        ]
    return {name: sorted(map(str, rows)) for name, rows in found.items()}
