"""What values mean, from files to Postgres: local days, keys, sentinels, changed columns."""

import shutil
import tempfile
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.cli.backfill import BackfillResult
from tests.e2e import installation
from tests.e2e.installation import FIRST, Installation

pytestmark = pytest.mark.e2e

NEXT = FIRST + timedelta(days=1)
SELECT = "+group:warehouse"


def entity(name: str, *columns: dict[str, Any], **options: Any) -> dict[str, Any]:
    path = f"{name}/{name}-{{date:%Y-%m-%d}}.csv"
    extract = {"mode": "files", "path": path, "format": {"delimiter": ";"}}
    return {"name": name, "extract": extract, "columns": [*columns], **options}


def source(*, is_later: bool) -> dict[str, Any]:
    """The shop in Sydney; later its visits have a channel, another name and a rule."""
    visit_amount: dict[str, Any] = {"name": "amount", "type": "decimal(12,2)"}
    channel = {"name": "channel", "type": "string", "since": NEXT, "required": True}
    positive = {"name": "positive", "expect": "amount > 0", "reason": "not positive"}
    if is_later:
        visit_amount |= {"from": ["amount", "total_amount"]}
    return {
        "name": "shop",
        "connector": "files",
        "entities": [
            entity(
                "orders",
                {"name": "order_id", "type": "bigint"},
                {"name": "ordered_at", "type": "timestamptz", "required": True},
                {"name": "customer_id", "type": "string"},
                {"name": "ends_on", "type": "date"},
                {"name": "amount", "type": "double", "decimal_mark": ",", "grouping": "."},
                key=["order_id", "_source_position"],
                event_time="ordered_at",
                timezone="Australia/Sydney",
                duplicates="drop",
            ),
            entity(
                "customers",
                {"name": "customer_id", "type": "string"},
                {"name": "city", "type": "string"},
                key=["customer_id"],
                timezone="Australia/Sydney",
            ),
            entity(
                "visits",
                {"name": "visit_id", "type": "bigint"},
                *([channel] if is_later else []),
                {"name": "visited_on", "type": "date", "required": True},
                visit_amount,
                key=["visit_id"],
                event_time="visited_on",
                quality={"max_quarantined_share": 1},
                **({"rules": [positive]} if is_later else {}),
            ),
        ],
    }


def star(*, is_later: bool) -> dict[str, Any]:
    join = {"dimension": "dim_customer", "natural_key": {"customer_id": "customer_id"}}
    never = date(9999, 12, 31)
    channel = ["channel"] if is_later else []
    return {
        "calendar": {
            "name": "dim_date",
            "start": FIRST,
            "end": date(2017, 12, 31),
            "sentinels": [never],
        },
        "dimensions": [
            {
                "name": "dim_customer",
                "entity": "shop.customers",
                "natural_key": {"customer_id": "customer_id"},
                "attributes": {"city": "city"},
            }
        ],
        "facts": [
            {
                "name": "fact_orders",
                "entity": "shop.orders",
                "grain": ["order_id", "_source_position"],
                "event_time": "ordered_at",
                "dates": {"end_date_key": "ends_on"},
                "dimensions": [join],
                "columns": ["order_id"],
                "measures": ["amount"],
            },
            {
                "name": "fact_visits",
                "entity": "shop.visits",
                "grain": ["visit_id"],
                "event_time": "visited_on",
                "columns": ["visit_id", *channel],
                "measures": ["amount"],
            },
        ],
    }


def deliver(shop: Installation, name: str, day: date, *lines: str) -> None:
    target = shop.landing / name / f"{name}-{day}.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join([*lines, ""]))


