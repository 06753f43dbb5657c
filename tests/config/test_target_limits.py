"""What Postgres would refuse is refused by the configuration, with where it stands."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.config.loader import Project, load_project
from headrace.errors import ConfigError
from headrace.pipeline.warehouse import fact_table

CONFIG = Path(__file__).parents[2] / "demo/files/config"
Star = dict[str, Any]


def loaded(tmp_path: Path, change: Callable[[Star], object]) -> Project:
    folder = Path(shutil.copytree(CONFIG, tmp_path / "config"))
    star = yaml.safe_load((folder / "star.yaml").read_text())
    change(star)
    (folder / "star.yaml").write_text(yaml.safe_dump(star))
    return load_project({"HEADRACE_CONFIG": str(folder), "HEADRACE_HOME": "/scratch"})


def _attribute(name: str) -> Callable[[Star], object]:
    return lambda star: star["dimensions"][0].setdefault("attributes", {}).update({name: "x"})


def _many_attributes(star: Star) -> None:
    dim = star["dimensions"][0]
    source = next(iter(dim["natural_key"].values()))
    dim["attributes"] = {f"a{n}": source for n in range(1_600)}


def _fact(**more: object) -> Callable[[Star], object]:
    return lambda star: star["facts"][0].update(more)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_attribute("xmin"), r"attributes.xmin: Postgres has a column 'xmin' of its own"),
        (_attribute("tableoid"), r"Postgres has a column 'tableoid' of its own"),
        (_fact(dates={"ctid": "sold_at"}), r"dates: Postgres has a column 'ctid' of its own"),
        (_many_attributes, r"16\d\d columns: Postgres takes up to 1600, leave some out"),
        (
            lambda star: star["dimensions"][0].update(unknown={"income": "a\0b"}),
            r"dimensions\[dim_customer\].unknown.income: has a NUL character",
        ),
        (
            _fact(load="upsert", keep_months=3),
            r"keep_months: needs `load: partition_replace`: only a table that is cut into months",
        ),
        (_fact(load="truncate_and_load", keep_months=3), "keep_months: needs"),
        (
            lambda star: star["calendar"].update(name=f"{star['facts'][0]['name']}__2024_01"),
            r"calendar.name: .*: names that begin with .* are those of .*'s months and indexes",
        ),
    ],
)
def test_what_postgres_would_refuse_is_refused_with_its_place(
    tmp_path: Path, change: Callable[[Star], object], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        loaded(tmp_path, change)


def test_the_line_in_the_file_keys_the_rows_of_an_upsert(tmp_path: Path) -> None:
    grain = ["_source_object", "_source_position"]
    fact = _fact(load="upsert", grain=grain, columns=["basket_id", *grain])
    project = loaded(tmp_path, fact)
    table = fact_table(project, project.star.facts[0])
    assert table.primary_key == ("date_key", "_source_object", "_source_position")
    assert table.schema.column("_source_position").type == "bigint"
