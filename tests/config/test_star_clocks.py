"""Joins that would compare times of two clocks."""

from typing import Any

import pytest

from headrace.config.entities.entity import EntityConfig
from headrace.config.sources.file_source import FileEntity
from headrace.config.star.models import StarConfig
from headrace.config.star.references import star_problems

LOCAL, INSTANT, DAY = "timestamp", "timestamptz", "date"


def entity(name: str, time: str, zone: str | None) -> EntityConfig:
    return FileEntity.model_validate(
        {
            "name": name,
            "extract": {"mode": "files", "path": f"{name}-{{date:%Y-%m-%d}}.csv"},
            "key": ["id", "at"],
            "timezone": zone,
            "columns": [
                {"name": "id", "type": "bigint"},
                {"name": "at", "type": time},
                {"name": "amount", "type": "int"},
            ],
        }
    )


def problems(
    orders: tuple[str, str | None], customers: tuple[str | None, str | None], **fact: Any
) -> list[str]:
    """Of facts with that time and zone, and versions that begin at that time, or at days."""
    event, zone = orders
    effective, members_zone = customers
    dimension = {"name": "dim_customer", "entity": "shop.customers", "natural_key": {"id": "id"}}
    dimension |= {"effective_time": "at"} if effective else {}
    join = {"dimension": "dim_customer", "natural_key": {"id": "id"}}
    star = StarConfig.model_validate(
        {
            "calendar": {"start": "2024-01-01", "end": "2024-12-31"},
            "dimensions": [dimension],
            "facts": [
                {"name": "fact_orders", "entity": "shop.orders", "grain": ["id"]}
                | {"measures": ["amount"], "dimensions": [join]}
                | (fact or {"event_time": "at"})
            ],
        }
    )
    entities = {
        "shop.orders": entity("orders", event, zone),
        "shop.customers": entity("customers", effective or LOCAL, members_zone),
    }
    return [problem for problem in star_problems(star, entities) if "timezone" in problem]


@pytest.mark.parametrize(
    ("orders", "customers", "lacking"),
    [
        ((LOCAL, None), (INSTANT, None), "shop.orders"),
        ((INSTANT, None), (LOCAL, None), "shop.customers"),
        ((LOCAL, None), (LOCAL, "Europe/Berlin"), "shop.orders"),
        ((LOCAL, "Europe/Berlin"), (LOCAL, None), "shop.customers"),
        ((LOCAL, None), (None, "Europe/Berlin"), "shop.orders"),
        ((DAY, None), (None, "Europe/Berlin"), "shop.orders"),
        ((INSTANT, "Europe/Berlin"), (None, None), "shop.customers"),
        ((INSTANT, "Europe/Berlin"), (DAY, None), "shop.customers"),
    ],
    ids=str,
)
def test_times_of_two_clocks_are_not_joined(
    orders: tuple[str, str | None], customers: tuple[str | None, str | None], lacking: str
) -> None:
    [problem] = problems(orders, customers)
    assert problem.startswith("facts[0].dimensions[0]: ")
    assert problem.endswith(f"declare the `timezone` of {lacking}")


@pytest.mark.parametrize(
    ("orders", "customers"),
    [
        ((LOCAL, None), (LOCAL, None)),
        ((INSTANT, None), (INSTANT, None)),
        ((LOCAL, None), (None, None)),
        ((INSTANT, None), (None, None)),
        ((DAY, None), (INSTANT, None)),
        ((LOCAL, "Europe/Berlin"), (INSTANT, None)),
        ((INSTANT, "Europe/Berlin"), (LOCAL, "America/New_York")),
        ((INSTANT, None), (None, "Europe/Berlin")),
    ],
    ids=str,
)
def test_times_of_one_clock_are(
    orders: tuple[str, str | None], customers: tuple[str | None, str | None]
) -> None:
    assert not problems(orders, customers)


def test_days_of_snapshots_are_of_a_zone_too() -> None:
    snapshot = {"kind": "periodic_snapshot"}
    [problem] = problems((LOCAL, None), (None, "Europe/Berlin"), **snapshot)
    assert "the day of shop.orders (a day in UTC)" in problem
    assert not problems((LOCAL, "Europe/Berlin"), (None, "Europe/Berlin"), **snapshot)
