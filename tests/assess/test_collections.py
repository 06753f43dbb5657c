"""What is proposed for the collections of a MongoDB: paths, types of BSON, modes."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import yaml

from headrace.assess.assessment import Assessment, assess
from headrace.assess.collections.samples import CollectionSamples
from headrace.config.sources.models import parse_source
from headrace.errors import ConfigError
from headrace.sources.connections import Connection
from tests.contract.mongodb_collections import require_mongodb

START = datetime(2024, 1, 1, 8, tzinfo=UTC)


@pytest.fixture(scope="module")
def assessed() -> Assessment:
    server = require_mongodb()
    name = f"t{uuid4().hex[:12]}"
    shop = server.client[name]
    shop.customers.insert_many(
        [
            {
                "full_name": "Zyxwina Canary",
                "vip": n % 2 == 0,
                "address": {"city": "Ulm", "zip": "0897"},
            }
            for n in range(60)
        ]
    )
    shop.orders.insert_many([order(n) for n in range(80)])
    shop.orders.create_index("updatedAt")
    shop.create_collection("empty")
    connection = Connection("shop", "SHOP_URL", lambda: server.url(name))
    return assess(CollectionSamples(connection), "shop", 1000)


def order(number: int) -> dict[str, Any]:
    at = START + timedelta(hours=number)
    return {
        "_id": 1000 + number,
        "orderedAt": at,
        "total": {"amount": number + 0.25, "currency": "EUR"},
        "shippedOn": f"{1 + number % 28:02}.03.2024",
        "items": [{"sku": "x", "n": 1}],
        "tags": ["a"],
        "updatedAt": at + timedelta(minutes=number),
        **({"note": "late"} if number % 2 else {}),
    }


def test_fields_become_columns_by_paths_and_types(assessed: Assessment) -> None:
    document = yaml.safe_load(assessed.yaml)
    parse_source(document)
    customers, orders = document["entities"]
    assert (customers["extract"]["mode"], orders["extract"]["mode"]) == (
        "full_snapshot",
        "watermark",
    )
    columns = {column["name"]: column for column in orders["columns"]}
    assert {name: (c.get("from", name), c["type"]) for name, c in columns.items()} == {
        "id": ("_id", "int"),
        "ordered_at": ("orderedAt", "timestamptz"),
        "total_amount": ("$.total.amount", "decimal(12,2)"),
        "total_currency": ("$.total.currency", "string"),
        "shipped_on": ("shippedOn", "date"),
        "items": ("items", "string"),
        "tags": ("tags", "string"),
        "updated_at": ("updatedAt", "timestamptz"),
        "note": ("note", "string"),
    }
    assert columns["note"]["optional"] is True
    assert columns["shipped_on"]["source_type"] == "string"
    assert orders["key"] == ["id"]
    expected = {"cursor": "updated_at", "partition_by": "ordered_at", "overlap": "10m"}
    assert expected.items() <= orders["extract"].items()


def test_what_somebody_has_to_decide_is_said(assessed: Assessment) -> None:
    said = "\n".join(assessed.checks)
    assert "empty is left out: it has no document" in said
    assert "declare an entity with children: $.items[*]" in said
    assert "overlap: 10m must be longer than any write takes to be seen" in said
    assert "Zyxwina" not in f"{assessed.yaml} {assessed.markdown} {assessed.html} {said}"


def test_a_database_without_documents_is_an_error() -> None:
    url = require_mongodb().url("nothing")
    with pytest.raises(ConfigError, match="no collection with documents"):
        CollectionSamples(Connection("shop", "SHOP_URL", lambda: url)).list_entities()
