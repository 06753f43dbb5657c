"""Two REST APIs as sources: a bank's transactions and hourly weather reach processed."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest import mock

import pytest
import yaml

from demo.apis.bank import BRANCHES, CLIENT_ID, CLIENT_SECRET, Bank, Record, transactions_of
from demo.apis.server import ApiServer
from demo.apis.weather import KEY, Weather
from headrace.cli.backfill import BackfillResult, run_backfill
from tests.e2e import installation
from tests.e2e.conftest import scratch_root
from tests.e2e.installation import Installation

pytestmark = pytest.mark.e2e

FIRST, LAST = date(2017, 1, 1), date(2017, 1, 3)
PER_DAY = 300
_BANK = {
    "name": "bank",
    "connector": "rest",
    "connection": "bank",
    "entities": [
        {
            "name": "transactions",
            "extract": {
                "mode": "window",
                "path": "transactions",
                "params": {"from": "{from}", "to": "{to}"},
                "records": "$.data[*]",
                "pagination": {"type": "offset", "limit": 250, "total": "$.count"},
                "ignored": ["items"],
            },
            "key": ["id"],
            "event_time": "booked_at",
            "columns": [
                {"name": "id", "type": "string"},
                {"name": "booked_at", "type": "timestamptz"},
                {"name": "amount", "type": "decimal(12,2)"},
                {"name": "currency", "type": "string"},
                {"name": "account", "from": "$.account.number", "type": "string"},
                {"name": "branch_id", "from": "$.account.branch.id", "type": "int"},
                {"name": "note", "type": "string"},
            ],
        },
        {
            "name": "items",
            "extract": {
                "mode": "window",
                "path": "transactions",
                "params": {"from": "{from}", "to": "{to}"},
                "records": "$.data[*]",
                "children": "$.items[*]",
                "pagination": {"type": "offset", "limit": 250, "total": "$.count"},
            },
            "key": ["transaction_id", "line"],
            "columns": [
                {"name": "transaction_id", "from": "$.id", "type": "string"},
                {"name": "line", "type": "int"},
                {"name": "category", "type": "string"},
                {"name": "amount", "type": "decimal(12,2)"},
            ],
        },
        {
            "name": "branches",
            "extract": {
                "mode": "full",
                "path": "branches",
                "records": "$.data[*]",
                "pagination": {"type": "offset", "limit": 2, "total": "$.count"},
            },
            "key": ["id"],
            "columns": [
                {"name": "id", "type": "int"},
                {"name": "name", "type": "string"},
                {"name": "city", "from": "$.city.name", "type": "string"},
                {"name": "latitude", "from": "$.city.lat", "type": "double"},
            ],
        },
    ],
}
_WEATHER = {
    "name": "weather",
    "connector": "rest",
    "connection": "weather",
    "entities": [
        {
            "name": "hours",
            "extract": {
                "mode": "window",
                "path": "history/city",
                "params": {
                    "lat": "{lat}",
                    "lon": "{lon}",
                    "type": "hour",
                    "start": "{from:unix}",
                    "end": "{last:unix}",
                },
                "for_each": [
                    {"store_id": 7, "lat": 53.55, "lon": 10.0},
                    {"store_id": 8, "lat": 48.14, "lon": 11.58},
                ],
                "records": "$.list[*]",
                "pagination": {"type": "none", "total": "$.cnt"},
                "ignored": ["dt", "rain", "snow"],
            },
            "key": ["store_id", "at"],
            "event_time": "at",
            "columns": [
                {"name": "store_id", "from": "{store_id}", "type": "int"},
                {
                    "name": "at",
                    "from": "dt_iso",
                    "type": "timestamptz",
                    "formats": ["yyyy-MM-dd HH:mm:ss xx 'UTC'"],
                },
                {"name": "kelvin", "from": "$.main.temp", "type": "decimal(6,2)"},
                {"name": "wind", "from": "$.wind.speed", "type": "double"},
                {"name": "sky", "from": "$.weather[0].main", "type": "string"},
            ],
        }
    ],
}


class Apis:
    """An installation, and the APIs that it reads from."""

    def __init__(self, made: Installation, bank: ApiServer, weather: ApiServer) -> None:
        self.made, self.bank, self.weather = made, bank, weather
        self.booked: dict[date, Sequence[Record]] = {}
        bank.api = Bank(self.transactions, BRANCHES, token_seconds=60)
        self._configure()

    def transactions(self, day: date) -> Sequence[Record]:
        return self.booked.get(day) or transactions_of(day, PER_DAY)

    def backfill(self, first: date = FIRST, last: date = LAST) -> BackfillResult:
        secrets = {"BANK_ID": CLIENT_ID, "BANK_SECRET": CLIENT_SECRET, "WEATHER_KEY": KEY}
        assets = ["bank_transactions", "bank_items", "bank_branches", "weather_hours"]
        select = " or ".join(f'+key:"processed/{name}"' for name in assets)
        with self.made.active(), mock.patch.dict(os.environ, secrets):
            return run_backfill(first, last, select=select, quiet=True)

    def processed(self, name: str) -> list[dict[str, Any]]:
        return self.made.lake(f"processed.{name}")

    def _configure(self) -> None:
        folder = self.made.config / "sources"
        (folder / "bank.yaml").write_text(yaml.safe_dump(_BANK))
        (folder / "weather.yaml").write_text(yaml.safe_dump(_WEATHER))
        overlay = self.made.config / "development.yaml"
        settings = yaml.safe_load(overlay.read_text())
        settings["connections"] = {
            "bank": {
                "kind": "rest",
                "url": f"{self.bank.url}/v1",
                "auth": {
                    "type": "oauth2",
                    "token_url": f"{self.bank.url}/oauth/token",
                    "client_id": {"env": "BANK_ID"},
                    "client_secret": {"env": "BANK_SECRET"},
                },
                "limits": {"rate": "50/s", "first_wait_seconds": 0.01},
            },
            "weather": {
                "kind": "rest",
                "url": f"{self.weather.url}/data/2.5",
                "auth": {"type": "api_key", "param": "appid", "key": {"env": "WEATHER_KEY"}},
            },
        }
        overlay.write_text(yaml.safe_dump(settings))


@contextmanager
def _running() -> Iterator[Apis]:
    with (
        scratch_root() as root,
        ApiServer(Bank(transactions_of)) as bank,
        ApiServer(Weather()) as weather,
    ):
        made = installation.make(root, end=LAST + timedelta(days=1))
        try:
            yield Apis(made, bank, weather)
        finally:
            installation.end(made)


@pytest.fixture(scope="module")
def apis() -> Iterator[Apis]:
    with _running() as found:
        yield found


def test_lists_of_an_api_reach_processed(apis: Apis) -> None:
    result = apis.backfill()
    assert (result.exit_code, result.bad) == (0, ())
    found = apis.processed("bank_transactions")
    days = [FIRST + timedelta(n) for n in range(3)]
    booked = [one for day in days for one in transactions_of(day, PER_DAY)]
    assert {row["id"]: row["amount"] for row in found} == {
        one["id"]: Decimal(str(one["amount"])).quantize(Decimal("0.01")) for one in booked
    }
    first = min(found, key=lambda row: row["id"])
    assert first["booked_at"] == datetime(2017, 1, 1, tzinfo=UTC)
    assert (first["account"], first["branch_id"], first["note"]) == ("A0000", 1, "card")
    items = apis.processed("bank_items")
    assert len(items) == 2 * len(booked)
    assert sum(row["amount"] for row in items) == sum(row["amount"] for row in found)
    branches = apis.processed("bank_branches")
    assert sorted(row["city"] for row in branches) == sorted(b["city"]["name"] for b in BRANCHES)


def test_hourly_weather_has_a_row_an_hour_and_store(apis: Apis) -> None:
    hours = apis.processed("weather_hours")
    start = datetime(2017, 1, 1, tzinfo=UTC)
    wanted = [(store, start + timedelta(hours=n)) for store in (7, 8) for n in range(72)]
    assert sorted((row["store_id"], row["at"]) for row in hours) == wanted
    assert len({(row["at"], row["kelvin"]) for row in hours}) == len(wanted)
    assert {row["sky"] for row in hours} <= {"Clear", "Clouds", "Rain", "Snow"}
    assert all(Decimal(250) < row["kelvin"] < Decimal(310) for row in hours)


def test_a_day_that_changed_is_replaced_and_an_equal_one_is_stored_once(apis: Apis) -> None:
    before = len(apis.made.lake("raw.bank_transactions"))
    apis.booked[FIRST] = transactions_of(FIRST, PER_DAY)[:100]
    assert apis.backfill().exit_code == 0
    found = apis.processed("bank_transactions")
    assert len(found) == 100 + 2 * PER_DAY
    assert len(apis.made.lake("raw.bank_transactions")) == before + 100
    assert len(apis.processed("bank_branches")) == len(BRANCHES)


def test_nothing_is_missing_or_stale(apis: Apis) -> None:
    status = {name: one for name, one in apis.made.status().items() if "/bank_" in name}
    assert len(status) == 6
    assert [n for n, one in status.items() if one.missing or one.stale or one.held] == []


def test_no_file_of_the_home_has_a_secret(apis: Apis) -> None:
    """The keys of both APIs are one text that nothing else has."""
    assert CLIENT_SECRET == KEY
    found = [
        str(path)
        for path in apis.made.root.rglob("*")
        if path.is_file() and KEY.encode() in path.read_bytes()
    ]
    assert found == []
