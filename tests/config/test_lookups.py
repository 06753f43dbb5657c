"""Lookups in the configuration: types of looked-up columns, and references that do not fit."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from headrace.config.entities.entity import EntityConfig
from headrace.config.entities.lookups import in_lookup_order, lookup_problems, with_lookups
from headrace.config.loader import load_project
from headrace.errors import ConfigError
from headrace.project.lineage import processed_lineage, project_lineage
from tests.standardize.captured import entity

CONFIG = Path(__file__).parents[2] / "demo/files/config"
LOOKUP: dict[str, Any] = {
    "entity": "shop.stores",
    "match": {"store": "id"},
    "columns": {"store_region": "region"},
}


def entities(*lookups: dict[str, Any], **stores: object) -> dict[str, EntityConfig]:
    region = {"name": "region", "type": "string", "description": "Where it is."}
    return {
        "shop.orders": entity({"name": "store", "type": "int"}, lookups=[*lookups]),
        "shop.stores": entity(region, **({"name": "stores", "partition": "none"} | stores)),
    }


def problems(found: dict[str, EntityConfig]) -> list[str]:
    return [what for _, what in lookup_problems(with_lookups(found))]


def test_a_looked_up_column_has_the_type_of_its_reference() -> None:
    found = with_lookups(entities(LOOKUP))["shop.orders"]
    assert [(c.name, c.type, c.description) for c in found.looked_up] == [
        ("store_region", "string", "Where it is.")
    ]
    assert [*found.declared_schema().names] == ["id", "store", "store_region"]
    assert problems(entities(LOOKUP)) == []


@pytest.mark.parametrize(
    ("lookup", "stores", "why"),
    [
        ({"entity": "shop.store"}, {}, "entity: 'shop.store' is not one of shop.orders, shop.st"),
        ({"match": {"store": "store"}}, {}, "match: shop.stores: 'store' is not one of id, region"),
        ({"columns": {"a": "regoin"}}, {}, "columns: shop.stores: 'regoin' is not one of"),
        ({"match": {"store": "region"}}, {}, "match: shop.stores has the key id: match all of it"),
        ({"match": {"store": "region"}}, {"key": ["region"]}, "'store' is a int, but region of"),
        ({}, {"partition": None}, "entity: shop.stores has a partition for each day, and no cur"),
        ({"entity": "shop.orders"}, {}, "entity: shop.orders looks up shop.orders: a row would"),
        (
            {"columns": {"a": "id"}, "missing": "default", "default": {"a": "x"}},
            {},
            "default: 'x' is not a bigint, as a is",
        ),
    ],
)
def test_a_lookup_that_does_not_fit_is_refused(
    lookup: dict[str, Any], stores: dict[str, object], why: str
) -> None:
    found = problems(entities(LOOKUP | lookup, **stores))
    assert any(
        what.startswith(f"entities[orders].lookups[0].{why}") or why in what for what in found
    )


def test_a_cycle_of_lookups_is_refused_and_named() -> None:
    back = LOOKUP | {"entity": "shop.orders", "match": {"id": "id"}, "columns": {"o": "store"}}
    found = entities(LOOKUP, lookups=[back])
    assert problems(found)[0] == (
        "entities[orders].lookups[0].entity: shop.orders looks up shop.stores looks up "
        "shop.orders: a row would depend on itself"
    )


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"lookups": [LOOKUP, LOOKUP]}, "lookups[1].columns: 'store_region' is declared twice"),
        ({"lookups": [LOOKUP | {"match": {"shop": "id"}}]}, "lookups[0].match: 'shop' is not one"),
        ({"lookups": [LOOKUP], "where": "store_region = 'x'"}, "where: 'store_region' is calcul"),
        ({"lookups": [LOOKUP | {"missing": "default"}]}, "default: lacks store_region"),
        ({"lookups": [LOOKUP | {"default": {"store_region": "x"}}]}, "is for `missing: default`"),
        ({"lookups": [LOOKUP], "event_time": "store_region"}, "event_time: store_region: not"),
    ],
)
def test_a_declaration_that_does_not_fit_its_entity_is_refused(
    options: dict[str, object], why: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        entity({"name": "store", "type": "int"}, **options)
    assert why in str(refused.value)


def test_missing_null_is_the_default() -> None:
    assert entities(LOOKUP | {"missing": None})["shop.orders"].lookups[0].missing == "null"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shipped configuration; transactions look up the region of their store."""
    folder = Path(shutil.copytree(CONFIG, tmp_path / "config"))
    path = folder / "sources" / "retail.yaml"
    source = yaml.safe_load(path.read_text())
    by_name = {one["name"]: one for one in source["entities"]}
    by_name["stores"]["extract"] = {"mode": "files", "path": "stores.csv"}
    lookup = {"entity": "retail.stores", "match": {"store_id": "store_id"}}
    by_name["transactions"]["lookups"] = [lookup | {"columns": {"region": "region"}}]
    path.write_text(yaml.safe_dump(source, sort_keys=False))
    return folder


