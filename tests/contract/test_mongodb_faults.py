"""Faults of a MongoDB source: typed, with a remedy, without URL, document or server's words."""

import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import bson
import pyarrow as pa
import pytest
import stamina

from headrace.errors import ConfigError, HeadraceError, SourceRejectedError, SourceUnavailableError
from headrace.sources.base import CaptureRun, CaptureState
from headrace.sources.connections import Connection
from headrace.sources.mongodb.collection import Collection
from headrace.sources.tables.database import Selection
from tests import mongodb_server
from tests.contract.mongodb_collections import (
    MongoCollection,
    collection_connector,
    collection_entity,
    require_mongodb,
)
from tests.contract.scripted_mongodb import Answer, Script, serving
from tests.contract.tables import DAY, EXIST
from tests.e2e.conftest import scratch_root

pytestmark = pytest.mark.contract

ORDERS = collection_entity(
    {
        "name": "orders",
        "key": ["id"],
        "extract": {"mode": "full", "collection": "orders"},
        "columns": [{"name": "id", "type": "bigint"}, {"name": "name", "type": "string"}],
    }
)
WHOLE = Selection(("id", "name"), is_sorted=True)
ORDER = bson.encode({"_id": 1, "id": 1, "name": "canary"})


@pytest.fixture(autouse=True)
def once() -> Iterator[None]:
    """Nothing is tried twice."""
    with stamina.set_testing(True, attempts=1):
        yield


def orders(url: str, **settings: Any) -> Collection:
    return Collection(ORDERS, Connection("shop", "SHOP_URL", lambda: url, **settings))


def failure(url: str) -> HeadraceError:
    run = CaptureRun("shop.orders", "batch", bson.ObjectId().generation_time, EXIST)
    with pytest.raises(HeadraceError) as raised:
        collection_connector(ORDERS, url).plan([DAY], CaptureState({}), run)
    return without_secrets(raised.value)


def without_secrets(error: HeadraceError) -> HeadraceError:
    for canary in ("s3cret", "canary", "127.0.0.1", "reader_"):
        assert canary not in f"{error} {error.fix} {error.__cause__}"
    assert error.__suppress_context__ or error.__context__ is None
    return error


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("mongodb://reader_:s3cret@127.0.0.1:1/shop", SourceUnavailableError, "nothing listens"),
        (
            "mongodb://reader_:s3cret@nowhere.invalid/shop",
            SourceUnavailableError,
            "name is not known",
        ),
        (
            "mongodb+srv://reader_:s3cret@nowhere.invalid/x",
            SourceUnavailableError,
            "name is not known",
        ),
        ("postgresql://reader_:s3cret@127.0.0.1/shop", ConfigError, "does not begin with mongodb"),
        ("mongodb://reader_:s3cret@@127.0.0.1/shop", ConfigError, "cannot be parsed"),
        ("mongodb://127.0.0.1:s3cret/shop", ConfigError, "cannot be parsed"),
        ("mongodb://127.0.0.1/shop?ssl_mode=s3cret", ConfigError, "option that is not known"),
        ("mongodb://127.0.0.1/shop?readPreference=s3cret", ConfigError, "option that is not known"),
        ("mongodb://127.0.0.1/shop?tls=true&tlsCAFile=/s3cret", ConfigError, "no such file"),
        ("mongodb://127.0.0.1:1", ConfigError, "names no database"),
    ],
)
def test_a_connection_that_cannot_be_opened_is_named_with_the_reason(
    url: str, kind: type[HeadraceError], said: str
) -> None:
    options = "serverSelectionTimeoutMS=200"
    error = failure(
        f"{url}&{options}" if "?" in url else f"{url}?{options}" if "/sh" in url else url
    )
    assert type(error) is kind
    assert said in str(error)
    assert str(error).startswith("connection 'shop': ")
    assert "SHOP_URL" in f"{error} {error.fix}"


