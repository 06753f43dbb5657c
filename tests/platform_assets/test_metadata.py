"""What Dagster's catalog shows of an asset: owners, tags, tables, what columns and checks mean."""

import os
import shutil
from pathlib import Path
from unittest import mock

import dagster as dg
import pytest

from headrace.config.loader import load_project
from headrace.config.model import OWNERS_DESCRIPTION
from headrace.config.star.models import DimensionConfig
from headrace.errors import ConfigError
from headrace.project.version import code_version
from platform_assets.definitions import build_definitions, defs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def definitions(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    """The demo's, with owners and tags."""
    config = tmp_path_factory.mktemp("project") / "config"
    shutil.copytree(ROOT / "demo/files/config", config)
    _edit(
        config / "sources/retail.yaml",
        {
            "connector: files": "connector: files\nowners: [team:shops]\ntags: {domain: sales}",
            "  - name: stores": "  - name: stores\n    owners: [ada@example.com]\n"
            "    tags: {tier: gold}",
        },
    )
    _edit(
        config / "star.yaml",
        {"  - name: fact_sales": "  - name: fact_sales\n    owners: [team:bi]"},
    )
    (config / "development.yaml").write_text(f"dbt_project: {ROOT / 'demo/files/dbt'}")
    variables = {"HEADRACE_HOME": str(prepared_home), "HEADRACE_CONFIG": str(config)}
    with mock.patch.dict(os.environ, variables):
        return build_definitions(load_project())


def _edit(path: Path, changes: dict[str, str]) -> None:
    text = path.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)


def spec(definitions: dg.Definitions, key: str) -> dg.AssetSpec:
    return next(s for s in definitions.resolve_all_asset_specs() if s.key.to_user_string() == key)


def test_owners_and_tags_are_the_sources_unless_an_entity_has_its_own(
    definitions: dg.Definitions,
) -> None:
    raw, stores = (spec(definitions, f"raw/retail_{name}") for name in ("products", "stores"))
    processed = spec(definitions, "processed/retail_stores")
    assert (raw.owners, raw.tags["domain"]) == (["team:shops"], "sales")
    for found in (stores, processed):
        assert found.owners == ["ada@example.com"]
        assert {"domain": "sales", "tier": "gold"}.items() <= found.tags.items()


def test_a_fact_has_its_owners_in_the_lake_and_in_the_warehouse(
    definitions: dg.Definitions,
) -> None:
    for layer in ("curated", "warehouse"):
        assert spec(definitions, f"{layer}/fact_sales").owners == ["team:bi"]
        assert spec(definitions, f"{layer}/dim_date").owners == []


def test_every_table_is_named_with_its_database(definitions: dg.Definitions) -> None:
    tables = {
        s.key.to_user_string(): s.metadata["dagster/table_name"]
        for s in definitions.resolve_all_asset_specs()
    }
    assert tables["processed/retail_stores"] == "lake.processed.retail_stores"
    assert tables["warehouse/fact_sales"] == "warehouse.warehouse.fact_sales"
    assert tables["marts/mart_customer_rfm"] == "warehouse.marts.mart_customer_rfm"


def test_every_check_and_every_column_says_what_it_means(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    assert len(graph.asset_check_keys) > 30
    assert not [key for key in graph.asset_check_keys if not graph.get(key).description]
    for found in definitions.resolve_all_asset_specs():
        columns = found.metadata["dagster/column_schema"].columns
        assert not [column.name for column in columns if not column.description], found.key


def test_sensors_and_schedules_run_from_the_start(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    assert {s.default_status.value for s in repository.sensor_defs} == {"RUNNING"}
    assert {s.default_status.value for s in repository.schedule_defs} == {"RUNNING"}


def test_a_broken_configuration_is_what_the_code_locations_error_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = shutil.copytree(ROOT / "demo/files/config", tmp_path / "config")
    _edit(config / "star.yaml", {"entity: retail.stores": "entity: retail.shops"})
    monkeypatch.setenv("HEADRACE_CONFIG", str(config))
    with pytest.raises(dg.DagsterInvalidDefinitionError) as error:
        defs()
    for part in ("star.yaml", "retail.shops", "hint: "):
        assert part in str(error.value)


def test_an_owner_is_an_address_or_a_team(tmp_path: Path) -> None:
    config = shutil.copytree(ROOT / "demo/files/config", tmp_path / "config")
    _edit(config / "sources/retail.yaml", {"connector: files": "connector: files\nowners: [Ada]"})
    with pytest.raises(ConfigError, match=r"owners\[0\]"):
        load_project({"HEADRACE_CONFIG": str(config)})
    assert "team:name" in OWNERS_DESCRIPTION


def test_a_description_or_an_owner_makes_no_day_stale() -> None:
    def version(**more: object) -> str:
        declared = {"name": "dim_a", "entity": "shop.a", "natural_key": {"id": "id"}}
        return code_version(DimensionConfig.model_validate(declared | more))

    assert version() == version(description="Members.", owners=["team:bi"], tags={"a": "b"})
    # A column may be called so.
    assert version() != version(attributes={"description": "text"})
    assert version(attributes={"description": "text"}) != version(attributes={"tags": "text"})
