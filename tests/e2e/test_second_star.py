"""A second star from YAML alone: roles, dates, grains, periodic snapshots, an outrigger."""

import shutil
import tempfile
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.cli.audit import audit_star
from tests.e2e import installation
from tests.e2e.installation import FIRST, Installation

pytestmark = pytest.mark.e2e

SECOND = date(2017, 1, 2)
_ENTITIES: dict[str, dict[str, Any]] = {
    "people": {
        "key": ["person_id"],
        "columns": {"person_id": "string", "city": "string"},
    },
    "towns": {"key": ["town"], "columns": {"town": "string", "region": "string"}},
    "stock": {
        "key": ["item"],
        "columns": {"item": "string", "keeper": "string", "on_hand": "int", "sold": "int"},
    },
    "orders": {
        "key": ["order_no", "line_no"],
        "event_time": "ordered_at",
        "columns": {
            "order_no": "string",
            "line_no": "int",
            "billed_to": "string",
            "shipped_to": "string",
            "ordered_at": "timestamp",
            "shipped_on": "date",
            "amount": "decimal(12,2)",
        },
    },
    "payments": {
        "key": ["payment_no"],
        "event_time": "paid_at",
        "columns": {
            "payment_no": "bigint",
            "paid_by": "string",
            "paid_at": "timestamp",
            "paid": "decimal(12,2)",
        },
    },
}
_STAR = {
    "calendar": {"name": "dim_day", "start": FIRST, "end": date(2017, 12, 31)},
    "dimensions": [
        {
            "name": "dim_person",
            "entity": "orders.people",
            "natural_key": {"person": "person_id"},
            "attributes": {"town": "city"},
            "outriggers": [{"dimension": "dim_town", "natural_key": {"name": "town"}}],
        },
        {
            "name": "dim_town",
            "entity": "orders.towns",
            "natural_key": {"name": "town"},
            "attributes": {"region": "region"},
        },
    ],
    "facts": [
        {
            "name": "fact_order_lines",
            "entity": "orders.orders",
            "grain": ["order_no", "line_no"],
            "event_time": "ordered_at",
            "dates": {"ship_date_key": "shipped_on"},
            "dimensions": [
                {
                    "dimension": "dim_person",
                    "role": "billing_person",
                    "natural_key": {"person": "billed_to"},
                },
                {
                    "dimension": "dim_person",
                    "role": "shipping_person",
                    "natural_key": {"person": "shipped_to"},
                },
            ],
            "columns": ["order_no", "line_no"],
            "measures": ["amount"],
        },
        {
            "name": "fact_payments",
            "entity": "orders.payments",
            "grain": ["payment_no"],
            "event_time": "paid_at",
            "dimensions": [{"dimension": "dim_person", "natural_key": {"person": "paid_by"}}],
            "columns": ["payment_no"],
            "measures": ["paid"],
        },
        {
            "name": "fact_balances",
            "kind": "periodic_snapshot",
            "snapshot_of": "movements",
            "entity": "orders.payments",
            "grain": ["paid_by"],
            "dimensions": [{"dimension": "dim_person", "natural_key": {"person": "paid_by"}}],
            "measures": ["paid"],
        },
        {
            "name": "fact_stock",
            "kind": "periodic_snapshot",
            "entity": "orders.stock",
            "grain": ["item"],
            "dimensions": [{"dimension": "dim_person", "natural_key": {"person": "keeper"}}],
            "columns": ["item"],
            "measures": ["on_hand", "sold"],
            "additive": ["sold"],
        },
    ],
}
_FILES = {
    "people": {
        FIRST: "person_id,city\nada,Ulm\nben,Bonn\n",
        SECOND: "person_id,city\nada,Kiel\n",
    },
    "towns": {
        FIRST: "town,region\nUlm,South\nKiel,Coast\n",
        SECOND: "town,region\nKiel,North\n",
    },
    "stock": {
        FIRST: "item,keeper,on_hand,sold\nnut,ada,9,1\n",
        SECOND: "item,keeper,on_hand,sold\nnut,ada,7,2\nbolt,,4,0\n",
    },
    "orders": {
        FIRST: "order_no,line_no,billed_to,shipped_to,ordered_at,shipped_on,amount\n"
        "A1,1,ada,ben,2017-01-01 10:00:00,2017-01-03,5.00\n"
        "A1,2,ada,ada,2017-01-01 10:00:00,,7.50\n",
        SECOND: "order_no,line_no,billed_to,shipped_to,ordered_at,shipped_on,amount\n"
        "A2,1,ada,eve,2017-01-02 09:00:00,2017-01-02,1.25\n",
    },
    "payments": {
        FIRST: "payment_no,paid_by,paid_at,paid\n0,ben,2017-01-01 08:00:00,4.00\n",
        SECOND: "payment_no,paid_by,paid_at,paid\n1,ada,2017-01-02 12:00:00,13.75\n",
    },
}


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    root = Path(tempfile.mkdtemp(prefix="headrace-second-star-"))
    root.chmod(0o755)
    made = installation.make(root, end=date(2017, 1, 3))
    shutil.rmtree(made.config / "sources")
    shutil.rmtree(made.config / "views", ignore_errors=True)
    (made.config / "sources").mkdir()
    (made.config / "sources" / "orders.yaml").write_text(yaml.safe_dump(_source()))
    (made.config / "star.yaml").write_text(yaml.safe_dump(_STAR))
    for entity, files in _FILES.items():
        for day, text in files.items():
            target = made.landing / entity / f"{entity}-{day}.csv"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    try:
        # The later day first: what it says of Ada must not reach the earlier orders.
        for day in (SECOND, FIRST):
            result = made.backfill(day, day, select="+group:warehouse")
            assert result.exit_code == 0, result.summary
        yield made
    finally:
        installation.end(made)
        shutil.rmtree(root, ignore_errors=True)


