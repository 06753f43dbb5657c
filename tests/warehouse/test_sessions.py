"""Opening sessions, and what errors say."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from headrace.errors import ConfigError, HeadraceError, PermanentError, WarehouseUnavailableError
from headrace.warehouse import sessions
from headrace.warehouse.sessions import (
    RowsRefusedError,
    Session,
    connect,
    connection_factory,
    locked,
    map_errors,
)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg2://user:canary@host/db",
        "mysql://user:canary@host/db",
        "postgresql://user:can%zzary@host/db",
        "",
    ],
)
def test_an_unreadable_url_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        connect(url)
    assert "can" not in str(refused.value).replace("cannot", "")
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:port"])
def test_a_server_that_refuses_us_is_named_without_the_password(address: str) -> None:
    with pytest.raises(WarehouseUnavailableError) as failed:
        connect(f"postgresql://user:canary@{address}/db")
    assert "cannot connect to Postgres: " in str(failed.value)
    assert "canary" not in f"{failed.value} {failed.value.__cause__}"


def test_a_server_that_is_too_old_is_refused_by_its_version(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MINIMUM_SERVER_VERSION", 990_000)
    with pytest.raises(ConfigError, match=r"is PostgreSQL 18, .*; PostgreSQL 99 or later") as old:
        connect(url)
    assert "upgrade the server" in old.value.fix


def test_sessions_speak_utc(url: str) -> None:
    with connect(url) as session:
        assert session.execute("show timezone").fetchone() == ("UTC",)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("select 'secret'::int", RowsRefusedError),
        (
            "create table k (v text primary key); insert into k values ('secret'), ('secret')",
            RowsRefusedError,
        ),
        (
            "create table c (v text check (v <> 'secret')); insert into c values ('secret')",
            RowsRefusedError,
        ),
        ("select * from missing", PermanentError),
    ],
)
def test_errors_show_no_values(session: Session, statement: str, kind: type[HeadraceError]) -> None:
    with pytest.raises(kind, match="loading shop") as failed, map_errors("loading shop"):
        session.execute(statement)
    assert "secret" not in f"{failed.value} {failed.value.fix}"
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__


def test_one_at_a_time_holds_a_lock(url: str) -> None:
    inside = []
    most = []

    def work(number: int) -> None:
        with locked(connection_factory(url), "curated/dim_product"):
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(12)))
    assert most == [1] * 12
