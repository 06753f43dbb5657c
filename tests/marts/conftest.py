"""A database with an empty star for each test, and the project's dbt over it."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from headrace.marts.builder import MartBuilder
from headrace.warehouse.sessions import Session
from tests import servers
from tests.marts.star import TABLES, Star

PROJECT = Path(__file__).parents[2] / "demo/files/dbt"


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """One database for all tests: dbt would parse the project anew for each other name."""
    server, name = servers.postgres(), f"t_{uuid4().hex[:12]}"
    with psycopg.connect(server.uri("postgres"), autocommit=True) as session:
        session.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        yield server.uri(name)
        session.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def builder(url: str, tmp_path_factory: pytest.TempPathFactory) -> MartBuilder:
    database = url.partition("?")[0].rpartition("/")[2]
    return MartBuilder(PROJECT, tmp_path_factory.mktemp("dbt"), lambda: url, database)


@pytest.fixture
def session(url: str) -> Iterator[Session]:
    with psycopg.connect(url, autocommit=True) as session:
        yield session


@pytest.fixture
def star(session: Session) -> Star:
    """The star's tables without rows, and no marts."""
    session.execute("drop schema if exists marts cascade")
    session.execute("drop schema if exists warehouse cascade")
    session.execute("create schema warehouse")
    for statement in TABLES:
        session.execute(statement)
    return Star(session)
