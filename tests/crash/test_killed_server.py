"""A server that is killed: what was published is there, whatever Dagster's last events were."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import psycopg
import pytest
from sqlalchemy import text

from headrace.config.loader import load_project
from headrace.embedded_postgres import server
from headrace.project.connections import Database, postgres_url
from headrace.project.home import Home
from headrace.project.home_setup import prepare_environment
from tests.e2e import installation
from tests.e2e.installation import FIRST, Installation, good_lines

pytestmark = pytest.mark.crash

LATER = FIRST + timedelta(days=1)
FACTS = "select date_key, count(*) from warehouse.fact_sales group by 1 order by 1"


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    root = Path(tempfile.mkdtemp(prefix="headrace-crash-"))
    root.chmod(0o755)
    made = installation.make(root, end=LATER + timedelta(days=1))
    try:
        yield made
    finally:
        installation.end(made)
        shutil.rmtree(root, ignore_errors=True)


def test_only_dagsters_own_commits_do_not_wait_for_the_disk(shop: Installation) -> None:
    with shop.active(), pytest.MonkeyPatch.context() as patch:
        for name, value in prepare_environment().items():
            patch.setenv(name, value)
        with dg.DagsterInstance.get() as instance:
            storage: Any = instance.event_log_storage
            with storage.index_connection() as connection:
                assert connection.execute(text("show synchronous_commit")).scalar() == "off"
        assert waits_for_the_disk("lake")
        assert waits_for_the_disk("warehouse")


def test_what_was_published_is_there_and_the_next_run_goes_on(shop: Installation) -> None:
    shop.deliver_catalogue()
    shop.deliver(FIRST, good_lines(FIRST))
    assert shop.backfill(FIRST, FIRST).exit_code == 0
    kill_server(shop)
    assert shop.sql(FACTS) == [(20170101, 4)]
    assert len(shop.lake("curated.fact_sales")) == 4
    status = shop.status()
    assert {status[f"{layer}/fact_sales"].published for layer in ("curated", "warehouse")} == {1}
    shop.deliver(LATER, good_lines(LATER, 3))
    assert shop.backfill(FIRST, LATER).exit_code == 0
    assert shop.sql(FACTS) == [(20170101, 4), (20170102, 3)]


def waits_for_the_disk(database: Database) -> bool:
    with psycopg.connect(postgres_url(load_project(), database)) as session:
        return session.execute("show synchronous_commit").fetchone() == ("on",)


def kill_server(shop: Installation) -> None:
    found = server.find(Home(shop.home).postgres)
    assert found is not None
    number = int((found.data_directory / "postmaster.pid").read_text().split()[0])
    processes = [psutil.Process(number), *psutil.Process(number).children()]
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(map(psutil.pid_exists, (p.pid for p in processes))) and time.monotonic() < deadline:
        time.sleep(0.02)
