"""`headrace check --connect`: sources that do not answer, or lack what is declared of them."""

import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.apis.server import Answer, ApiServer, Request
from headrace.cli import check
from headrace.cli.check import check_project
from headrace.config.loader import load_project
from headrace.errors import ConfigError
from tests.contract.mongodb_collections import MongoCollection
from tests.contract.mysql_tables import MysqlTable
from tests.contract.tables import Table

CONFIG = Path(__file__).parents[2] / "demo/files/config"
SECRET = "canary-s3cret"  # noqa: S105  # of servers that end with the tests
_REACHABLE = "check that its server is reachable from here, or raise --timeout"
COLUMNS = [
    {"name": "id", "type": "bigint"},
    {"name": "name", "type": "string"},
    {"name": "at", "type": "timestamptz"},
]


class Sources:
    """A configuration whose sources are servers of these tests."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = Path(shutil.copytree(CONFIG, folder / "config"))
        self.connections: dict[str, Any] = {}
        self.patch = patch

    def add(self, name: str, connector: str, connection: Mapping[str, Any], *rest: Any) -> None:
        """Declare a source with entities of these extracts and columns."""
        entities = [
            {"name": each, "extract": extract, "key": ["id"], "columns": columns}
            for each, extract, columns in rest
        ]
        source = {"name": name, "connector": connector, "connection": name, "entities": entities}
        text = yaml.safe_dump(source, sort_keys=False)
        (self.folder / "sources" / f"{name}.yaml").write_text(text)
        self.connections[name] = connection

    def add_database(self, name: str, connector: str, url: str, *rest: Any) -> None:
        self.patch.setenv(f"{name.upper()}_URL", url)
        self.add(name, connector, {"url": {"env": f"{name.upper()}_URL"}}, *rest)

    def check(self, seconds: float = 20) -> dict[str, str]:
        with (self.folder / "base.yaml").open("a") as base:
            base.write(yaml.safe_dump({"connections": self.connections}))
        environ = {"HEADRACE_CONFIG": str(self.folder), "HEADRACE_HOME": "/scratch"}
        return check_project(load_project(environ), seconds)

    def faults(self, seconds: float = 20) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.check(seconds)
        assert SECRET not in str(caught.value)
        return str(caught.value).replace(f"{self.folder}/sources/", "").splitlines()


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    monkeypatch.setattr(check, "_dbt_lines", lambda _: [])
    monkeypatch.setattr(check, "_condition_lines", lambda _: [])
    return Sources(tmp_path, monkeypatch)


def table_of(kind: type[Table], folder: Path) -> Table:
    created = f"create table {{}} (id bigint, name varchar(9), at {kind.instant})"
    return kind(folder, created, columns=COLUMNS, extract={"partition_by": "at"})


@pytest.mark.parametrize("kind", [Table, MysqlTable], ids=["postgres", "mysql"])
def test_what_a_table_lacks_is_named_with_place_and_remedy(
    sources: Sources, tmp_path: Path, kind: type[Table]
) -> None:
    table = table_of(kind, tmp_path)
    user, host = table.url.partition("@")[0].rpartition("/")[2], table.url.partition("@")[2]
    reader = table.name.partition(".")[0]
    if kind is Table:
        table.write(f"create role {reader} login")
        table.write(f"grant usage on schema {reader} to {reader}")
        table.write(f"grant select on {table.name} to {reader}")
    else:
        table.write(f"create user {reader}")
        table.write(f"grant select on {table.name} to {reader}")
    table.write(f"create table {table.name}_2 (id bigint, at {kind.instant})")
    misspelt = [*COLUMNS[:2], {"name": "att", "type": "timestamptz"}]
    typed = [{"name": "id", "type": "int"}, *COLUMNS[1:]]
    full = {"mode": "full", "table": table.name}
    sources.add_database(
        "till",
        table.product,
        table.url.replace(f"{user}@{host}", f"{reader}@{host}").replace("/shop", f"/{reader}"),
        ("good", full, COLUMNS),
        ("absent", {**full, "table": table.name.replace("orders", "ordrs")}, COLUMNS),
        ("misspelt", full, misspelt),
        ("typed", full, typed),
        ("texts", {**full, "partition_by": "name"}, [COLUMNS[0], {**COLUMNS[2], "name": "name"}]),
        ("refused", {**full, "table": f"{table.name}_2"}, COLUMNS),
        ("changing", {**full, "mode": "watermark", "cursor": "at"}, COLUMNS),
    )
    found = {line.split(": ")[1]: line for line in sources.faults()}
    assert [*found] == [
        "entities[absent].extract.table",
        "entities[misspelt].columns[att]",
        "entities[typed].columns[id].type",
        "entities[texts].columns[name].type",
        "entities[texts].extract.partition_by",
        "entities[refused].extract.table",
        "entities[changing].extract.overlap",
    ]
    assert all(line.startswith("till.yaml:") for line in found.values())
    said = [*found.values()]
    # MySQL hides that a table is missing from a user without any privilege in its database.
    assert f"did you mean {table.name}?" in said[0]
    assert "column 'att' is missing" in said[1]
    assert "did you mean at?" in said[1]
    assert "column 'id' is bigint, not int; declare source_type: bigint" in said[2]
    assert "is string in the database" in said[4]
    assert "grant select on it to the connection's user" in said[5]
    assert {"postgres": "pg_read_all_stats", "mysql": "PROCESS"}[table.product] in said[6]


def test_every_source_is_tried_and_no_secret_is_shown(sources: Sources, tmp_path: Path) -> None:
    table = table_of(Table, tmp_path)
    host = table.url.partition("@")[2]
    full = ("orders", {"mode": "full", "table": table.name}, COLUMNS)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        sources.add_database(
            "alone", "postgres", f"postgresql://a:{SECRET}@127.0.0.1:{port}/x", full
        )
        sources.add_database("broken", "postgres", f"postgresql://nobody:{SECRET}@{host}", full)
        sources.add("closed", "postgres", {"url": {"env": "NOT_SET"}}, full)
        sources.add_database("till", "postgres", table.url, full)
        found = sources.faults(seconds=1)
    assert [line.partition(": ")[2].partition(" (")[0] for line in found] == [
        f"connection: 'alone' has not answered all questions after 1 s; {_REACHABLE}",
        "connection: 'broken': there is no such user; correct the URL in BROKEN_URL",
        "connection: the environment variable NOT_SET is not set; export NOT_SET=…",
    ]
    assert found[1].startswith("broken.yaml:3")


def test_what_is_there_is_listed(sources: Sources, tmp_path: Path) -> None:
    table = table_of(Table, tmp_path)
    extract = {"mode": "watermark", "table": table.name, "cursor": "at"}
    sources.add_database("till", "postgres", table.url, ("orders", extract, COLUMNS))
    assert sources.check() == {"till.orders": "3 columns"}


@pytest.fixture
def api() -> Iterator[ApiServer]:
    def answer(request: Request) -> Answer:
        if request.headers.get("x-api-key") != SECRET:
            return Answer({"error": "unauthorized"}, 401)
        if request.path != "/v1/orders":
            return Answer({"error": "not_found"}, 404)
        rows = [{"id": 1, "name": "a"}] if request.query.get("page") == "1" else []
        return Answer({"data": rows})

    with ApiServer(answer) as server:
        yield server


def test_a_list_of_an_api_is_asked_for_and_compared(sources: Sources, api: ApiServer) -> None:
    auth = {"type": "api_key", "header": "X-Api-Key", "key": {"env": "TILL_KEY"}}
    sources.patch.setenv("TILL_KEY", SECRET)
    sources.patch.setenv("OTHER_KEY", "another")
    listed = {
        "mode": "full",
        "path": "orders",
        "records": "$.data[*]",
        "pagination": {"type": "page"},
    }
    columns = COLUMNS[:2]
    till = {"kind": "rest", "url": f"{api.url}/v1", "auth": auth}
    sources.add(
        "till",
        "rest",
        till,
        ("good", listed, columns),
        ("elsewhere", {**listed, "path": "ordrs"}, columns),
        ("deeper", {**listed, "records": "$.rows[*]"}, columns),
        ("extra", listed, columns[:1]),
    )
    other = {**till, "auth": {**auth, "key": {"env": "OTHER_KEY"}}}
    sources.add("other", "rest", other, ("good", listed, columns))
    found = sources.faults()
    assert [line.split(": ")[1] for line in found] == [
        "connection",
        "entities[elsewhere].extract",
        "entities[deeper].extract",
        "entities[extra].extract",
    ]
    assert "answered 401" in found[0]
    assert "answered 404" in found[1]
    assert "there is no $.rows" in found[2]
    assert "column 'name' is not declared" in found[3]


def test_a_collection_that_is_not_there_is_named_with_the_nearest_one(
    sources: Sources, tmp_path: Path
) -> None:
    columns = [{**COLUMNS[0], "from": "_id"}, *COLUMNS[1:]]
    there = MongoCollection(tmp_path)
    extract = {"mode": "watermark", "cursor": "at", "overlap": "1m"}
    sources.add_database(
        "shop",
        "mongodb",
        there.url,
        ("orders", {**extract, "collection": "orders"}, columns),
        ("others", {**extract, "collection": "ordrs"}, columns),
    )
    (said,) = [line for line in sources.faults() if "shop.yaml" in line]
    assert "entities[others].extract.collection: ordrs: there is no such collection" in said
    assert said.endswith("did you mean orders?")
