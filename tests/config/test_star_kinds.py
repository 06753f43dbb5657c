"""Periodic snapshots and outriggers: what cannot be built is refused before anything runs."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.config.loader import Project, load_project
from headrace.errors import ConfigError

CONFIG = Path(__file__).parents[2] / "demo/files/config"
BALANCE = {
    "name": "fact_balance",
    "kind": "periodic_snapshot",
    "snapshot_of": "movements",
    "entity": "retail.transactions",
    "grain": ["household_id", "store_id"],
    "dimensions": [{"dimension": "dim_location", "natural_key": {"store_id": "store_id"}}],
    "measures": ["quantity"],
}
REGION = {
    "name": "dim_region",
    "entity": "retail.stores",
    "natural_key": {"region": "region"},
    "attributes": {"first_store": "store_id"},
}
TO_REGION = {"dimension": "dim_region", "natural_key": {"region": "region"}}
TO_STORE = {"dimension": "dim_location", "natural_key": {"store_id": "first_store"}}


def loaded(
    tmp_path: Path,
    *,
    fact: dict[str, Any] | None = None,
    region: dict[str, Any] | None = None,
    outriggers: list[dict[str, Any]] | None = None,
) -> Project:
    """The shipped configuration with a balance, regions, and what stores name."""
    folder = Path(shutil.copytree(CONFIG, tmp_path / "config"))
    star = yaml.safe_load((folder / "star.yaml").read_text())
    star["facts"].append({**BALANCE, **(fact or {})})
    star["dimensions"].append({**REGION, **(region or {})})
    star["dimensions"][2]["outriggers"] = [TO_REGION] if outriggers is None else outriggers
    kept = {k: v for k, v in star["facts"][1].items() if v is not None}
    star["facts"][1] = kept
    (folder / "star.yaml").write_text(yaml.safe_dump(star))
    return load_project({"HEADRACE_CONFIG": str(folder), "HEADRACE_HOME": "/scratch"})


def test_a_balance_and_an_outrigger_are_no_problem(tmp_path: Path) -> None:
    star = loaded(tmp_path).star
    assert star.facts[1].levels == ("quantity",)
    assert star.dimensions[2].outriggers[0].dimension == "dim_region"


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        ({"kind": "snapshot"}, "facts[fact_balance].kind: 'snapshot' is not one of transaction"),
        (
            {"kind": None, "event_time": "transaction_timestamp"},
            "facts[fact_balance].snapshot_of: is for facts of kind periodic_snapshot only",
        ),
        (
            {"event_time": "transaction_timestamp"},
            "'transaction_timestamp': a periodic snapshot is joined as of each day's end",
        ),
        ({"grain": ["household_id"]}, "facts[fact_balance]: 'store_id' is not in the grain"),
        ({"measures": ["store_id", "nothing"]}, "retail.transactions has no column 'nothing'"),
        (
            {"measures": ["transaction_timestamp"]},
            "'transaction_timestamp' is a timestamp: only int, bigint, decimal add up",
        ),
        ({"additive": ["quantity"]}, "a snapshot of movements has levels only"),
        ({"snapshot_of": "states", "additive": ["week"]}, "week: not among the measures"),
        ({"snapshot_of": "changes"}, "household_id, store_id is not the key of retail.transac"),
    ],
)
def test_a_fact_that_does_not_fit_its_kind_is_refused(
    tmp_path: Path, fact: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, fact=fact)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("region", "outriggers", "expected"),
    [
        (
            {},
            [{**TO_REGION, "dimension": "dim_country"}],
            "dimensions[dim_location].outriggers: 'dim_country' is not one of dim_customer",
        ),
        ({}, [{**TO_REGION, "natural_key": {"town": "region"}}], "dim_region is found by region"),
        ({}, [{**TO_REGION, "natural_key": {"region": "area"}}], "has no column 'area'; add it"),
        ({}, [TO_REGION, TO_REGION], "has region_key twice; give an outrigger a role"),
        (
            {"outriggers": [TO_STORE]},
            None,
            "dim_location -> dim_region -> dim_location leads round in a circle",
        ),
        (
            {"outriggers": [{**TO_STORE, "natural_key": {"store_id": "region"}}]},
            [],
            "'region' of dim_region is a string, but store_id of dim_location is a",
        ),
    ],
)
def test_an_outrigger_that_leads_nowhere_is_refused(
    tmp_path: Path,
    region: dict[str, Any],
    outriggers: list[dict[str, Any]] | None,
    expected: str,
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, region=region, outriggers=outriggers)
    assert expected in str(caught.value)