def declare(shop: Installation, *, is_later: bool) -> None:
    (shop.config / "sources" / "shop.yaml").write_text(
        yaml.safe_dump(source(is_later=is_later), allow_unicode=True)
    )
    (shop.config / "star.yaml").write_text(yaml.safe_dump(star(is_later=is_later)))


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    root = Path(tempfile.mkdtemp(prefix="headrace-e2e-"))
    root.chmod(0o755)
    made = installation.make(root, end=FIRST + timedelta(days=2))
    (made.config / "sources" / "retail.yaml").unlink()
    shutil.rmtree(made.config / "views", ignore_errors=True)
    try:
        yield made
    finally:
        installation.end(made)
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def runs(shop: Installation) -> tuple[BackfillResult, BackfillResult]:
    """The first day, then both under a configuration that follows the source's changes."""
    header = "order_id;ordered_at;customer_id;ends_on;amount"
    decomposed, composed = "Zoe\u0308", "Zo\u00eb"
    deliver(
        shop,
        "orders",
        FIRST,
        header,
        f"1;{FIRST}T08:30:00+11:00;{decomposed};9999-12-31;1.000,5",
        f"2;{FIRST}T10:59:59+11:00;N5\u200b;{NEXT};2,00",
        f"3;{FIRST}T23:30:00+11:00;{composed};;3",
        f"3;{FIRST}T23:30:00+11:00;{composed};;3,0",
        f"3;{FIRST}T23:30:00+11:00;{composed};;4",
    )
    deliver(shop, "orders", NEXT, header, f"5;{NEXT} 00:30:00;{decomposed};;5")
    for day, city in ((FIRST, "Perth"), (NEXT, "Hobart")):
        deliver(shop, "customers", day, "customer_id;city", f"{composed};{city}", "N5;Cairns")
    deliver(
        shop, "visits", FIRST, "visit_id;visited_on;amount", f"1;{FIRST};-1.00", f"2;{FIRST};2.00"
    )
    deliver(shop, "visits", NEXT, "visit_id;channel;visited_on;total_amount", f"3;web;{NEXT};3.00")
    declare(shop, is_later=False)
    before = shop.backfill(FIRST, FIRST, select=SELECT)
    declare(shop, is_later=True)
    return before, shop.backfill(FIRST, NEXT, select=SELECT)


def test_every_day_is_published(runs: tuple[BackfillResult, BackfillResult]) -> None:
    assert [(run.exit_code, run.bad) for run in runs] == [(0, ()), (0, ())]


def test_a_file_of_a_local_day_is_a_day_of_facts_without_its_repeats(
    runs: tuple[BackfillResult, BackfillResult], shop: Installation
) -> None:
    query = "select date_key, order_id, amount from warehouse.fact_orders order by 1, 2, 3"
    first, second = int(f"{FIRST:%Y%m%d}"), int(f"{NEXT:%Y%m%d}")
    assert shop.sql(query) == [
        (first, 1, 1000.5),
        (first, 2, 2.0),
        (first, 3, 3.0),
        (first, 3, 4.0),
        (second, 5, 5.0),
    ]


def test_keys_that_look_equal_are_one_member_as_of_its_local_day(
    runs: tuple[BackfillResult, BackfillResult], shop: Installation
) -> None:
    members = "select distinct customer_id, is_inferred from warehouse.dim_customer "
    assert sorted(shop.sql(members + "where customer_key <> -1")) == [
        ("N5", False),
        ("Zo\u00eb", False),
    ]
    query = (
        "select order_id, city from warehouse.fact_orders join warehouse.dim_customer "
        "using (customer_key) order by order_id, amount"
    )
    cities = ["Perth", "Cairns", "Perth", "Perth", "Hobart"]
    assert [city for _, city in shop.sql(query)] == cities


def test_a_day_that_stands_for_never_is_a_member_of_the_calendar(
    runs: tuple[BackfillResult, BackfillResult], shop: Installation
) -> None:
    query = (
        "select order_id, date from warehouse.fact_orders "
        "join warehouse.dim_date on end_date_key = dim_date.date_key order by order_id"
    )
    assert shop.sql(query) == [(1, date(9999, 12, 31)), (2, NEXT)]


def test_a_new_column_a_new_name_and_a_new_rule_reach_the_days_before(
    runs: tuple[BackfillResult, BackfillResult], shop: Installation
) -> None:
    query = "select visit_id, channel, amount from warehouse.fact_visits order by 1"
    assert shop.sql(query) == [(2, None, Decimal("2.00")), (3, "web", Decimal("3.00"))]
    [bad] = shop.lake("quarantine.shop_visits")
    assert (bad["visit_id"], bad["_reasons"]) == ("1", "not positive")