def _source() -> dict[str, Any]:
    entities = [
        {
            "name": name,
            "extract": {
                "mode": "files",
                "path": f"{name}/{name}-{{date:%Y-%m-%d}}.csv",
                "missing_file": "empty",
                "optional": True,
            },
            "key": entity["key"],
            "columns": [{"name": n, "type": kind} for n, kind in entity["columns"].items()],
            **({"event_time": entity["event_time"]} if "event_time" in entity else {}),
        }
        for name, entity in _ENTITIES.items()
    ]
    return {"name": "orders", "connector": "files", "entities": entities}


def test_one_dimension_is_joined_in_two_roles_as_of_the_order(shop: Installation) -> None:
    found = shop.sql(
        "select f.order_no, f.line_no, b.person, b.town, s.person, s.town, amount "
        "from warehouse.fact_order_lines f "
        "join warehouse.dim_person b on b.person_key = f.billing_person_key "
        "join warehouse.dim_person s on s.person_key = f.shipping_person_key order by 1, 2"
    )
    assert [tuple(row) for row in found] == [
        ("A1", 1, "ada", "Ulm", "ben", "Bonn", Decimal("5.00")),
        ("A1", 2, "ada", "Ulm", "ada", "Ulm", Decimal("7.50")),
        # Nobody told of Eve: she has a member all the same.
        ("A2", 1, "ada", "Kiel", "eve", None, Decimal("1.25")),
    ]


def test_an_order_has_the_day_it_was_placed_and_the_day_it_was_shipped(shop: Installation) -> None:
    found = shop.sql(
        "select order_no, line_no, o.date, s.date from warehouse.fact_order_lines f "
        "join warehouse.dim_day o on o.day_key = f.date_key "
        "left join warehouse.dim_day s on s.day_key = f.ship_date_key order by 1, 2"
    )
    assert [tuple(row) for row in found] == [
        ("A1", 1, FIRST, date(2017, 1, 3)),
        ("A1", 2, FIRST, None),
        ("A2", 1, SECOND, SECOND),
    ]


