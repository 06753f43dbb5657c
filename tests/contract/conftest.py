"""Every test of the contract runs on every store."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.contract.stores import STORES, PartitionStore

PROCESSES = 2


@pytest.fixture(params=[pytest.param(n, marks=pytest.mark.s3 if n == "s3" else ()) for n in STORES])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> PartitionStore:
    """A store whose table does not exist yet."""
    return STORES[request.param](str(tmp_path))


@pytest.fixture(scope="session")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Processes that share nothing with this one; forked ones would share connections."""
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        yield pool
