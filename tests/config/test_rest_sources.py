"""REST APIs in the configuration: what is refused, with place and remedy."""

import shutil
from pathlib import Path

import pytest

from headrace.config.loader import load_project
from headrace.config.sources.rest_connection import RestConnection
from headrace.config.sources.rest_source import RestWindowExtract
from headrace.errors import ConfigError
from headrace.grain import Grain
from headrace.sources.rest.connector import RestConnector, rest_connector

CONFIG = Path(__file__).parents[2] / "demo/files/config"
_SOURCE = """
name: bank
connector: rest
connection: bank
entities:
  - name: bookings
    extract:
      mode: window
      path: bookings
      params: {from: "{from}", end: "{last:unix}", size: 5, all: true}
      records: $.data[*]
      pagination: {type: offset, total: $.count}
    key: [id]
    columns:
      - {name: id, type: bigint}
      - {name: city, type: string, from: $.address.city}
  - name: branches
    extract: {mode: full, path: branches, records: "$[*]", pagination: {type: none}}
    key: [id]
    columns: [{name: id, type: bigint}]
"""
_CONNECTIONS = """
connections:
  shop: {url: {env: SHOP_URL}}
  bank:
    kind: rest
    url: https://api.example.com/v1
    auth: {type: api_key, param: appid, key: {env: BANK_KEY}}
    limits: {rate: 60/min}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = Path(shutil.copytree(CONFIG, tmp_path / "config"))
    (found / "sources" / "bank.yaml").write_text(_SOURCE)
    with (found / "base.yaml").open("a") as base:
        base.write(_CONNECTIONS)
    return found


def environ(folder: Path) -> dict[str, str]:
    return {"HEADRACE_CONFIG": str(folder), "HEADRACE_HOME": "/scratch"}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def faults(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_project(environ(folder))
    return str(caught.value).replace(f"{folder}/", "")


def test_a_source_has_its_connection_and_its_modes(folder: Path) -> None:
    project = load_project(environ(folder))
    bookings, branches = (
        project.entities()[f"bank.{name}"][1] for name in ("bookings", "branches")
    )
    assert isinstance(bookings.extract, RestWindowExtract)
    assert bookings.extract.params == {
        "from": "{from}",
        "end": "{last:unix}",
        "size": "5",
        "all": "true",
    }
    assert (bookings.grain, branches.grain) == (Grain.DAY, Grain.SPARSE)
    connection = project.settings.connections["bank"]
    assert isinstance(connection, RestConnection)
    assert connection.limits.requests_and_period == (60, 60.0)
    connector = rest_connector(project, "bank.bookings")
    assert isinstance(connector, RestConnector)
    assert [column.type for column in connector.columns] == ["string", "string"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "connection: bank",
            "connection: shop",
            "bank.yaml:4: connection: shop is a database, which connector rest cannot read",
        ),
        ("connection: bank", "connection: bnk", "'bnk' is not one of shop, bank; did you mean"),
        ("mode: window", "mode: windw", "extract.mode: 'windw' is not one of full, window; did"),
        (
            "records: $.data[*]",
            "records: data",
            "bank.yaml:11: entities[bookings].extract.records: 'data': is no JSONPath (RFC 9535)",
        ),
        (
            "total: $.count",
            "total: '$.data[*]'",
            "extract.pagination.total: '$.data[*]': must name",
        ),
        (
            "{type: offset, total: $.count}",
            "{type: ofset, total: $.count}",
            "bank.yaml:12: entities[bookings].extract.pagination.type: 'ofset' is not one of none,",
        ),
        (
            "{type: offset, total: $.count}",
            "{type: offset, limt: 5}",
            "extract.pagination.limt: is not a key that exists here; did you mean limit?",
        ),
        ("{type: offset, total: $.count}", "{type: cursor}", "extract.pagination.next: is missing"),
        (", pagination: {type: none}", "", "entities[branches].extract.pagination: is missing"),
        (
            "from: $.address.city",
            'from: "{town}"',
            "city].from: '{town}' is not one of for_each",
        ),
        (
            "mode: window\n",
            "mode: window\n      for_each: [{a: 1}, {b: 2}]\n",
            "entities[bookings].extract.for_each[1]: must have the names a",
        ),
        (
            "mode: window\n",
            "mode: window\n      for_each: [{to: 1}]\n",
            "extract.for_each[0]: to is a name of the window's times",
        ),
        ('"{from}"', '"{since}"', "extract.params.from: {since} stands for nothing"),
        ("{last:unix}", "{last:seconds}", "extract.params.end: seconds is none of unix, unix_ms"),
        ('"{from}"', "2017-01-01T00", "extract: a window needs {from} in params or path"),
        ("path: branches,", "path: 'b/{to}',", "entities[branches].extract: {to} needs mode: win"),
        ("path: bookings", "path: bookings?all=1", "path below the connection's url; parameters"),
        ("path: bookings", "path: ../bookings", "must not have the parts . and .."),
        ("from: $.address.city", "from: $.address..c", "columns[city].from: '$.address..c' must n"),
        ("from: $.address.city", 'from: "$.a["', "columns[city].from: '$.a[' is no JSONPath"),
        ("    key: [id]\n", "    key: [id]\n    partition: none\n", "a window begins and ends"),
        (
            "mode: window\n",
            "mode: window\n      partition_by: id\n",
            "bank.yaml:9: entities[bookings].extract.partition_by: a window's rows are of its",
        ),
    ],
)
def test_a_mistake_of_a_source_is_named_with_its_place(
    folder: Path, old: str, new: str, expected: str
) -> None:
    edit(folder / "sources" / "bank.yaml", old, new)
    assert expected in faults(folder)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "kind: rest",
            "kind: rset",
            "connections.bank.kind: 'rset' is not one of database, rest, sftp, demo; did",
        ),
        ("url: https://api", "url: ftp://api", "connections.bank.url: "),
        ("param: appid", "param: appid, header: X", "auth: needs either header or param"),
        ("type: api_key", "type: apikey", "connections.bank.auth.type: 'apikey' is not one of api"),
        ("60/min", "60/minute", "connections.bank.limits.rate: '60/minute': must be a number of"),
        ("rate: 60/min", "attempts: 0", "connections.bank.limits.attempts: 0: must be greater"),
        ("rate: 60/min", "atempts: 1", "limits.atempts: is not a key that exists here; did you m"),
        (
            "limits:",
            "headers: {Authorization: Bearer canary}\n    limits:",
            "connections.bank.headers: Authorization holds credentials: declare them under auth",
        ),
        (
            "https://api.example.com/v1",
            "https://me:canary@api.example.com",
            "connections.bank.url: must not hold a user or a password: declare them under auth",
        ),
        (
            "https://api.example.com/v1",
            "https://api.example.com/v1?key=canary",
            "connections.bank.url: must not have a ? or #",
        ),
        (
            "{env: BANK_KEY}",
            "canary",
            "connections.bank.auth.key: must be {env: NAME}, with the name of",
        ),
    ],
)
def test_a_mistake_of_a_connection_is_named_and_no_secret_shown(
    folder: Path, old: str, new: str, expected: str
) -> None:
    edit(folder / "base.yaml", old, new)
    said = faults(folder)
    assert expected in said
    assert "canary" not in said


def test_a_database_connector_does_not_read_an_api(folder: Path) -> None:
    (folder / "sources" / "till.yaml").write_text(
        "name: till\nconnector: postgres\nconnection: bank\nentities:\n"
        "  - {name: a, extract: {mode: full, table: a}, key: [id],"
        " columns: [{name: id, type: int}]}\n"
    )
    assert "connection: bank is an API (kind: rest), which connector postgres cannot" in faults(
        folder
    )
