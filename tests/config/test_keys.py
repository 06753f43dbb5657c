"""Keys: columns, and where the source repeats its own, the row's place in its file."""

import shutil
from pathlib import Path

import pytest

from headrace.config.loader import Project, load_project
from headrace.errors import ConfigError

CONFIG = Path(__file__).parents[2] / "demo/files/config"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CONFIG, tmp_path / "config"))


def load(folder: Path) -> Project:
    return load_project({"HEADRACE_CONFIG": str(folder), "HEADRACE_HOME": "/scratch"})


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_line_in_the_file_may_be_part_of_key_and_grain(folder: Path) -> None:
    edit(
        folder / "sources/retail.yaml",
        "key: [household_id, ",
        "key: [_source_object, _source_position, ",
    )
    edit(
        folder / "star.yaml", "grain: [household_id, ", "grain: [_source_object, _source_position, "
    )
    project = load(folder)
    _, entity = project.entities()["retail.transactions"]
    assert entity.key == ("_source_object", "_source_position", "basket_id", "product_id")
    assert (
        entity.processed_column("_source_position").type,
        entity.processed_column("_source_object").type,
    ) == (
        "bigint",
        "string",
    )
    assert project.star.facts[0].grain == entity.key


@pytest.mark.parametrize(
    ("old", "new"), [("_file", "_source_object"), ("_line", "_source_position")]
)
def test_a_former_name_of_a_lineage_column_is_answered_with_its_name_of_today(
    folder: Path, old: str, new: str
) -> None:
    edit(folder / "sources/retail.yaml", "key: [household_id, ", f"key: [{old}, ")
    with pytest.raises(ConfigError, match=rf"key\[0\]: '{old}' must be .*; did you mean {new}\?"):
        load(folder)


def test_other_technical_columns_are_no_keys(folder: Path) -> None:
    edit(folder / "sources/retail.yaml", "key: [household_id, ", "key: [_run_id, ")
    with pytest.raises(ConfigError, match=r"entities\[transactions\].key\[0\]: '_run_id'"):
        load(folder)


def test_a_key_of_an_undeclared_column_is_named(folder: Path) -> None:
    edit(folder / "sources/retail.yaml", "key: [household_id, ", "key: [household, ")
    with pytest.raises(ConfigError, match="household: not among the columns household_id"):
        load(folder)
