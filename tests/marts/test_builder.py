"""dbt in the process: its cache, its silence, its errors, its secrets."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from shutil import copy

import pytest

from headrace.errors import ConfigError, WarehouseUnavailableError
from headrace.marts.builder import MartBuilder
from tests.marts.conftest import PROJECT
from tests.marts.star import Star, expected, random_sales

pytestmark = pytest.mark.e2e

SALES = random_sales(seed=3, start=date(2023, 2, 1), end=date(2023, 2, 8), lines=200)
CANARY = "canary-7f3a"
NOWHERE = "postgresql://postgres@/warehouse?host=/nowhere"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project without models."""
    folder = tmp_path / "project"
    (folder / "models").mkdir(parents=True)
    copy(PROJECT / "profiles.yml", folder)
    (folder / "dbt_project.yml").write_text(
        "name: small\nversion: '1.0'\nprofile: headrace\n"
        "flags: {send_anonymous_usage_stats: false, use_colors: false}\n"
    )
    return folder


@pytest.fixture
def small(project: Path, tmp_path: Path, builder: MartBuilder) -> MartBuilder:
    """Builds `project` in the database of the star."""
    return MartBuilder(project, tmp_path / "kept", builder.url, builder.database)


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_dbt_is_imported_when_it_is_needed_and_no_sooner() -> None:
    code = "import headrace.marts.builder, sys; sys.exit('dbt' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, cwd=PROJECT.parent).returncode
        == 0
    )


def test_the_project_is_parsed_again_when_a_file_changed_and_only_then(
    small: MartBuilder, project: Path
) -> None:
    first = small.ensure_manifest()
    written = first.stat().st_mtime_ns
    assert small.ensure_manifest() == first
    assert first.stat().st_mtime_ns == written
    (project / "models/added.sql").write_text("select 1 as one")
    second = small.ensure_manifest()
    assert "model.small.added" in second.read_text()
    assert "model.small.added" not in first.read_text()


def test_parsing_needs_no_database(project: Path, tmp_path: Path) -> None:
    def url() -> str:
        raise AssertionError("asked for the URL")

    assert MartBuilder(project, tmp_path / "kept", url).ensure_manifest().exists()


def test_a_build_is_silent_and_leaves_nothing_in_the_project(
    star: Star, builder: MartBuilder, capfd: pytest.CaptureFixture[str]
) -> None:
    star.fill(SALES)
    before = files(PROJECT)
    capfd.readouterr()
    builder.build(["mart_daily_department"])
    printed = capfd.readouterr()
    assert [line for line in printed.out.splitlines() if "marts_built" not in line] == []
    assert printed.err == ""
    assert files(PROJECT) == before


def test_builds_at_the_same_time_wait_for_each_other(star: Star, builder: MartBuilder) -> None:
    star.fill(SALES)
    with ThreadPoolExecutor(3) as pool:
        builds = [pool.submit(builder.build) for _ in range(3)]
    assert [r for build in builds for r in build.result() if not r.passed] == []
    assert star.marts() == expected(SALES)


def test_models_say_how_many_rows_they_wrote_and_tests_how_many_break_them(
    star: Star, builder: MartBuilder
) -> None:
    star.fill(SALES)
    results = {r.name: r for r in builder.build(["mart_daily_department"])}
    model, key = results["mart_daily_department"], results["mart_daily_department_key"]
    assert (model.kind, model.status, model.rows_affected, model.failures) == (
        "model",
        "success",
        len(star.mart("mart_daily_department")),
        None,
    )
    assert (key.kind, key.status, key.rows_affected, key.failures) == ("test", "pass", None, 0)
    assert {r.models for r in results.values()} == {("mart_daily_department",)}


@pytest.mark.parametrize(
    "statement",
    [
        "select 'canary-7f3a'::text as name union all select 'canary-7f3a'",
        "select name::int as name from (select 'canary-7f3a'::text as name) as people",
    ],
    ids=["a broken constraint", "a value that cannot be cast"],
)
def test_a_failing_model_is_named_and_nothing_is_told_of_its_rows(
    small: MartBuilder, project: Path, statement: str
) -> None:
    index = "{{ config(materialized='table', indexes=[{'columns': ['name'], 'unique': true}]) }}"
    (project / "models/people.sql").write_text(f"{index}\n{statement}")
    (project / "models/after.sql").write_text("select * from {{ ref('people') }}")
    people, after = small.build()
    assert (people.name, people.status, people.passed) == ("people", "error", False)
    assert "models/people.sql" in people.message
    assert CANARY not in people.message
    assert (after.name, after.status) == ("after", "skipped")


def test_a_project_that_cannot_be_parsed_names_the_file(small: MartBuilder, project: Path) -> None:
    (project / "models/broken.sql").write_text("select * from {{ ref('nowhere') }}")
    with pytest.raises(ConfigError, match=r"broken\.sql.*nowhere"):
        small.ensure_manifest()


def test_a_selection_of_nothing_is_an_error(builder: MartBuilder) -> None:
    with pytest.raises(ConfigError, match="matches 'mart_of_nobody'"):
        builder.build(["mart_of_nobody"])


def test_a_warehouse_that_does_not_answer_can_be_tried_again(builder: MartBuilder) -> None:
    absent = MartBuilder(PROJECT, builder.target_path, lambda: NOWHERE, builder.database)
    with pytest.raises(WarehouseUnavailableError):
        absent.build()


def test_a_warehouse_that_breaks_off_can_be_tried_again(small: MartBuilder, project: Path) -> None:
    (project / "models/interrupted.sql").write_text(
        "{{ config(materialized='table') }} select pg_terminate_backend(pg_backend_pid())"
    )
    with pytest.raises(WarehouseUnavailableError, match="interrupted"):
        small.build()


def test_the_password_is_there_for_the_build_and_in_no_file(
    star: Star, builder: MartBuilder, tmp_path: Path
) -> None:
    star.fill(SALES)
    url = builder.url().replace("postgres@", f"postgres:{CANARY}@")
    assert CANARY in url
    kept, environment = tmp_path / "kept", dict(os.environ)
    MartBuilder(PROJECT, kept, lambda: url, builder.database).build(["mart_daily_department"])
    assert dict(os.environ) == environment
    assert [path for path in files(kept) if CANARY.encode() in path.read_bytes()] == []
