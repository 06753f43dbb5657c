"""A star of two facts, one by month and one by day, and a mart that reads both."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml

from tests.e2e import installation
from tests.e2e.conftest import scratch_root
from tests.e2e.installation import REPOSITORY, Installation

FIRST, LAST = date(2017, 1, 1), date(2017, 3, 31)
_MART = """
{{ config(meta={'window': {'column': 'date'}}, contract={'enforced': false}) }}
with lines as (
    select date_key, amount as ordered, 0 as paid from {{ source('warehouse', 'fact_orders') }}
    where {{ in_build('date_key', is_key=true) }}
    union all
    select date_key, 0, paid from {{ source('warehouse', 'fact_payments') }}
    where {{ in_build('date_key', is_key=true) }}
)
select
    to_date(date_key::text, 'YYYYMMDD') as date,
    sum(ordered) as ordered,
    sum(paid) as paid
from lines
group by date_key
"""
_COLUMNS = {
    "people": {"person_id": "string", "name": "string"},
    "towns": {"town": "string", "region": "string"},
    "orders": {
        "order_no": "bigint",
        "person_id": "string",
        "town": "string",
        "ordered_on": "date",
        "amount": "decimal(12,2)",
    },
    "payments": {
        "payment_no": "bigint",
        "person_id": "string",
        "paid_on": "date",
        "paid": "decimal(12,2)",
    },
}
_ENTITIES: dict[str, dict[str, Any]] = {
    # Undated reference data: a partition a version.
    "people": {"extract": {"path": "people.csv"}, "key": ["person_id"]},
    # A full snapshot a month.
    "towns": {
        "extract": {"path": "towns-{date:%Y-%m}.csv", "missing_file": "empty"},
        "key": ["town"],
        "partition": "month",
    },
    "orders": {
        "extract": {"path": "orders-{date:%Y-%m}.csv", "expected_by": "2d 06:00"},
        "key": ["order_no"],
        "event_time": "ordered_on",
        "partition": "month",
    },
    "payments": {
        "extract": {"path": "payments-{date:%Y-%m-%d}.csv", "missing_file": "empty"},
        "key": ["payment_no"],
        "event_time": "paid_on",
    },
}
_STAR = {
    "calendar": {"name": "dim_date", "start": FIRST, "end": date(2017, 12, 31)},
    "dimensions": [
        {
            "name": "dim_person",
            "entity": "shop.people",
            "natural_key": {"person": "person_id"},
            "attributes": {"name": "name"},
        },
        {
            "name": "dim_town",
            "entity": "shop.towns",
            "natural_key": {"town": "town"},
            "attributes": {"region": "region"},
            "full_snapshot": True,
        },
    ],
    "facts": [
        {
            "name": "fact_orders",
            "entity": "shop.orders",
            "grain": ["order_no"],
            "event_time": "ordered_on",
            "dimensions": [
                {"dimension": "dim_person", "natural_key": {"person": "person_id"}},
                {"dimension": "dim_town", "natural_key": {"town": "town"}},
            ],
            "columns": ["order_no"],
            "measures": ["amount"],
        },
        {
            "name": "fact_payments",
            "entity": "shop.payments",
            "grain": ["payment_no"],
            "event_time": "paid_on",
            "dimensions": [{"dimension": "dim_person", "natural_key": {"person": "person_id"}}],
            "columns": ["payment_no"],
            "measures": ["paid"],
        },
    ],
}


@contextmanager
def mixed_shop(**columns: dict[str, Any]) -> Iterator[Installation]:
    """An installation of the first three months of 2017, without files.

    Args:
        columns: More columns of entities: what is declared of each, by entity.
    """
    with scratch_root() as root:
        made = installation.make(root, end=LAST + timedelta(days=1))
        _configure(made, columns)
        try:
            yield made
        finally:
            installation.end(made)


def _configure(shop: Installation, more: dict[str, Any]) -> None:
    for folder in ("sources", "views"):
        shutil.rmtree(shop.config / folder, ignore_errors=True)
    (shop.config / "sources").mkdir()
    entities = []
    for name, declared in _ENTITIES.items():
        columns = [{"name": n, "type": kind} for n, kind in _COLUMNS[name].items()]
        columns += [more[name]] if name in more else []
        extract = {"mode": "files", **declared["extract"]}
        entities.append({**declared, "name": name, "extract": extract, "columns": columns})
    source = {"name": "shop", "connector": "files", "entities": entities}
    (shop.config / "sources" / "shop.yaml").write_text(yaml.safe_dump(source))
    (shop.config / "star.yaml").write_text(yaml.safe_dump(_STAR))
    dbt = shop.root / "dbt"
    shutil.copytree(REPOSITORY / "demo/files/dbt", dbt)
    shutil.rmtree(dbt / "models")
    (dbt / "models" / "marts").mkdir(parents=True)
    tables = [{"name": name} for name in ("fact_orders", "fact_payments")]
    declared = {"name": "warehouse", "schema": "warehouse", "tables": tables}
    sources = {"version": 2, "sources": [declared]}
    (dbt / "models" / "sources.yml").write_text(yaml.safe_dump(sources))
    (dbt / "models" / "marts" / "mart_daily.sql").write_text(_MART)
    settings = shop.config / "development.yaml"
    settings.write_text(settings.read_text().replace(str(REPOSITORY / "demo/files/dbt"), str(dbt)))


def deliver(shop: Installation, name: str, rows: Sequence[str], header: str = "") -> Path:
    """Write a file: the header of its entity and rows."""
    header = header or ",".join(_COLUMNS[name.partition(".")[0].partition("-")[0]])
    target = shop.landing / name
    target.write_text("\n".join([header, *rows, ""]))
    return target


def order(number: int, day: date, amount: str = "2.00", person: str = "ada") -> str:
    """A row of a month's file."""
    return f"{number},{person},Ulm,{day},{amount}"


def deliver_all(shop: Installation) -> None:
    """One order and one payment on the 5th and the 20th of each month, and the reference data."""
    deliver(shop, "people.csv", ["ada,Ada", "ben,Ben"])
    for month in (1, 2, 3):
        days = [date(2017, month, 5), date(2017, month, 20)]
        deliver(
            shop, f"towns-2017-{month:02d}.csv", ["Ulm,South", *(["Kiel,Coast"] * (month != 2))]
        )
        rows = [order(day.toordinal(), day) for day in days]
        deliver(shop, f"orders-2017-{month:02d}.csv", rows)
        for day in days:
            deliver(shop, f"payments-{day}.csv", [f"{day.toordinal()},ben,{day},1.00"])
