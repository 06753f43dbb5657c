"""dbt in a process of its own: the same results and errors, and an end with its parent."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import psutil
import pytest

from headrace.errors import ConfigError, WarehouseUnavailableError
from headrace.marts.builder import MartBuilder
from headrace.marts.dbt_worker import DbtEndedError, DbtWorker
from tests.marts.conftest import PROJECT
from tests.marts.star import Star, expected, random_sales

pytestmark = pytest.mark.e2e

SALES = random_sales(seed=5, start=date(2023, 2, 1), end=date(2023, 2, 8), lines=200)
ENDS_SECONDS = 10

# A parent that waits for its worker, which is busy.
PARENT = """
import time
from headrace.marts.dbt_worker import DbtWorker
worker = DbtWorker()
print(worker.process_id, flush=True)
worker.run(time.sleep, 0)
print("busy", flush=True)
worker.run(time.sleep, 60)
"""


@pytest.fixture(scope="module")
def worker() -> Iterator[DbtWorker]:
    started = DbtWorker()
    yield started
    started.end()


@pytest.fixture
def apart(builder: MartBuilder, worker: DbtWorker) -> MartBuilder:
    """Builds the same project in dbt's own process."""
    return replace(builder, worker=lambda: worker)


def test_marts_built_in_dbts_own_process_are_the_same(
    star: Star, apart: MartBuilder, builder: MartBuilder
) -> None:
    star.fill(SALES)
    apart.warm_up()
    results = {(r.name, r.status) for r in apart.build()}
    assert star.marts() == expected(SALES)
    assert results == {(r.name, r.status) for r in builder.build()}


def test_an_error_comes_back_as_what_it_was(apart: MartBuilder) -> None:
    with pytest.raises(ConfigError, match="nobody") as caught:
        apart.build(["mart_of_nobody"])
    assert "by name" in caught.value.fix
    absent = replace(apart, url=lambda: "postgresql://postgres@/warehouse?host=/nowhere")
    with pytest.raises(WarehouseUnavailableError):
        absent.build()


def test_the_environment_is_that_of_the_question(
    worker: DbtWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAID_BY_THE_PARENT", "once")
    assert worker.run(os.getenv, "SAID_BY_THE_PARENT") == "once"
    monkeypatch.delenv("SAID_BY_THE_PARENT")
    assert worker.run(os.getenv, "SAID_BY_THE_PARENT") is None


def test_a_worker_that_dies_is_an_error_that_may_be_tried_again() -> None:
    dying = DbtWorker()
    with pytest.raises(DbtEndedError):
        dying.run(os._exit, 1)
    assert not dying.is_alive
    dying.end()


def test_a_busy_worker_ends_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=PROJECT.parent
    ) as parent:
        assert parent.stdout is not None
        process = psutil.Process(int(parent.stdout.readline()))
        assert parent.stdout.readline() == "busy\n"
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    ends_at = time.monotonic() + ENDS_SECONDS
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < ends_at, "dbt's process outlived its parent"
        time.sleep(0.05)
