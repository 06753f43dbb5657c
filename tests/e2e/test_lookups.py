"""A reference entity that changes: which days of the entity that looks it up are built again."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, time

import pytest
import yaml

from tests.e2e.installation import FIRST, Installation
from tests.e2e.stale_shop import deliver, run, run_stale, stale, stale_shop

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

DAYS = [FIRST.replace(day=FIRST.day + n) for n in range(3)]
REGIONS = {
    "name": "regions",
    "extract": {"mode": "files", "path": "regions.csv"},
    "key": ["customer"],
    "columns": [
        {"name": "customer", "type": "bigint"},
        {"name": "rate", "type": "decimal(6,3)"},
    ],
}
LOOKUP = {
    "entity": "shop.regions",
    "match": {"customer_id": "customer"},
    "columns": {"rate": "rate"},
    "missing": "quarantine",
}
# An amount is a point on a diagonal.
DISTRICTS = {
    "kind": "regions",
    "latitude": "amount",
    "longitude": "amount",
    "file": "districts.geojson",
    "columns": {"district": "name"},
}
CONVERTED = {"name": "converted", "type": "decimal(14,2)", "expression": "amount * rate"}


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    """Orders of three days, which look up a rate by customer."""
    with stale_shop(
        DAYS[-1].replace(day=DAYS[-1].day + 1), {"orders": "partition_replace"}
    ) as made:
        path = made.config / "sources" / "shop.yaml"
        source = yaml.safe_load(path.read_text())
        source["entities"][0] |= {
            "lookups": [LOOKUP],
            "enrichments": [DISTRICTS],
            "calculated": [CONVERTED],
        }
        write_districts(made, "old")
        path.write_text(yaml.safe_dump(source | {"entities": [*source["entities"], REGIONS]}))
        star = yaml.safe_load((made.config / "star.yaml").read_text())
        star["facts"][0]["columns"] = ["district"]
        star["facts"][0]["measures"] = ["amount", "converted"]
        (made.config / "star.yaml").write_text(yaml.safe_dump(star))
        for number, day in enumerate(DAYS, start=1):
            deliver(made, "customers", day, ["1,Ulm", "2,Kiel"])
            deliver(made, "orders", day, [f"{number}1,1,1.00", f"{number}2,2,1.00"])
        yield made


def deliver_rates(shop: Installation, day: date, *rows: str) -> None:
    """Write the undated file of rates, as of a day."""
    target = shop.landing / "regions.csv"
    target.write_text("\n".join(["customer,rate", *rows, ""]))
    at = datetime.combine(day, time(12), UTC).timestamp()
    os.utime(target, (at, at))


def write_districts(shop: Installation, name: str) -> None:
    """Write the file of the enrichment: one square, in which all amounts lie."""
    ring = [[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]
    square = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": {"name": name}, "geometry": square}
    collection = {"type": "FeatureCollection", "features": [feature]}
    (shop.config / "districts.geojson").write_text(json.dumps(collection))


def converted(shop: Installation) -> dict[int, str]:
    found = shop.sql(
        "select date_key % 100, sum(converted)::text from warehouse.fact_orders group by 1"
    )
    return dict(found)


def test_a_changed_reference_makes_the_days_from_its_version_on_stale(
    shop: Installation,
) -> None:
    deliver_rates(shop, DAYS[0], "1,2", "2,3")
    result = run(shop, *DAYS)
    assert (result.exit_code, result.bad) == (0, ()), result.summary
    assert converted(shop) == {1: "5.00", 2: "5.00", 3: "5.00"}
    assert stale(shop) == {}
    # A version of the third day changes that day only.
    deliver_rates(shop, DAYS[2], "1,2", "2,4")
    assert run(shop, DAYS[0]).exit_code == 0
    assert stale(shop) == {"processed/shop_orders": 1}
    assert run_stale(shop).exit_code == 0
    assert converted(shop) == {1: "5.00", 2: "5.00", 3: "6.00"}
    assert stale(shop) == {}


def test_a_changed_file_of_an_enrichment_makes_the_days_stale_that_read_it(
    shop: Installation,
) -> None:
    assert shop.sql("select distinct district from warehouse.fact_orders") == [("old",)]
    write_districts(shop, "new")
    assert stale(shop) == {"processed/shop_orders": 3}
    assert run_stale(shop).exit_code == 0
    assert shop.sql("select distinct district from warehouse.fact_orders") == [("new",)]
    assert stale(shop) == {}


def test_a_held_reference_holds_back_the_days_that_would_read_it(shop: Installation) -> None:
    before = converted(shop)
    deliver_rates(shop, DAYS[2], "1,x", "2,y")
    result = run(shop, *DAYS)
    assert result.exit_code == 3
    assert {str(one.partition) for one in result.skipped if "orders" in one.asset} >= {str(DAYS[2])}
    assert converted(shop) == before
