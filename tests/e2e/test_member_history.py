"""What sources say of members on their edges, from files to the warehouse, in one installation."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.cli.audit import audit_star
from tests.e2e import installation
from tests.e2e.installation import FIRST, Installation

pytestmark = pytest.mark.e2e

DAYS = [FIRST + timedelta(days=n) for n in range(4)]
BEGIN = datetime(1900, 1, 1)
_ENTITIES: dict[str, dict[str, Any]] = {
    "customers": {
        "key": ["customer_id"],
        "columns": {"customer_id": "string", "score": "int"},
        "quality": {"max_quarantined_share": 0.2},
    },
    "prices": {
        "key": ["item", "since"],
        "columns": {"item": "string", "price": "int", "label": "string", "since": "timestamp"},
    },
    "changes": {
        "key": ["id", "updated_at"],
        "columns": {"id": "int", "name": "string", "updated_at": "timestamp", "lsn": "int"},
    },
    "events": {
        "key": ["_source_position"],
        "columns": {"id": "int", "name": "string", "updated_at": "timestamp", "op": "string"},
    },
    "accounts": {
        "key": ["account", "updated_at"],
        "columns": {
            "account": "string",
            "name": "string",
            "tier": "string",
            "updated_at": "timestamp",
            "op": {"type": "string", "optional": True},
        },
    },
    "contacts": {
        "key": ["account", "updated_at"],
        "columns": {
            "account": "string",
            "name": "string",
            "op": "string",
            "updated_at": "timestamp",
        },
        "quality": {"max_quarantined_share": 0.5},
    },
    "orders": {
        "key": ["order_id"],
        "event_time": "ordered_at",
        "columns": {
            "order_id": "int",
            "customer_id": "string",
            "ordered_at": "timestamp",
            "amount": "decimal(12,2)",
        },
        "transform": "tests.e2e.test_member_history:without_tests",
    },
}
_STAR = {
    "calendar": {"name": "dim_date", "start": FIRST, "end": date(2017, 12, 31)},
    "dimensions": [
        {
            "name": "dim_customer",
            "entity": "shop.customers",
            "natural_key": {"customer_id": "customer_id"},
            "attributes": {"score": "score"},
            "full_snapshot": True,
        },
        {
            "name": "dim_price",
            "entity": "shop.prices",
            "natural_key": {"item": "item"},
            "attributes": {"price": "price"},
            "type1": {"label": "label"},
            "effective_time": "since",
        },
        {
            "name": "dim_change",
            "entity": "shop.changes",
            "natural_key": {"id": "id"},
            "attributes": {"name": "name"},
            "effective_time": "updated_at",
            "source_order": ["lsn"],
        },
        {
            "name": "dim_event",
            "entity": "shop.events",
            "natural_key": {"id": "id"},
            "attributes": {"name": "name"},
            "effective_time": "updated_at",
            "deleted_when": "op = 'D'",
        },
        {
            "name": "dim_account",
            "entity": "shop.accounts",
            "further_entities": ["shop.contacts"],
            "natural_key": {"account": "account"},
            "attributes": {"name": "name"},
            "type1": {"tier": "tier"},
            "ignore_nulls": ["tier"],
            "effective_time": "updated_at",
            "deleted_when": "op = 'D'",
        },
    ],
    "facts": [
        {
            "name": "fact_orders",
            "entity": "shop.orders",
            "grain": ["order_id"],
            "event_time": "ordered_at",
            "dimensions": [
                {"dimension": "dim_customer", "natural_key": {"customer_id": "customer_id"}}
            ],
            "columns": ["order_id", "ordered_at"],
            "measures": ["amount"],
        }
    ],
}


def without_tests(orders: Any) -> Any:
    """A user's transform: orders of tests are no orders."""
    return orders.where("customer_id <> 'test'")


def customers(*, scores: Mapping[int, str] | None = None, count: int = 10) -> list[str]:
    told = scores or {}
    return ["customer_id,score", *(f"C{n},{told.get(n, n)}" for n in range(1, count + 1))]


