"""headrace sql: it reads, one statement at a time, whatever the values are."""

from collections.abc import Iterator
from datetime import date
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from headrace.cli.query import QueryError, query_database
from headrace.embedded_postgres.server import EmbeddedPostgres
from tests import servers


@pytest.fixture(scope="module")
def server() -> EmbeddedPostgres:
    return servers.postgres()


@pytest.fixture(scope="module")
def url(server: EmbeddedPostgres) -> Iterator[str]:
    """A database with one table of one row."""
    name = f"t_{uuid4().hex[:12]}"
    with psycopg.connect(server.uri("postgres"), autocommit=True) as session:
        session.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        with psycopg.connect(server.uri(name)) as inside:
            inside.execute("create table kept as select 1 as n")
        yield server.uri(name)
        session.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def values(url: str, query: str) -> tuple[object, ...]:
    return query_database(url, query, write=False).rows[0]


@pytest.mark.parametrize(
    "query",
    [
        "drop table kept",
        "insert into kept values (2)",
        "with gone as (delete from kept returning n) select * from gone",
        "explain analyze update kept set n = 3",
        "do $$ begin drop table kept; end $$",
        "do $$ begin commit; set transaction read write; drop table kept; end $$",
        "vacuum kept",
        "copy (select 1) to program 'true'",
        "/* out */ -- now\n COPY kept to stdout",
        "do $x$ begin copy kept to program 'true'; end $x$",
    ],
)
def test_a_query_changes_nothing(url: str, query: str) -> None:
    with pytest.raises(QueryError):
        query_database(url, query, write=False)
    assert values(url, "select count(*), sum(n) from kept") == (1, 1)


def test_who_wants_to_write_is_told_how(url: str) -> None:
    with pytest.raises(QueryError, match="read-only transaction") as refused:
        query_database(url, "drop table kept", write=False)
    assert "--write" in refused.value.fix


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(
    "query", ["select 1; select 2", "commit; drop table kept", "drop table kept; select 1"]
)
def test_several_statements_are_refused_before_the_first(
    url: str, query: str, *, write: bool
) -> None:
    with pytest.raises(QueryError, match="several statements"):
        query_database(url, query, write=write)
    assert values(url, "select count(*) from kept") == (1,)


def test_one_statement_may_have_comments_and_a_semicolon(url: str) -> None:
    assert values(url, "-- how many\nselect count(*) /* ; */ from kept where 'a;%' <> ''; ") == (1,)


def test_a_statement_that_writes_says_what_it_did(url: str) -> None:
    for query, did in (("create table t ()", "CREATE TABLE"), ("vacuum t", "VACUUM")):
        assert query_database(url, query, write=True).command_tag == did
    assert query_database(url, "drop table t", write=True).command_tag == "DROP TABLE"


def test_dates_and_times_that_python_has_not_are_read(url: str) -> None:
    query = (
        "select date '2024-01-31', 'infinity'::date, '-infinity'::timestamp, '24:00'::time,"
        " '10000-01-01'::date, '0044-03-15 BC'::date, 'infinity'::timestamptz,"
        " '12000-01-01 10:00+00'::timestamptz, '24:00+02'::timetz, '1 mon'::interval,"
        " array['infinity'::date, '2024-01-31']"
    )
    assert values(url, query) == (
        date(2024, 1, 31),
        "infinity",
        "-infinity",
        "24:00:00",
        "10000-01-01",
        "0044-03-15 BC",
        "infinity",
        "12000-01-01 10:00:00+00",
        "24:00:00+02",
        "1 mon",
        ["infinity", date(2024, 1, 31)],
    )


def test_what_postgres_refuses_is_an_error_of_ours(url: str) -> None:
    for query in ("select * from nothing", "select 1 +", "copy kept to stdout", "select '\udcff'"):
        with pytest.raises(QueryError) as refused:
            query_database(url, query, write=False)
        assert refused.value.fix
