"""A small shop of facts that share one dimension, which infers members; and runs of its days."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import yaml

from headrace.cli.backfill import BackfillResult, run_backfill
from tests.e2e import installation
from tests.e2e.conftest import scratch_root
from tests.e2e.installation import FIRST, Installation

STAR = "+group:warehouse"
# By fact's entity: its key and its time.
FACTS = {
    "orders": ("order_id", "ordered_at"),
    "returns": ("return_id", "returned_at"),
    "visits": ("visit_id", "visited_at"),
}
_AMOUNT: dict[str, object] = {"name": "amount", "type": "decimal(12,2)", "required": True}
_TWO = {"orders": "partition_replace", "returns": "partition_replace"}


def header(name: str) -> str:
    """First line of an entity's files."""
    if name == "customers":
        return "customer_id,city"
    key, time = FACTS[name]
    return f"{key},customer_id,{time},amount"


@contextmanager
def stale_shop(end: date, loads: Mapping[str, str] = _TWO) -> Iterator[Installation]:
    """An installation whose days end before `end`; how each fact's entity is loaded."""
    with scratch_root() as root:
        made = installation.make(root, end=end)
        shutil.rmtree(made.config / "views", ignore_errors=True)
        (made.config / "sources" / "retail.yaml").unlink()
        entities = [_entity(name, *FACTS[name]) for name in loads]
        entities.append(_entity("customers", "customer_id", None))
        source = {"name": "shop", "connector": "files", "entities": entities}
        (made.config / "sources" / "shop.yaml").write_text(yaml.safe_dump(source))
        star = {
            "calendar": {"name": "dim_date", "start": FIRST, "end": date(2017, 12, 31)},
            "dimensions": [
                {
                    "name": "dim_customer",
                    "entity": "shop.customers",
                    "natural_key": {"customer_id": "customer_id"},
                    "attributes": {"city": "city"},
                    "missing": "inferred",
                }
            ],
            "facts": [_fact(name, load, *FACTS[name]) for name, load in loads.items()],
        }
        (made.config / "star.yaml").write_text(yaml.safe_dump(star))
        try:
            yield made
        finally:
            installation.end(made)


def _entity(name: str, key: str, time: str | None) -> dict[str, Any]:
    columns: list[dict[str, object]] = [{"name": key, "type": "bigint"}]
    if time:
        customer: dict[str, object] = {"name": "customer_id", "type": "bigint"}
        columns += [customer, {"name": time, "type": "timestamp", "required": True}, _AMOUNT]
    else:
        columns.append({"name": "city", "type": "string"})
    path = f"{name}/{name}-{{date:%Y-%m-%d}}.csv"
    extract: dict[str, object] = {"mode": "files", "path": path, "missing_file": "empty"}
    made = {"name": name, "extract": extract, "key": [key], "columns": columns}
    return made | ({"event_time": time} if time else {})


def _fact(name: str, load: str, key: str, time: str) -> dict[str, Any]:
    join = {"dimension": "dim_customer", "natural_key": {"customer_id": "customer_id"}}
    return {
        "name": f"fact_{name}",
        "entity": f"shop.{name}",
        "grain": [key],
        "event_time": time,
        "dimensions": [join],
        "columns": [key, time],
        "measures": ["amount"],
        "load": load,
    }


def deliver(shop: Installation, name: str, day: date, rows: Sequence[str]) -> None:
    """Write an entity's file: rows of a fact are key, customer and amount."""
    lines = [row if name == "customers" else _timed(row, day) for row in rows]
    _write(shop, name, day, "\n".join([header(name), *lines, ""]))


def deliver_without_column(shop: Installation, name: str, day: date) -> None:
    """Write a file that lacks a column, so that its day fails."""
    columns = header(name).rpartition(",")[0]
    _write(shop, name, day, f"{columns}\n{','.join('1' for _ in columns.split(','))}\n")


def _write(shop: Installation, name: str, day: date, text: str) -> None:
    target = shop.landing / name / f"{name}-{day}.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}")
    scratch.write_text(text)
    scratch.replace(target)


def _timed(row: str, day: date) -> str:
    key, customer, amount = row.split(",")
    return f"{key},{customer},{day} 09:00:00,{amount}"


def run(shop: Installation, *days: date, select: str = STAR) -> BackfillResult:
    """Run the days from the first to the last."""
    return shop.backfill(days[0], days[-1], select=select)


def run_stale(shop: Installation, *days: date) -> BackfillResult:
    """Build what is stale, of all days or from the first to the last."""
    first, last = (days[0], days[-1]) if days else (None, None)
    with shop.active():
        return run_backfill(first, last, select=STAR, only_stale=True, quiet=True)


def amounts(shop: Installation, fact: str = "fact_orders") -> dict[int, float]:
    """By day of the month: the sum of a fact's amounts in the warehouse."""
    query = f"select date_key % 100, sum(amount)::float from warehouse.{fact} group by 1"
    return dict(shop.sql(query))


def stale(shop: Installation) -> dict[str, int]:
    """How many partitions are stale, by asset that has some; without marts, which are not built."""
    found = {name: status.stale for name, status in shop.status().items() if status.stale}
    return {name: count for name, count in found.items() if not name.startswith("marts/")}
