"""Configuration: what is wrong is named by file, path and fix, all of it at once."""

import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest

from headrace.config.loader import load_project, resolve_secret
from headrace.config.model import Secret
from headrace.errors import ConfigError

CONFIG = Path(__file__).parents[2] / "demo/files/config"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CONFIG, tmp_path / "config"))


def environ(folder: Path, **more: str) -> Mapping[str, str]:
    return {"HEADRACE_CONFIG": str(folder), "HEADRACE_HOME": "/scratch", **more}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def problem(folder: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_project(environ(folder))
    return caught.value


@pytest.mark.parametrize("folder", [CONFIG, CONFIG.parents[2] / "config"], ids=["files", "demo"])
@pytest.mark.parametrize("name", ["development", "staging", "production"])
def test_the_shipped_configuration_is_valid_in_every_environment(folder: Path, name: str) -> None:
    assert load_project(environ(folder, PIPELINE_ENV=name)).environment == name


def test_an_environment_is_laid_over_the_base(folder: Path) -> None:
    project = load_project(environ(folder))
    assert project.settings.partitions.start == date(2017, 1, 1)
    assert project.settings.partitions.end == date(2018, 1, 2)
    assert project.expand(project.settings.lake.uri) == "/scratch/lake"


def test_a_folder_below_the_projects_own_finds_its_configuration_and_home(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = folder.parent / "dbt" / "models"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    project = load_project({})
    assert (project.folder, project.home) == (folder, folder.parent / ".headrace")


@pytest.mark.parametrize(
    "text", ["", "# nothing", "partitions:", "partitions:\n  # end: 2018-01-02"]
)
def test_an_empty_file_or_section_changes_nothing(folder: Path, text: str) -> None:
    (folder / "development.yaml").write_text(text)
    project = load_project(environ(folder))
    assert project.settings.partitions.start == date(2017, 1, 1)
    assert project.settings.partitions.end is None


def test_an_empty_section_of_any_file_has_its_defaults(folder: Path) -> None:
    with (folder / "base.yaml").open("a") as base:
        base.write("engine:\nlake:\n")
    edit(folder / "sources/retail.yaml", "  - name: stores", "  - name: stores\n    rules:")
    settings = load_project(environ(folder)).settings
    assert settings.engine.batch_bytes > 0
    assert settings.lake.uri == "{home}/lake"


def test_a_value_that_may_be_null_is_taken_back_by_null(folder: Path) -> None:
    edit(folder / "base.yaml", "  start: 2017-01-01", "  start: 2017-01-01\n  end: 2018-01-02")
    (folder / "development.yaml").write_text("partitions: {end: null}")
    assert load_project(environ(folder)).settings.partitions.end is None


def test_an_unknown_environment_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="'prod' is not one of development, staging, production"):
        load_project(environ(folder, PIPELINE_ENV="prod"))


def test_a_misspelt_word_is_named_with_its_place_and_the_right_one(folder: Path) -> None:
    edit(folder / "sources/retail.yaml", "mode: files", "mode: filse")
    error = problem(folder)
    said = "entities[transactions].extract.mode: 'filse' is not one of files; did you mean files?"
    assert f"sources/retail.yaml:9: {said}" in str(error)


def test_a_misspelt_key_is_named_with_the_right_one(folder: Path) -> None:
    edit(folder / "sources/retail.yaml", "event_time:", "event_tme:")
    error = problem(folder)
    assert "entities[transactions].event_tme: is not a key that exists here" in str(error)
    assert "did you mean event_time?" in str(error)


def test_every_problem_of_every_file_is_reported_at_once(folder: Path) -> None:
    edit(folder / "sources/retail.yaml", "type: bigint", "type: bigit")
    edit(folder / "star.yaml", "facts:", "factz:")
    edit(folder / "base.yaml", "start: 2017-01-01", "start: soon")
    lines = str(problem(folder)).splitlines()
    assert {Path(line.split(":")[0]).name.split(" ")[0] for line in lines} == {
        "retail.yaml",
        "star.yaml",
        "base.yaml",
    }


def test_a_star_that_names_an_unknown_column_is_refused(folder: Path) -> None:
    edit(folder / "star.yaml", "department: department", "department: departement")
    assert "dimensions[dim_product].attributes.department: retail.products has no column" in str(
        problem(folder)
    )


def test_a_fact_that_names_an_unknown_dimension_is_refused(folder: Path) -> None:
    edit(folder / "star.yaml", "dimension: dim_location", "dimension: dim_store")
    assert (
        "facts[fact_sales].dimensions[dim_store].dimension: 'dim_store' is not one of dim_customer"
        in str(problem(folder))
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("store_id: store_id}}", "store_id: basket_ref}}", "has no column 'basket_ref'"),
        (
            "event_time: transaction_timestamp",
            "event_time: basket_id",
            "facts[fact_sales].event_time: 'basket_id' of retail.transactions is a bigint, not",
        ),
        (
            "dimension: dim_location, natural_key: {store_id: store_id}",
            "dimension: dim_location, natural_key: {store_id: coupon_disc}",
            "'coupon_disc' of retail.transactions is a decimal(12,2), but store_id of dim_location",
        ),
        (
            "natural_key: {product_id: product_id}\n",
            "natural_key: {product_id: product_id}\n    type1: {brand: brand}\n",
            "dimensions[dim_product].type1.brand: columns named twice: brand",
        ),
        (
            "natural_key: {product_id: product_id}\n",
            "natural_key: {product_id: product_id}\n    source_order: [sequence]\n",
            "dimensions[dim_product].source_order: retail.products has no column 'sequence'",
        ),
        (
            "natural_key: {store_id: store_id}\n",
            "natural_key: {store_id: store_id}\n    on_delete: close\n",
            "dimensions[dim_location].on_delete: needs `deleted_when`",
        ),
        (
            "unknown: {store_name: Unknown, region: Unknown}",
            "unknown: false\n    missing: unknown",
            "missing: unknown needs the unknown member",
        ),
        (
            "{dimension: dim_location, natural_key: {store_id: store_id}}",
            "{dimension: dim_product, natural_key: {product_id: product_id}}",
            "a dimension that is joined twice needs a role",
        ),
    ],
)
def test_a_star_that_contradicts_itself_or_its_sources_is_refused(
    folder: Path, old: str, new: str, expected: str
) -> None:
    edit(folder / "star.yaml", old, new)
    assert expected in str(problem(folder))