def orders(number: int, day: date) -> list[str]:
    lines = [f"{number},C3,{day} 09:00:00,5.00", f"{number + 50},test,{day} 09:00:00,1.00"]
    return ["order_id,customer_id,ordered_at,amount", *lines]


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    # pytest's own folders are closed to the account that runs PostgreSQL for root.
    root = Path(tempfile.mkdtemp(prefix="headrace-e2e-"))
    root.chmod(0o755)
    made = installation.make(root, end=DAYS[-1] + timedelta(days=1))
    configure(made)
    try:
        deliver(made)
        result = made.backfill(DAYS[0], DAYS[2], select="+group:warehouse")
        assert result.exit_code == 0, result.bad
        yield made
    finally:
        installation.end(made)
        shutil.rmtree(root, ignore_errors=True)


def configure(made: Installation) -> None:
    for path in (made.config / "sources").iterdir():
        path.unlink()
    entities = [
        {
            **entity,
            "name": name,
            "columns": [
                {"name": n, **(kind if isinstance(kind, dict) else {"type": kind})}
                for n, kind in entity["columns"].items()
            ],
            "extract": {
                "mode": "files",
                "path": f"{name}/{name}-{{date:%Y-%m-%d}}.csv",
                "missing_file": "empty",
            },
        }
        for name, entity in _ENTITIES.items()
    ]
    source = {"name": "shop", "connector": "files", "entities": entities}
    (made.config / "sources" / "shop.yaml").write_text(yaml.safe_dump(source))
    (made.config / "star.yaml").write_text(yaml.safe_dump(_STAR))
    shutil.rmtree(made.config / "views", ignore_errors=True)


def deliver(made: Installation) -> None:
    first, second, third, _ = DAYS
    write(made, "customers", first, customers())
    write(made, "customers", second, customers(scores={3: "n/a"}))
    write(made, "customers", third, customers())
    for number, day in enumerate(DAYS[:3], 1):
        write(made, "orders", day, orders(number, day))
    header = "item,price,label,since"
    prices = [f"A,1,today,{first}", "A,9,future,2099-01-01", f"B,1,b,{first}", f"B,2,c,{DAYS[3]}"]
    write(made, "prices", first, [header, *prices])
    header = "id,name,updated_at,lsn"
    write(made, "changes", first, [header, f"1,b,{first} 10:00,2", f"1,a,{first} 10:00,1"])
    header = "id,name,updated_at,op"
    write(made, "events", first, [header, f"1,a,{first} 10:00,I", f"3,,{first} 09:00,D"])
    write(made, "events", second, [header, f"1,b,{second} 10:00,U", "1,,,D"])
    header, tiers = "account,name,tier,updated_at", ("gold", "silver")
    names = [f"A{n},shop {n},{tier},{first} 08:00" for n, tier in enumerate(tiers, 1)]
    write(made, "accounts", first, [header, *names])
    write(made, "accounts", third, [header, f"A2,shop 2,silver,{third} 08:00"])
    header = "account,name,op,updated_at"
    write(made, "contacts", first, [header, f"A1,crm 1,U,{first} 10:00"])
    write(made, "contacts", second, [header, f"A2,,D,{second} 09:00"])
    write(made, "contacts", third, [header, "A1,set aside,U,noon", f"A3,crm 3,I,{third} 07:00"])


def write(made: Installation, entity: str, day: date, lines: list[str]) -> None:
    target = made.landing / entity / f"{entity}-{day}.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join([*lines, ""]))


def versions(made: Installation, table: str, columns: str) -> list[tuple[Any, ...]]:
    key = f"{table.removeprefix('dim_')}_key"
    query = f"select {columns} from warehouse.{table} where {key} <> -1 order by 1, 2"
    return made.sql(query)


def at(day: date, hour: int = 0) -> datetime:
    return datetime.combine(day, time(hour))


