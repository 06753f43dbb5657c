from collections.abc import Iterator
from datetime import date
from pathlib import Path

import psycopg
import pytest

from benchmarks import baseline
from benchmarks.scratch import Database
from demo.stage import stage_landing
from tests import servers


@pytest.fixture(scope="session")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four days around the turn of a month, so that facts lie in two of them."""
    folder = tmp_path_factory.mktemp("bench") / "landing"
    stage_landing(folder, start=date(2017, 3, 30), end=date(2017, 4, 3))
    return folder


@pytest.fixture(scope="session")
def built(landing: Path) -> Database:
    """The baseline's tables of the four days; read only."""
    database = Database(servers.postgres()).emptied("baseline_of_four_days")
    baseline.build(landing, database.url)
    return database


@pytest.fixture
def baseline_session(built: Database) -> Iterator[psycopg.Connection]:
    """Reads the baseline's tables."""
    with psycopg.connect(built.url) as session:
        yield session


@pytest.fixture(scope="session")
def built_again(landing: Path) -> Database:
    """The same tables in another database, so that DDL does not wait for readers of the first."""
    database = Database(servers.postgres()).emptied("baseline_of_four_days_again")
    baseline.build(landing, database.url)
    return database


@pytest.fixture
def warehouse(built_again: Database) -> Iterator[psycopg.Connection]:
    """The baseline's tables, in a transaction that is rolled back after the test."""
    with psycopg.connect(built_again.url) as session:
        yield session
        session.rollback()
