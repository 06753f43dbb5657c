"""How the warehouse takes a fact, as the configuration says it."""

import shutil
from pathlib import Path

import pytest
import yaml

from headrace.config.loader import Project, load_project
from headrace.errors import ConfigError
from headrace.pipeline.warehouse import fact_table

CONFIG = Path(__file__).parents[2] / "demo/files/config"


def loaded(tmp_path: Path, load: str, *, with_grain: bool = True) -> Project:
    folder = Path(shutil.copytree(CONFIG, tmp_path / "config"))
    star = yaml.safe_load((folder / "star.yaml").read_text())
    fact = star["facts"][0]
    fact["load"] = load
    fact["columns"] = [name for name in fact["columns"] if name not in fact["grain"]]
    if with_grain:
        fact["columns"] += fact["grain"]
    (folder / "star.yaml").write_text(yaml.safe_dump(star))
    return load_project({"HEADRACE_CONFIG": str(folder), "HEADRACE_HOME": "/scratch"})


@pytest.mark.parametrize(
    ("load", "cut_by", "replaces_by"),
    [
        ("partition_replace", "date_key", "date_key"),
        ("upsert", None, "date_key"),
        ("truncate_and_load", None, None),
    ],
)
def test_a_fact_is_loaded_as_it_says(
    tmp_path: Path, load: str, cut_by: str | None, replaces_by: str | None
) -> None:
    project = loaded(tmp_path, load)
    fact = project.star.facts[0]
    table = fact_table(project, fact)
    assert (table.mode, table.partition_column, table.column_of_days) == (load, cut_by, replaces_by)
    assert table.primary_key == (("date_key", *fact.grain) if load == "upsert" else ())


def test_rows_are_updated_by_a_grain_that_the_table_has(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"facts\[fact_sales\].columns: lacks .*`load: upsert`"):
        loaded(tmp_path, "upsert", with_grain=False)