def test_a_member_whose_row_is_quarantined_keeps_its_version_and_its_facts(
    shop: Installation,
) -> None:
    found = versions(shop, "dim_customer", "customer_id, valid_from, valid_to, is_current")
    assert found == sorted((f"C{n}", BEGIN, None, True) for n in range(1, 11))
    assert shop.sql("select count(*), min(customer_key) > 0 from warehouse.fact_orders") == [
        (3, True)
    ]


def test_a_version_of_the_future_is_the_latest_and_todays_is_current(shop: Installation) -> None:
    columns = "item, price, label, is_current, is_latest"
    assert versions(shop, "dim_price", columns) == [
        ("A", 1, "today", True, False),
        ("A", 9, "today", False, True),
        ("B", 1, "b", True, False),
        ("B", 2, "b", False, True),
    ]


def test_the_sources_order_settles_which_row_of_a_key_a_day_keeps(shop: Installation) -> None:
    assert versions(shop, "dim_change", "id, name") == [(1, "b")]


def test_a_delete_ends_what_it_follows_and_none_ends_what_nobody_told_of(
    shop: Installation,
) -> None:
    assert versions(shop, "dim_event", "id, name, valid_to") == [(1, "a", at(DAYS[1], 10))]


def test_the_changes_of_two_entities_make_one_history(shop: Installation) -> None:
    """One lacks the tier, the other tells no deletes; a row of one is quarantined."""
    first, second, third, _ = DAYS
    columns = "account, valid_from, name, tier, valid_to"
    assert versions(shop, "dim_account", columns) == [
        ("A1", BEGIN, "shop 1", "gold", at(first, 10)),
        ("A1", at(first, 10), "crm 1", "gold", None),
        ("A2", BEGIN, "shop 2", "silver", at(second, 9)),
        ("A2", at(third, 8), "shop 2", "silver", None),
        ("A3", BEGIN, "crm 3", None, None),
    ]


def test_a_version_is_current_from_its_day_on_though_no_row_tells_of_it(
    shop: Installation,
) -> None:
    write(shop, "customers", DAYS[3], customers())
    assert shop.backfill(DAYS[3], DAYS[3], select="+group:warehouse").exit_code == 0
    found = versions(shop, "dim_price", "item, price, label, is_current")
    assert found[2:] == [("B", 1, "c", False), ("B", 2, "c", True)]
    with shop.active():
        assert all(table.is_equal for table in audit_star(quiet=True))


def test_a_snapshot_that_was_cut_off_is_held(shop: Installation) -> None:
    write(shop, "customers", DAYS[3], customers(count=3))
    result = shop.backfill(DAYS[3], DAYS[3], select="+group:warehouse")
    held = {(bad.asset, bad.status) for bad in result.bad}
    assert held == {("processed/shop_customers", "held")}
    assert "7 of 10 missing" in result.bad[0].why
    assert len(versions(shop, "dim_customer", "customer_id, is_current")) == 10


def test_an_audit_compares_what_exists_and_names_what_was_never_published(
    shop: Installation,
) -> None:
    star = yaml.safe_load((shop.config / "star.yaml").read_text())
    returns = {**star["facts"][0], "name": "fact_returns"}
    people = {"name": "dim_person", "entity": "shop.changes", "natural_key": {"id": "id"}}
    declared = [*star["dimensions"], {**people, "source_order": ["lsn"]}]
    (shop.config / "star.yaml").write_text(
        yaml.safe_dump({**star, "dimensions": declared, "facts": [*star["facts"], returns]})
    )
    with shop.active():
        found = {table.table: table for table in audit_star(quiet=True)}
    lacking = {name for name, table in found.items() if not table.is_published}
    names = ("dim_person", "fact_returns")
    assert lacking == {f"{layer}.{name}" for layer in ("curated", "warehouse") for name in names}
    assert all(table.is_equal for table in found.values())
    assert found["curated.fact_orders"].rows == found["warehouse.fact_orders"].rows > 0
