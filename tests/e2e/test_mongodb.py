"""A shop's MongoDB as source: its documents reach the warehouse without a file."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from bson.objectid import ObjectId

from headrace.cli.backfill import BackfillResult, run_backfill
from tests.contract.mongodb_collections import require_mongodb
from tests.e2e import installation
from tests.e2e.conftest import scratch_root
from tests.e2e.installation import Installation
from tests.e2e.test_own_database import FIRST, LAST, STAR, configure

pytestmark = pytest.mark.e2e

_EXTRACT = {"mode": "watermark", "collection": "orders", "cursor": "updated_at", "overlap": "10m"}
_SOURCE = {
    "name": "shop",
    "connector": "mongodb",
    "connection": "shop",
    "entities": [
        {
            "name": "customers",
            "extract": {"mode": "full", "collection": "customers"},
            "key": ["customer_id"],
            "columns": [
                {"name": "customer_id", "from": "_id", "type": "int"},
                {"name": "name", "type": "string"},
                {"name": "town", "from": "$.address.town", "type": "string"},
            ],
        },
        {
            "name": "orders",
            "extract": {**_EXTRACT, "partition_by": "ordered_at", "ignored": ["items"]},
            "key": ["order_id"],
            "columns": [
                {"name": "order_id", "from": "_id", "type": "string"},
                {"name": "customer_id", "type": "int"},
                {"name": "ordered_at", "type": "timestamptz"},
                {"name": "amount", "type": "decimal(12,2)"},
                {"name": "updated_at", "type": "timestamptz"},
            ],
            "quality": {"max_quarantined_share": 0.5},
        },
    ],
}


# The dimension of customers and the fact of orders.
_STAR = {**STAR, "dimensions": STAR["dimensions"][:1], "facts": STAR["facts"][:1]}


def order(number: int, **more: Any) -> dict[str, Any]:
    return {
        "_id": ObjectId(number.to_bytes(12, "big")),
        "customer_id": 1 + number % 2,
        "ordered_at": datetime(2017, 1, 1 + number % 3, 10, tzinfo=UTC),
        "amount": number * 1.5,
        "items": [{"sku": "x"}],
        "updated_at": datetime.now(UTC),
        **more,
    }


@pytest.fixture
def made() -> Iterator[Installation]:
    with scratch_root() as root:
        found = installation.make(root, end=LAST + timedelta(days=1))
        configure(found, [_SOURCE], _STAR)
        try:
            yield found
        finally:
            installation.end(found)


def test_documents_reach_the_warehouse_and_changes_follow(made: Installation) -> None:
    server = require_mongodb()
    shop = server.client["e2e"]
    towns = {1: "Ulm", 2: "Kiel"}
    shop.customers.insert_many(
        [{"_id": n, "name": "a", "address": {"town": town}} for n, town in towns.items()]
    )
    shop.orders.insert_many([order(n) for n in range(1, 9)])
    shop.orders.insert_one(order(9, amount="dear"))
    with made.active(), mock.patch.dict(os.environ, {"SHOP_URL": server.url("e2e")}):

        def backfill(*, stale: bool = False) -> BackfillResult:
            start, end = (None, None) if stale else (FIRST, LAST)
            return run_backfill(start, end, select="*", only_stale=stale, quiet=True)

        assert backfill().exit_code == 0
        (quarantined,) = made.lake("quarantine.shop_orders")
        assert quarantined["_reasons"] == "amount: of BSON type string, not decimal(12,2)"
        shop.orders.update_one({"_id": order(9)["_id"]}, {"$set": {"amount": 2.5}})
        assert backfill(stale=True).exit_code == 0
    rows = made.sql(
        "select f.amount, c.town from warehouse.fact_orders as f"
        " inner join warehouse.dim_customer as c using (customer_key) order by f.amount"
    )
    assert [(float(amount), town) for amount, town in rows][:3] == [
        (1.5, "Kiel"),
        (2.5, "Kiel"),
        (3.0, "Ulm"),
    ]
    assert len(rows) == 9