def test_the_time_of_a_facts_rows_is_that_of_its_entitys_rows(folder: Path) -> None:
    # Else a row of another day than its file would be loaded into one and dropped by the other.
    said = "    event_time: transaction_timestamp\n    columns:"
    edit(folder / "sources/retail.yaml", said, "    columns:")
    entities = load_project(environ(folder)).entities()
    assert entities["retail.transactions"][1].event_time == "transaction_timestamp"
    assert entities["retail.products"][1].event_time is None


def test_the_time_of_a_facts_rows_is_by_default_that_of_its_entitys(folder: Path) -> None:
    said = "    event_time: transaction_timestamp\n"
    edit(folder / "star.yaml", said, "")
    (fact,) = load_project(environ(folder)).star.facts
    assert fact.event_time == "transaction_timestamp"
    edit(folder / "sources/retail.yaml", said, "")
    assert "facts[fact_sales].event_time: is missing: name the column that says when" in str(
        problem(folder)
    )


def test_a_default_event_time_has_no_name_of_a_key(folder: Path) -> None:
    source = (
        (folder / "sources/retail.yaml").read_text().replace("transaction_timestamp", "date_key")
    )
    (folder / "sources/retail.yaml").write_text(source)
    edit(folder / "star.yaml", "    event_time: transaction_timestamp\n", "")
    edit(folder / "star.yaml", "[basket_id, transaction_timestamp]", "[basket_id]")
    assert "facts[fact_sales].event_time: date_key: a column of the entity has a key's name" in str(
        problem(folder)
    )


def test_a_fact_cannot_say_another_day_of_a_row_than_its_entity(folder: Path) -> None:
    other = "{name: week, type: timestamp"
    edit(folder / "sources/retail.yaml", "{name: week, type: int", other)
    edit(folder / "star.yaml", "event_time: transaction_timestamp", "event_time: week")
    assert "facts[fact_sales].event_time: is week, but a row of retail.transactions is of" in str(
        problem(folder)
    )


def test_a_path_that_names_no_day_needs_a_column_that_does(folder: Path) -> None:
    edit(folder / "sources/retail.yaml", "transactions-{date:%Y-%m-%d}.csv", "transactions.csv")
    assert "or partition_by: transaction_timestamp" in str(problem(folder))


@pytest.mark.parametrize("pattern", ["%Y-%m", "%H", "%Y"])
def test_a_date_pattern_has_to_name_one_day(folder: Path, pattern: str) -> None:
    edit(folder / "sources/retail.yaml", "{date:%Y-%m-%d}", f"{{date:{pattern}}}")
    assert "does not name one day" in str(problem(folder))


def test_a_secret_that_is_not_set_is_named_and_its_value_never_is() -> None:
    with pytest.raises(ConfigError, match="SHOP_URL is not set"):
        resolve_secret(Secret(env="SHOP_URL"), {})
    assert resolve_secret(Secret(env="SHOP_URL"), {"SHOP_URL": "canary"}) == "canary"
    assert "canary" not in repr(Secret(env="SHOP_URL"))


def test_a_folder_without_configuration_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no base\.yaml here"):
        load_project(environ(tmp_path))
