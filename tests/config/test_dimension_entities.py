"""Dimensions of several entities: what does not fit together is refused before anything runs."""

from typing import Any

import pytest
from pydantic import ValidationError

from headrace.config.entities.entity import EntityConfig
from headrace.config.sources.file_source import FileEntity
from headrace.config.star.dimension_entities import united_entity
from headrace.config.star.models import DimensionConfig, StarConfig
from headrace.config.star.references import star_problems

DIMENSION: dict[str, Any] = {
    "name": "dim_customer",
    "entity": "shop.customers",
    "further_entities": ["crm.people"],
    "natural_key": {"customer": "id"},
    "attributes": {"name": "name"},
    "type1": {"tier": "tier"},
    "effective_time": "at",
}
COLUMNS = {"id": "string", "name": "string", "tier": "string", "at": "timestamp"}
PLACE = "dimensions[0].further_entities"


def entity(columns: dict[str, Any], **more: Any) -> EntityConfig:
    declared = [
        {"name": name, **(kind if isinstance(kind, dict) else {"type": kind})}
        for name, kind in columns.items()
    ]
    extract = {"mode": "files", "path": "c-{date:%Y-%m-%d}.csv"}
    return FileEntity.model_validate(
        {"name": "e", "extract": extract, "key": ["id", "at"], "columns": declared, **more}
    )


def star(*dimensions: dict[str, Any]) -> StarConfig:
    fact = {"name": "fact_orders", "entity": "shop.orders", "grain": ["id"], "event_time": "at"}
    return StarConfig.model_validate(
        {
            "calendar": {"start": "2024-01-01", "end": "2024-12-31"},
            "dimensions": dimensions,
            "facts": [{**fact, "measures": ["amount"]}],
        }
    )


def problems(
    other: EntityConfig, *dimensions: dict[str, Any], first: EntityConfig | None = None
) -> list[str]:
    """Of a shop's customers and another entity that tells of them."""
    entities = {
        "shop.orders": entity({"id": "int", "at": "timestamp", "amount": "int"}),
        "shop.customers": first or entity(COLUMNS),
        "crm.people": other,
    }
    return list(star_problems(star(*(dimensions or [DIMENSION])), entities))


def test_entities_that_agree_are_taken() -> None:
    assert not problems(entity({**COLUMNS, "phone": "string"}))
    assert not problems(entity({**COLUMNS, "id": {"type": "string", "required": True}}))


@pytest.mark.parametrize(
    ("columns", "more", "expected"),
    [
        ({"name": "int"}, {}, "'name' is a int in crm.people, a string in shop.customers: declare"),
        ({"at": "timestamptz"}, {}, "'at' is a timestamptz in crm.people, a timestamp in shop."),
        ({}, {"timezone": "Europe/Berlin"}, "crm.people has the timezone Europe/Berlin, shop.cus"),
        ({"id": {"type": "string", "normalize": []}}, {}, "'id' of crm.people and of shop.custom"),
        ({"name": {"type": "string", "normalize": ["nfc"]}}, {}, "'name' of crm.people and of sh"),
    ],
    ids=["type", "clock", "timezone", "key", "text"],
)
def test_columns_that_would_be_compared_wrongly_are_refused(
    columns: dict[str, Any], more: dict[str, Any], expected: str
) -> None:
    [problem] = problems(entity({**COLUMNS, **columns}, **more))
    assert problem.startswith(f"{PLACE}: {expected}"), problem


def without(*names: str) -> EntityConfig:
    kept = {name: kind for name, kind in COLUMNS.items() if name not in names}
    return entity(kept, key=["id", "_source_position"])


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("tier", "or add tier to `ignore_nulls`, so that its rows keep the value"),
        ("name", "or add name to `ignore_nulls`, so that its rows keep the value"),
        ("at", "with `optional: true` if its files lack it"),
    ],
)
def test_a_column_that_one_lacks_is_named_with_the_way_out(name: str, remedy: str) -> None:
    [problem] = problems(without(name))
    assert problem.startswith(f"{PLACE}: crm.people has no column '{name}': declare it there")
    assert problem.endswith(remedy)
    # Whichever of both lacks it.
    [problem] = problems(entity(COLUMNS), first=without(name))
    assert problem.startswith(f"{PLACE}: shop.customers has no column '{name}': declare it there")


def test_an_attribute_whose_nulls_say_nothing_may_lack_in_one() -> None:
    ignoring = {**DIMENSION, "ignore_nulls": ["tier"]}
    assert not problems(without("tier"), ignoring)
    assert not problems(entity(COLUMNS), ignoring, first=without("tier"))
    [problem] = problems(without("tier"), ignoring, first=without("tier"))
    assert problem.startswith("dimensions[0].type1.tier: shop.customers has no column 'tier'")


def test_an_entity_that_does_not_exist_is_named_with_the_nearest() -> None:
    [problem] = problems(entity(COLUMNS), {**DIMENSION, "further_entities": ["crm.peple"]})
    assert problem.startswith(f"{PLACE}: ")
    assert "crm.people" in problem


def test_the_rules_for_one_entity_hold_for_each() -> None:
    [problem] = problems(entity(COLUMNS, key=["id"]))
    assert problem.endswith("add 'at' or '_source_position' to the key of crm.people")
    other = {"name": "dim_other", "entity": "crm.people", "natural_key": {"customer": "id"}}
    other |= {"source_order": ["tier"], "effective_time": "at"}
    [problem] = problems(entity(COLUMNS), {**DIMENSION, "source_order": ["name"]}, other)
    assert problem.endswith("rows of crm.people have one order")
    monthly = {"mode": "files", "path": "c.csv", "partition_by": "at"}
    timeless = {**DIMENSION, "effective_time": None}
    [problem] = problems(entity(COLUMNS, extract=monthly, partition="month"), timeless)
    assert problem.startswith(f"{PLACE}: crm.people has partition: month, and dim_customer has no")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"further_entities": ["crm.people", "shop.customers"]},
            r"further_entities\[1\]: shop.customers is the dimension's `entity` already: leave it",
        ),
        ({"further_entities": ["crm.people", "crm.people"]}, "crm.people stands there twice"),
        ({"full_snapshot": True}, "further_entities: goes without `full_snapshot`"),
        ({"sequence": "tier"}, "further_entities: goes without `sequence`"),
    ],
    ids=["itself", "twice", "snapshot", "sequence"],
)
def test_what_several_entities_cannot_say_is_refused(
    changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValidationError, match=expected):
        star({**DIMENSION, **changes})


def test_a_column_has_a_value_in_every_row_only_if_it_has_in_every_entity() -> None:
    config = DimensionConfig.model_validate({**DIMENSION, "ignore_nulls": ["tier"]})
    required = {"type": "string", "required": True}
    first = entity({**COLUMNS, "name": required, "tier": required})
    united = united_entity(config, [first, without("tier")])
    assert not united.column("name").required
    assert not united.column("tier").required
    assert united.key == ("id",)
    united = united_entity(config, [without("tier"), first])
    assert united.column("tier").type == "string"
