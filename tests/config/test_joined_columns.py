"""Which columns are compared, and therefore normalized."""

import shutil
from pathlib import Path

import pytest

from headrace.config.entities.columns import KEY_FORMS
from headrace.config.loader import Project, load_project
from headrace.errors import ConfigError

CONFIG = Path(__file__).parents[2] / "demo/files/config"


def load(folder: Path) -> Project:
    return load_project({"HEADRACE_CONFIG": str(folder), "HEADRACE_HOME": "/scratch"})


def test_texts_of_keys_and_of_joins_are_normalized_and_no_others(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(CONFIG, tmp_path / "config"))
    source = folder / "sources/retail.yaml"
    text = source.read_text()
    for name in ("product_id", "household_id"):
        text = text.replace(f"{{name: {name}, type: bigint", f"{{name: {name}, type: string")
    source.write_text(text)
    entities = {name: entity for name, (_, entity) in load(folder).entities().items()}
    found = {
        f"{name}.{column.name}"
        for name, entity in entities.items()
        for column in entity.columns
        if entity.forms_of(column)
    }
    assert found == {
        "retail.transactions.product_id",
        "retail.transactions.household_id",
        "retail.products.product_id",
        "retail.households.household_id",
    }
    # As keys of their entity they are, whatever the star says; as columns of a fact by the star.
    assert entities["retail.transactions"].column("product_id").normalize == KEY_FORMS


def test_a_column_says_otherwise(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(CONFIG, tmp_path / "config"))
    source = folder / "sources/retail.yaml"
    text = source.read_text()
    text = text.replace(
        "{name: product_id, type: bigint", "{name: product_id, normalize: [], type: string"
    )
    source.write_text(text)
    entity = load(folder).entities()["retail.products"][1]
    assert entity.forms_of(entity.column("product_id")) == ()


def test_both_sides_of_a_join_are_normalized_alike(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(CONFIG, tmp_path / "config"))
    source = folder / "sources/retail.yaml"
    text = source.read_text().replace(
        "{name: product_id, type: bigint", "{name: product_id, type: string"
    )
    before, products = text.split("  - name: products")
    products = products.replace(
        "{name: product_id, type: string",
        "{name: product_id, normalize: [nfc, strip_invisible, casefold], type: string",
    )
    source.write_text(f"{before}  - name: products{products}")
    with pytest.raises(ConfigError, match=r"product_id of dim_product by nfc, .*casefold: declare"):
        load(folder)
