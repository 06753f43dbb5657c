"""`headrace check`: what reading the files alone cannot show."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.cli import check
from headrace.cli.check import check_conditions, check_project
from headrace.config.loader import Project, load_project
from headrace.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]
MODEL = "select count(*) as rows from {{ source('warehouse', 'fact_sales') }}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shipped configuration with a dbt project of one file, so that dbt has little to read."""
    (tmp_path / "dbt").mkdir()
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy(REPOSITORY / "demo/files/dbt" / name, tmp_path / "dbt")
    return Path(shutil.copytree(REPOSITORY / "demo/files/config", tmp_path / "config"))


def loaded(folder: Path) -> Project:
    return load_project({"HEADRACE_CONFIG": str(folder), "HEADRACE_HOME": str(folder / "../home")})


def edit(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    path.write_text(text)


def without_dbt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_dbt_lines", lambda _: [])


@pytest.mark.usefixtures("sail")
def test_every_condition_and_function_is_read_and_named_with_its_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_dbt(monkeypatch)
    edit(
        folder / "sources/retail.yaml",
        ("expect: quantity >= 0", "expect: quantiti >= 0"),
        (
            "key: [store_id]\n",
            "key: [store_id]\n    transform: nowhere.at_all:clean\n    where: region\n",
        ),
    )
    edit(folder / "star.yaml", ("deleted_when: operation = 'D'", "deleted_when: op = 'D'"))
    with pytest.raises(ConfigError) as caught:
        check_project(loaded(folder))
    transform = "'nowhere.at_all:clean': ModuleNotFoundError: No module named 'nowhere'; name an"
    expected = [
        f"sources/retail.yaml:74: entities[stores].transform: transform {transform}",
        "sources/retail.yaml:33: entities[transactions].rules[quantity_not_negative].expect: there",
        "sources/retail.yaml:75: entities[stores].where: is a string, not true or false",
        "star.yaml:9: dimensions[dim_customer].deleted_when: there is no column 'op'; did you mean",
    ]
    lines = str(caught.value).replace(f"{folder}/", "").splitlines()
    assert [line[: len(said)] for line, said in zip(lines, expected, strict=True)] == expected


@pytest.mark.usefixtures("sail")
def test_a_condition_on_deletes_is_read_against_each_entity_of_its_dimension(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_dbt(monkeypatch)
    path = folder / "sources/retail.yaml"
    source = yaml.safe_load(path.read_text())
    [households] = (each for each in source["entities"] if each["name"] == "households")
    kept = [column for column in households["columns"] if column["name"] != "operation"]
    members = {**households, "name": "members", "columns": kept, "rules": []}
    members["extract"] = {"mode": "files", "path": "members/members-{date:%Y-%m-%d}.csv"}
    path.write_text(yaml.safe_dump({**source, "entities": [*source["entities"], members]}))
    entity = "entity: retail.households\n"
    edit(folder / "star.yaml", (entity, f"{entity}    further_entities: [retail.members]\n"))
    with pytest.raises(ConfigError) as caught:
        check_project(loaded(folder))
    [line] = str(caught.value).splitlines()
    assert "dimensions[dim_customer].deleted_when: for rows of retail.members, there is no" in line
    # What is wrong for the rows of all is one line.
    edit(folder / "star.yaml", ("deleted_when: operation = 'D'", "deleted_when: household_id == D"))
    with pytest.raises(ConfigError) as caught:
        check_project(loaded(folder))
    [line] = str(caught.value).splitlines()
    assert line.endswith("deleted_when: there is no column 'D': put a text in quotes, 'D'")


@pytest.mark.usefixtures("sail")
def test_the_engine_is_asked_again_only_when_a_condition_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ask = check._condition_problems

    def counted(project: Project) -> Any:
        asked.append(project.environment)
        return ask(project)

    monkeypatch.setattr(check, "_condition_problems", counted)
    check_conditions(loaded(folder))
    check_conditions(loaded(folder))
    assert len(asked) == 1
    edit(folder / "sources/retail.yaml", ("{name: quantity, type: int", "{name: units, type: int"))
    edit(folder / "star.yaml", ("measures: [quantity", "measures: [units"))
    for _ in range(2):  # what was refused is asked again
        with pytest.raises(ConfigError, match="no column 'quantity'"):
            check_conditions(loaded(folder))
    assert len(asked) == 3


def test_a_calendar_that_ends_before_today_is_refused_where_days_have_no_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_dbt(monkeypatch)
    monkeypatch.setattr(check, "_condition_lines", lambda _: [])
    (folder / "development.yaml").write_text("")
    with pytest.raises(
        ConfigError, match=r"calendar\.end: 2018-12-31 lies before the last day that"
    ):
        check_project(loaded(folder))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["-dbt_project.yml"], r"base.yaml: dbt_project: no dbt_project.yml in .*/dbt"),
        (["models/mart_sales.sql"], r"dbt project .*mart_sales.*fact_sales"),
    ],
)
def test_a_dbt_project_that_cannot_be_read_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, files: Sequence[str], expected: str
) -> None:
    monkeypatch.setattr(check, "_condition_lines", lambda _: [])
    for name in files:
        path = folder.parent / "dbt" / name.removeprefix("-")
        if name.startswith("-"):
            path.unlink()
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(MODEL)
    with pytest.raises(ConfigError, match=expected):
        check_project(loaded(folder))


def test_a_table_that_marts_read_and_the_star_lacks_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "_condition_lines", lambda _: [])
    models = folder.parent / "dbt/models/marts"
    models.mkdir(parents=True)
    (models / "mart.sql").write_text(MODEL.replace("fact_sales", "fact_sale"))
    tables = "{name: warehouse, schema: warehouse, tables: [{name: fact_sale}, {name: unread}]}"
    (models / "_marts.yml").write_text(f"version: 2\nsources:\n  - {tables}\n")
    expected = "no table 'fact_sale'; did you mean fact_sales?"
    with pytest.raises(ConfigError, match=re.escape(expected)) as caught:
        check_project(loaded(folder))
    assert "unread" not in str(caught.value)


@pytest.mark.usefixtures("sail")
def test_a_wrong_expression_of_a_calculated_column_is_named_with_its_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_dbt(monkeypatch)
    calculated = (
        "key: [store_id]\n    calculated:\n"
        "      - {name: area, type: string, expression: upper(regon)}\n"
    )
    source = folder / "sources/retail.yaml"
    edit(source, ("key: [store_id]\n", calculated))
    line = 1 + source.read_text().splitlines().index(calculated.splitlines()[2])
    with pytest.raises(ConfigError) as caught:
        check_project(loaded(folder))
    assert f"retail.yaml:{line}: entities[stores].calculated[area].expression: there is no" in str(
        caught.value
    )
    assert "did you mean region?" in str(caught.value)
    edit(source, ("regon", "region"))
    check_project(loaded(folder))
