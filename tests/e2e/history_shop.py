"""A shop whose dimensions change, with deliveries in any order: configuration and files.

Products come as changes with their own time and deletes, customers as changes as of their file's
day, sales name members that nobody told of.
"""

import shutil
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.e2e import installation
from tests.e2e.installation import FIRST, Installation

DAYS = [FIRST + timedelta(days=n) for n in range(6)]
SELECT = "+group:warehouse"


def _files(name: str) -> dict[str, Any]:
    """Deliveries that come in any order and of any day, or not at all."""
    path = f"{name}/{name}-{{date:%Y-%m-%d}}.csv"
    return {"mode": "files", "path": path, "missing_file": "empty", "optional": True}


_SOURCE = {
    "name": "shop",
    "connector": "files",
    "entities": [
        {
            "name": "products",
            "extract": _files("products"),
            "key": ["_source_object", "_source_position"],
            "columns": [
                {"name": "product_id", "type": "bigint"},
                {"name": "size", "type": "string"},
                {"name": "brand", "type": "string"},
                {"name": "changed_at", "type": "timestamp"},
                {"name": "operation", "type": "string"},
            ],
        },
        {
            "name": "customers",
            "extract": _files("customers"),
            "key": ["customer_id"],
            "columns": [
                {"name": "customer_id", "type": "bigint"},
                {"name": "city", "type": "string"},
            ],
        },
        {
            "name": "sales",
            "extract": _files("sales"),
            "key": ["sale_id"],
            "event_time": "sold_at",
            "columns": [
                {"name": "sale_id", "type": "bigint"},
                {"name": "product_id", "type": "bigint"},
                {"name": "customer_id", "type": "bigint"},
                {"name": "sold_at", "type": "timestamp", "required": True},
                {"name": "amount", "type": "decimal(12,2)", "required": True},
            ],
        },
    ],
}
_STAR = {
    "calendar": {"name": "dim_date", "start": FIRST, "end": date(2017, 12, 31)},
    "dimensions": [
        {
            "name": "dim_product",
            "entity": "shop.products",
            "natural_key": {"product_id": "product_id"},
            "attributes": {"size": "size"},
            "type1": {"brand": "brand"},
            "effective_time": "changed_at",
            "first_version": "at_effective_time",
            "deleted_when": "operation = 'D'",
            "missing": "inferred",
        },
        {
            "name": "dim_customer",
            "entity": "shop.customers",
            "natural_key": {"customer_id": "customer_id"},
            "attributes": {"city": "city"},
            "missing": "inferred",
        },
    ],
    "facts": [
        {
            "name": "fact_sales",
            "entity": "shop.sales",
            "grain": ["sale_id"],
            "event_time": "sold_at",
            "dimensions": [
                {"dimension": "dim_product", "natural_key": {"product_id": "product_id"}},
                {"dimension": "dim_customer", "natural_key": {"customer_id": "customer_id"}},
            ],
            "columns": ["sale_id", "sold_at"],
            "measures": ["amount"],
        }
    ],
}


@dataclass(frozen=True)
class HistoryShop:
    """An installation of the shop, and its files by day and correction."""

    shop: Installation

    def deliver(self, day: date, *, correction: int = 0) -> None:
        """Write the day's three files; each correction says other things of the same day."""
        random = Random(f"{day} {correction}")  # noqa: S311  # reproducible
        changes = [_change(random, day) for _ in range(random.randrange(6))]
        self._write("products", day, "product_id,size,brand,changed_at,operation", changes)
        told = random.sample(range(1, 6), random.randrange(4))
        customers = [f"{n},{random.choice('AB')}" for n in sorted(told)]
        self._write("customers", day, "customer_id,city", customers)
        sales = [_sale(random, day, n) for n in range(random.randrange(2, 9))]
        self._write("sales", day, "sale_id,product_id,customer_id,sold_at,amount", sales)

    def empty(self, day: date) -> None:
        """Let the day's files have their headers alone: the day is gone."""
        self._write("products", day, "product_id,size,brand,changed_at,operation", [])
        self._write("customers", day, "customer_id,city", [])
        self._write("sales", day, "sale_id,product_id,customer_id,sold_at,amount", [])

    def run(self, start: date, end: date) -> None:
        """Bring some days to the warehouse."""
        result = self.shop.backfill(start, end, select=SELECT)
        assert result.exit_code == 0, result

    def star(self) -> dict[str, list[tuple[object, ...]]]:
        """The star as readers see it, rows in order."""
        return {
            name: sorted(self.shop.sql(f"select * from warehouse.{name}"), key=str)
            for name in ("dim_product", "dim_customer", "fact_sales")
        }

    def _write(self, entity: str, day: date, header: str, lines: list[str]) -> None:
        target = self.shop.landing / entity / f"{entity}-{day}.csv"
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{target.name}")
        scratch.write_text("\n".join([header, *lines, ""]))
        scratch.replace(target)


def make(root: Path) -> HistoryShop:
    """A new installation without files."""
    made = installation.make(root, end=DAYS[-1] + timedelta(days=1))
    for path in (made.config / "sources").iterdir():
        path.unlink()
    (made.config / "sources" / "shop.yaml").write_text(yaml.safe_dump(_SOURCE))
    (made.config / "star.yaml").write_text(yaml.safe_dump(_STAR))
    shutil.rmtree(made.config / "views", ignore_errors=True)
    return HistoryShop(made)


def _change(random: Random, day: date) -> str:
    # Few products, states and instants, so that no-ops, ties, lateness and returns are frequent.
    at = datetime.combine(day - timedelta(days=random.choice([0, 0, 0, 1, 3])), time())
    at += timedelta(hours=random.choice([0, 8, 16]))
    state = f"{random.choice('SML')},{random.choice('XY')}"
    return f"{random.randrange(1, 5)},{state},{at},{random.choice('UUUUD')}"


def _sale(random: Random, day: date, number: int) -> str:
    at = datetime.combine(day, time()) + timedelta(hours=random.choice([0, 7, 8, 12, 16, 23]))
    sale = day.toordinal() * 100 + number
    return f"{sale},{random.randrange(1, 7)},{random.randrange(1, 8)},{at},{random.randrange(99)}.5"
