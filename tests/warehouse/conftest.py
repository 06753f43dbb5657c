"""A database of its own for each test, in one real PostgreSQL."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from headrace.embedded_postgres.server import EmbeddedPostgres
from headrace.warehouse.sessions import Session, connection_factory
from headrace.warehouse.warehouse import Warehouse
from tests import servers


@pytest.fixture(scope="session")
def server() -> EmbeddedPostgres:
    return servers.postgres()


@pytest.fixture
def url(server: EmbeddedPostgres) -> Iterator[str]:
    """An empty database."""
    name = f"t_{uuid4().hex[:12]}"
    with psycopg.connect(server.uri("postgres"), autocommit=True) as session:
        session.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        yield server.uri(name)
        session.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def warehouse(url: str) -> Warehouse:
    return Warehouse(connection_factory(url))


@pytest.fixture
def session(url: str) -> Iterator[Session]:
    """For looking at what a load did."""
    with psycopg.connect(url, autocommit=True) as session:
        yield session