def load(folder: Path) -> Any:
    return load_project({"HEADRACE_CONFIG": str(folder), "HEADRACE_HOME": "/scratch"})


def test_a_looked_up_column_is_a_column_for_the_star(folder: Path) -> None:
    star = yaml.safe_load((folder / "star.yaml").read_text())
    star["facts"][0]["columns"].append("region")
    (folder / "star.yaml").write_text(yaml.safe_dump(star))
    project = load(folder)
    lineage = processed_lineage(project, "retail.transactions")
    assert lineage.lookups == ("processed/retail_stores",)
    order = [*project_lineage(project, {"nodes": {}, "sources": {}})]
    assert order.index("processed/retail_stores") < order.index("processed/retail_transactions")
    found = {name: one for name, (_, one) in project.entities().items()}
    assert {*in_lookup_order(found)} == {*found}


def test_a_wrong_reference_is_named_with_file_and_line(folder: Path) -> None:
    path = folder / "sources" / "retail.yaml"
    path.write_text(path.read_text().replace("entity: retail.stores", "entity: retail.store"))
    with pytest.raises(ConfigError) as refused:
        load(folder)
    [line] = [
        number
        for number, text in enumerate(path.read_text().splitlines(), start=1)
        if text.endswith("entity: retail.store")
    ]
    assert f"retail.yaml:{line}: entities[transactions].lookups[0].entity: 'retail.store'" in str(
        refused.value
    )


RATE: dict[str, Any] = {
    "entity": "shop.stores",
    "match": {"store": "id"},
    "as_of": {"sold_on": "since"},
    "max_age_days": 7,
    "columns": {"rate": "rate"},
}


def rates(lookup: dict[str, Any], sold_on: str = "timestamp", since: str = "date") -> list[str]:
    columns = {"name": "since", "type": since}, {"name": "rate", "type": "decimal(8,4)"}
    orders = {"name": "store", "type": "bigint"}, {"name": "sold_on", "type": sold_on}
    reference = {"name": "stores", "partition": "none", "key": ["id", "since"]}
    return problems(
        {
            "shop.orders": entity(*orders, lookups=[RATE | lookup]),
            "shop.stores": entity(*columns, **reference),
        }
    )


def test_a_lookup_by_day_names_the_day_of_both_entities() -> None:
    assert rates({}) == []
    [what] = rates({}, since="timestamp")
    assert "as_of: since of shop.stores is a timestamp, not a date" in what
    assert "as_of: 'sold_on' is a string, and says no day" in rates({}, sold_on="string")[0]
    # Without `as_of`, the match lacks a part of the key.
    assert "has the key id, since" in rates({"as_of": {}, "max_age_days": None})[0]
    with pytest.raises(ValidationError, match="max_age_days: is missing"):
        rates({"max_age_days": None})
    with pytest.raises(ValidationError, match="as_of: is missing"):
        rates({"as_of": {}})
    with pytest.raises(ValidationError, match=r"lookups\[0\].as_of: 'sold' is not one of"):
        rates({"as_of": {"sold": "since"}})