def test_a_host_that_does_not_answer_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        options = "serverSelectionTimeoutMS=300&connectTimeoutMS=200"
        error = failure(f"mongodb://127.0.0.1:{port}/shop?{options}")
    assert isinstance(error, SourceUnavailableError)
    assert "does not answer" in str(error)


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (18, SourceRejectedError, "connection 'shop': the server refuses the user or the password"),
        (13, SourceRejectedError, "orders: the user may not read it (code 13)"),
        (
            11600,
            SourceUnavailableError,
            "orders: the server broke off: the server is shutting down",
        ),
        (999, SourceRejectedError, "orders: the server rejects the read (code 999)"),
    ],
)
def test_what_a_server_refuses_is_named_by_its_code(
    code: int, kind: type[HeadraceError], said: str
) -> None:
    with serving(Script(errors={"listCollections": code})) as url:
        error = failure(url)
    assert type(error) is kind
    assert str(error).startswith(said)


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (None, SourceUnavailableError, "orders: the server broke off: the connection was lost"),
        (43, SourceUnavailableError, "the server ended the read"),
        (175, SourceUnavailableError, "the collection was dropped"),
        (50, SourceUnavailableError, "statement_timeout_seconds"),
        (13, SourceRejectedError, "the user may not read it"),
    ],
)
def test_a_read_that_breaks_off_in_the_middle_is_typed(
    answer: Answer, kind: type[HeadraceError], said: str
) -> None:
    with serving(Script([[ORDER], answer])) as url:
        reading = orders(url).read(WHOLE)
        assert next(reading).num_rows == 1
        with pytest.raises(kind, match=said) as raised:
            list(reading)
    without_secrets(raised.value)


def test_a_read_asks_for_what_a_majority_holds_and_for_no_longer_than_the_timeout() -> None:
    script = Script([[ORDER]])
    with serving(script) as url:
        connection = orders(url, statement_timeout=timedelta(seconds=7))
        assert [batch.num_rows for batch in connection.read(WHOLE)] == [1]
    find = next(command for command in script.commands if "find" in command)
    assert find["readConcern"] == {"level": "majority"}
    assert (find["maxTimeMS"], find["sort"]) == (7000, {"_id": 1})
    written = {"insert", "update", "delete", "findAndModify", "drop", "create"}
    assert not written & {next(iter(command)) for command in script.commands}


def test_a_read_that_is_given_up_ends_its_cursor() -> None:
    script = Script([[ORDER], [ORDER]])
    with serving(script) as url:
        reading = orders(url).read(WHOLE)
        next(reading)
        with closing(reading):  # type: ignore[type-var]
            pass
    assert "killCursors" in {next(iter(command)) for command in script.commands}


def test_a_read_holds_a_few_batches() -> None:
    batch = [bson.encode({"_id": n, "id": n, "name": "x" * 60}) for n in range(10_000)]
    with serving(Script([batch] * 20)) as url:
        before, peak, count = pa.total_allocated_bytes(), 0, 0
        for read in orders(url).read(WHOLE):
            peak, count = max(peak, pa.total_allocated_bytes() - before), count + len(read)
    assert count == 200_000
    assert peak < 10 * 2**20


def test_a_dropped_collection_is_named_and_no_empty_one(tmp_path: Path) -> None:
    table = MongoCollection(tmp_path)
    table.load(["id", "name", "amount", "sold_on"], [(1, "a", 1, DAY)])
    reader = table.connector.database
    table.documents.drop()
    with pytest.raises(SourceRejectedError, match="there is no such collection"):
        table.capture(DAY)
    with pytest.raises(SourceRejectedError, match="there is no such collection"):
        list(reader.read(Selection(("id",))))


def test_a_server_that_restarts_is_waited_for() -> None:
    require_mongodb()
    with scratch_root() as root, mongodb_server.running(root) as server:
        table = MongoCollection(root, server)
        table.load(["id", "name", "amount", "sold_on"], [(1, "a", 1, DAY)])
        server.process.kill()
        server.process.wait()
        connector = collection_connector(table.entity, f"{table.url}&serverSelectionTimeoutMS=200")
        with pytest.raises(SourceUnavailableError, match="nothing listens"):
            connector.plan([DAY], table.state(), table.run())
        server.restart()
        assert table.capture(DAY).rows == {DAY: 1}
