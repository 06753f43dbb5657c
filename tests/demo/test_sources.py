"""The demo's servers: what they hold, and that they start, stop and start again."""

import json
import os
import shutil
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import psycopg
import pytest

from demo import servers as demo_servers
from demo import shop
from demo.apis.process import STATE, ApisState, read_state
from demo.sources import StagedSources, stage_sources
from demo.stage import StagedLanding
from headrace.config.loader import load_project
from headrace.embedded_postgres import server
from headrace.errors import ConfigError
from headrace.project.demo_servers import named_servers, start_servers, stop_servers
from headrace.project.home import Home
from tests import servers
from tests.demo.test_stage import read

FILES_ONLY = Path(__file__).parents[2] / "demo/files/config"


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home whose Postgres runs; its servers are stopped afterwards."""
    # pytest's own folders are closed to the account that runs PostgreSQL for root.
    made = Path(tempfile.mkdtemp(prefix="headrace-demo-"))
    made.chmod(0o755)
    servers.start_postgres(Home(made).postgres)
    yield made
    demo_servers.stop(made)
    server.stop(Home(made).postgres)
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def staged(home: Path) -> StagedSources:
    return stage_sources(home, home / "landing")


@pytest.fixture
def apis(home: Path, staged: StagedSources) -> Iterator[ApisState]:
    """A running process of the APIs."""
    demo_servers.url_of(home, "weather")
    found = read_state(home / "demo")
    assert found is not None
    yield found
    demo_servers.stop(home)


def rows(year: StagedLanding, name: str) -> Counter[tuple[str, ...]]:
    """All rows of an entity's files, each with its file's day."""
    return Counter(
        (path.stem.removeprefix(f"{name}-"), *row.values())
        for path in (year.landing / name).glob("*.csv")
        for row in read(path)
    )


def as_text(value: object) -> str:
    return "" if value is None else str(value)


def is_alive(state: ApisState) -> bool:
    return psutil.pid_exists(state.pid) and bool(psutil.Process(state.pid).status() != "zombie")


def test_the_shops_database_holds_the_households_of_the_files(
    home: Path, staged: StagedSources, year: StagedLanding
) -> None:
    with psycopg.connect(shop.reader_url(home)) as session:
        found = session.execute(
            "select recorded_on, household_id, age, income, home_ownership, marital_status,"
            " household_size, household_comp, kids_count, operation, changed_at"
            " from household_changes"
        ).fetchall()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("delete from household_changes")
    assert Counter(tuple(map(as_text, row)) for row in found) == rows(year, "households")
    assert (staged.shop.rows, staged.shop.written) == (len(found), len(found))


def test_the_catalogue_gives_the_products_of_the_files(
    home: Path, staged: StagedSources, year: StagedLanding
) -> None:
    url = demo_servers.url_of(home, "catalogue")
    found: list[tuple[str, ...]] = []
    count = 1
    while len(found) < count:
        query = f"from=2017-01-02&to=2018-01-02&limit=1000&offset={len(found)}"
        with urllib.request.urlopen(f"{url}/products/changes?{query}") as answer:  # noqa: S310
            page = json.load(answer)
        count = page["count"]
        for record in page["data"]:
            record["changed_at"] = record["changed_at"].replace("T", " ")
            found.append(tuple(map(as_text, record.values())))
    later = {row: n for row, n in rows(year, "products").items() if row[0] > "2017-01-01"}
    assert Counter(found) == later
    assert staged.catalogue.all_rows == rows(year, "products").total()


def test_staging_again_mends_what_differs_and_nothing_else(
    home: Path, staged: StagedSources
) -> None:
    assert stage_sources(home, home / "landing").written == 0
    with psycopg.connect(shop.start(home).uri(shop.DATABASE)) as session:
        session.execute("update household_changes set income = 'none' where household_id = 1")
        session.execute("delete from household_changes where household_id = 2")
        session.execute("comment on table household_changes is 'another recipe'")
        (before,) = session.execute("select now()").fetchone() or (None,)
    again = stage_sources(home, home / "landing")
    assert again.shop.rows == staged.shop.rows
    assert (again.landing.written, again.catalogue.written) == (0, 0)
    with psycopg.connect(shop.reader_url(home)) as session:
        newer = session.execute(
            "select distinct household_id from household_changes where updated_at > %s order by 1",
            (before,),
        ).fetchall()
    assert newer == [(1,), (2,)]


def test_a_database_of_that_name_that_is_not_the_demos_is_left_alone(
    home: Path, staged: StagedSources
) -> None:
    with psycopg.connect(shop.start(home).uri(shop.DATABASE), autocommit=True) as session:
        session.execute("comment on database demo_shop is 'ours'")
        with pytest.raises(ConfigError, match="is not the demo's"):
            stage_sources(home, home / "landing")
        session.execute("comment on database demo_shop is 'Headrace''s demo: the shop'")


def test_the_apis_start_once_and_again_after_they_died(home: Path, apis: ApisState) -> None:
    url = demo_servers.url_of(home, "catalogue")
    assert url == f"{apis.url}/catalogue/v1"
    psutil.Process(apis.pid).kill()
    assert demo_servers.url_of(home, "catalogue") != url
    assert stop_servers(home)
    assert not stop_servers(home)


def test_a_process_that_has_the_id_of_one_that_ended_is_left_alone(
    home: Path, apis: ApisState
) -> None:
    demo_servers.stop(home)
    # As after a reboot: the recorded id is that of another process.
    after_reboot = replace(apis, pid=os.getppid())
    (home / "demo" / STATE).write_text(json.dumps(asdict(after_reboot)))
    assert not demo_servers.stop(home)
    assert demo_servers.url_of(home, "weather").endswith("/weather/data/2.5")
    assert is_alive(after_reboot)


def test_a_copied_home_gets_apis_of_its_own(home: Path, apis: ApisState, tmp_path: Path) -> None:
    shutil.copytree(home / "demo", tmp_path / "demo")
    try:
        assert not demo_servers.url_of(tmp_path, "weather").startswith(apis.url)
        assert demo_servers.url_of(home, "weather").startswith(apis.url)
    finally:
        demo_servers.stop(tmp_path)


def test_the_apis_end_with_their_home(home: Path, apis: ApisState) -> None:
    (home / "demo" / STATE).unlink()
    deadline = time.monotonic() + 10
    while is_alive(apis):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_project_that_is_not_the_demo_starts_no_server(tmp_path: Path) -> None:
    project = load_project({"HEADRACE_CONFIG": str(FILES_ONLY), "HEADRACE_HOME": str(tmp_path)})
    (tmp_path / "demo").mkdir()
    assert (named_servers(project), start_servers(project), stop_servers(tmp_path)) == (
        [],
        {},
        False,
    )
    assert [*(tmp_path / "demo").iterdir()] == []


def test_servers_without_data_name_the_command_that_stages_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        demo_servers.url_of(tmp_path, "shop")
    assert error.value.fix == "headrace demo stage"