def test_a_fact_of_another_grain_points_to_the_same_members(shop: Installation) -> None:
    found = shop.sql(
        "select p.person, p.town, p.valid_from, paid from warehouse.fact_payments f "
        "join warehouse.dim_person p using (person_key) order by payment_no"
    )
    assert [tuple(row) for row in found] == [
        ("ben", "Bonn", datetime(1900, 1, 1), Decimal("4.00")),
        ("ada", "Kiel", datetime(2017, 1, 2), Decimal("13.75")),  # wall clock
    ]


def test_a_balance_goes_on_from_a_day_that_arrived_later(shop: Installation) -> None:
    found = shop.sql(
        "select d.date, p.person, p.town, b.paid from warehouse.fact_balances b "
        "join warehouse.dim_person p using (person_key) "
        "join warehouse.dim_day d on d.day_key = b.date_key order by 1, 2"
    )
    assert [tuple(row) for row in found] == [
        (FIRST, "ben", "Bonn", Decimal("4.00")),
        (SECOND, "ada", "Kiel", Decimal("13.75")),
        (SECOND, "ben", "Bonn", Decimal("4.00")),
    ]


def test_a_delivered_state_is_kept_by_the_person_of_that_evening(shop: Installation) -> None:
    found = shop.sql(
        "select date_key, item, p.town, on_hand, sold from warehouse.fact_stock "
        "join warehouse.dim_person p using (person_key) order by 1, 2"
    )
    assert [tuple(row) for row in found] == [
        (20170101, "nut", "Ulm", 9, 1),
        (20170102, "bolt", None, 4, 0),
        (20170102, "nut", "Kiel", 7, 2),
    ]


def test_what_must_not_be_added_up_over_days_says_so(shop: Installation) -> None:
    found = shop.sql(
        "select attrelid::regclass::text, attname::text from pg_attribute "
        "where attrelid = any (array['warehouse.fact_stock', 'warehouse.fact_balances']"
        "::regclass[]) and col_description(attrelid, attnum) like 'Semi-additive: %' order by 1, 2"
    )
    assert [tuple(row) for row in found] == [
        ("warehouse.fact_balances", "paid"),
        ("warehouse.fact_stock", "on_hand"),
    ]


def test_a_dimension_leads_to_the_dimension_that_it_names(shop: Installation) -> None:
    found = shop.sql(
        "select p.person, p.town, t.name, t.region from bi.dim_person p "
        "join warehouse.dim_town t using (town_key) where p.person <> 'eve' order by 1, 2"
    )
    assert [tuple(row) for row in found] == [
        ("Unknown", None, "Unknown", None),
        ("ada", "Kiel", "Kiel", "North"),  # the region of now: the outrigger's current version
        ("ada", "Ulm", "Ulm", "South"),
        ("ben", "Bonn", "Unknown", None),  # a town that no file tells of
    ]
    [(meaning,)] = shop.sql(
        "select col_description(attrelid, attnum) from pg_attribute "
        "where attrelid = 'bi.dim_person'::regclass and attname = 'town_key'"
    )
    assert meaning.startswith("Foreign key to warehouse.dim_town (town_key)")


def test_the_star_is_what_its_rebuild_gives(shop: Installation) -> None:
    with shop.active():
        found = audit_star(quiet=True)
    facts = ("fact_order_lines", "fact_payments", "fact_balances", "fact_stock")
    assert {table.table for table in found} == {
        f"{layer}.{name}"
        for layer in ("curated", "warehouse")
        for name in ("dim_person", "dim_town", *facts)
    }
    assert all(table.is_equal and not table.days_behind for table in found)


def test_days_that_wait_for_a_run_are_no_difference(shop: Installation) -> None:
    corrected = _FILES["payments"][FIRST] + "9,eve,2017-01-01 09:00:00,1.00\n"
    (shop.landing / "payments" / f"payments-{FIRST}.csv").write_text(corrected)
    result = shop.backfill(FIRST, FIRST, select="+processed/orders_payments")
    assert result.exit_code == 0, result.summary
    with shop.active():
        found = {table.table: table for table in audit_star(quiet=True)}
    assert found["curated.fact_payments"].days_behind == (FIRST,)
    assert found["curated.fact_balances"].days_behind == (FIRST, SECOND)
