"""A ledger in a database of its own."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from headrace.ledger.ledger import Ledger
from headrace.warehouse.sessions import connection_factory
from tests import servers


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    server, name = servers.postgres(), f"t_{uuid4().hex[:12]}"
    with psycopg.connect(server.uri("postgres"), autocommit=True) as session:
        session.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        yield Ledger(connection_factory(server.uri(name)))
        session.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
