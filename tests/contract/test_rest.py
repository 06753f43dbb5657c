"""The connector contract, over lists of a REST API."""

import io
import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import structlog
from pyarrow import fs

from demo.apis.bank import Bank
from demo.apis.server import Answer, ApiServer
from headrace.config.settings import PartitionSettings
from headrace.config.sources.rest_connection import RestConnection
from headrace.config.sources.rest_source import RestEntity, RestSource
from headrace.errors import SourceUnauthorizedError
from headrace.grain import Grain
from headrace.raw.capture import CapturedWindow, capture, raw_schema
from headrace.raw.manifest import CaptureRecord, captured_versions, current_files
from headrace.raw.writer import DataFolder
from headrace.sources.base import CaptureRun, CaptureState
from headrace.sources.rest.connector import RestConnector, filled, window_of
from headrace.staged import StagedFile

DAY, NEXT = date(2017, 1, 1), date(2017, 1, 2)
EXIST = PartitionSettings(start=DAY)
START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
Record = Mapping[str, Any]
ROWS: Sequence[Record] = [
    {"id": 1, "name": "a", "amount": 10},
    {"id": 2, "name": "b", "amount": 20},
    {"id": 3, "name": None, "amount": 30},
]
COLUMNS = [
    {"name": "id", "type": "bigint"},
    {"name": "name", "type": "string"},
    {"name": "amount", "type": "int"},
]
WINDOW = {
    "mode": "window",
    "path": "transactions",
    "params": {"from": "{from}", "to": "{to}"},
    "records": "$.data[*]",
    "pagination": {"type": "offset", "limit": 250, "total": "$.count"},
}
FULL = {**WINDOW, "mode": "full", "path": "branches", "params": {}}


class Shop:
    """A bank's API as a source, and what raw holds of it."""

    def __init__(self, folder: Path) -> None:
        self.days: dict[date, Sequence[Record]] = {}
        self.bank = Bank(lambda day: self.days.get(day, ()))
        self.server = ApiServer(self.bank)
        self.data = folder / "raw"
        self.files: dict[date, list[StagedFile]] = {}
        self.limits: dict[str, Any] = {"first_wait_seconds": 0.005, "longest_wait_seconds": 1}
        self.limits["parallel"] = 1
        self.at = START
        self.entity = self.declare()

    def declare(self, *, extract: Mapping[str, Any] = WINDOW, **changes: Any) -> RestEntity:
        document = {"name": "orders", "key": ["id"], "columns": COLUMNS, **changes}
        source = {"name": "shop", "connector": "rest", "connection": "bank"}
        entities = [{**document, "extract": extract}]
        return RestSource.model_validate({**source, "entities": entities}).entities[0]

    @property
    def connector(self) -> RestConnector:
        auth = {
            "type": "oauth2",
            "token_url": f"{self.server.url}/oauth/token",
            "client_id": {"env": "BANK_ID"},
            "client_secret": {"env": "BANK_SECRET"},
        }
        connection = {
            "kind": "rest",
            "url": f"{self.server.url}/v1",
            "auth": auth,
            "limits": self.limits,
        }
        return RestConnector(self.entity, "bank", RestConnection.model_validate(connection))

    def run(self) -> CaptureRun:
        self.at += timedelta(seconds=1)
        return CaptureRun("shop.orders", f"batch-{self.at:%H%M%S}", self.at, EXIST)

    def state(self) -> CaptureState:
        held = {day: captured_versions(files) for day, files in self.files.items()}
        return CaptureState(held, not held, {})

    def capture(self, *days: date, publish: bool = True) -> CapturedWindow:
        folder = DataFolder(fs.LocalFileSystem(), str(self.data), f"file://{self.data}")
        run = self.run()
        window = capture(self.connector, self.entity, folder, self.state(), days or (DAY,), run)
        assert CaptureRecord.load(window.record(self.connector, run).dump()) is not None
        if publish:
            for day, staged in window.staged.items():
                self.files.setdefault(day, []).extend(staged.files)
        return window

    def rows(self, day: date = DAY) -> list[dict[str, Any]]:
        tables = [_read(file) for file in current_files(self.files.get(day, []))]
        rows = pa.concat_tables(tables).to_pylist() if tables else []
        return sorted(rows, key=lambda row: row["_source_position"])

    def ids(self, day: date = DAY) -> list[str]:
        return [row["id"] for row in self.rows(day)]

    def asked(self) -> list[str]:
        return [r.path for r in self.server.requests if r.path != "/oauth/token"]


def _read(file: StagedFile) -> pa.Table:
    with pq.ParquetFile(file.path.removeprefix("file://")) as parquet:
        return parquet.read()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("BANK_ID", "headrace-demo")
    monkeypatch.setenv("BANK_SECRET", "not-a-secret")
    found = Shop(tmp_path)
    with found.server:
        yield found


def error(window: CapturedWindow, day: date = DAY) -> str:
    return f"{window.failed[day]} | {window.failed[day].fix}"


def many(count: int) -> list[Record]:
    return [{"id": n, "name": "x" * 60, "amount": n} for n in range(count)]


def test_the_plan_has_one_unit_a_partition(shop: Shop) -> None:
    plan = shop.connector.plan([NEXT, DAY, DAY], shop.state(), shop.run())
    assert [unit.partitions for unit in plan.units] == [(DAY,), (NEXT,)]
    names = [one.name for unit in plan.units for one in unit.objects]
    assert names == [
        "transactions?from=2017-01-01&to=2017-01-02",
        "transactions?from=2017-01-02&to=2017-01-03",
    ]
    assert shop.server.requests == []


def test_rows_are_captured_in_their_order_with_neutral_lineage(shop: Shop) -> None:
    shop.days[DAY] = ROWS
    assert shop.capture().rows == {DAY: 3}
    found = [(row["id"], row["name"], row["amount"]) for row in shop.rows()]
    assert found == [("1", "a", "10"), ("2", "b", "20"), ("3", None, "30")]
    first = shop.rows()[0]
    assert first["_source_object"] == "transactions?from=2017-01-01&to=2017-01-02"
    assert (first["_operation"], first["_source_position"]) == (None, 1)
    (file,) = shop.files[DAY]
    assert _read(file).schema.equals(raw_schema(shop.entity).arrow())


@pytest.mark.parametrize("parallel", [1, 4])
def test_pages_are_read_to_the_last(shop: Shop, parallel: int) -> None:
    shop.limits["parallel"] = parallel
    shop.days[DAY] = many(600)
    assert shop.capture().rows == {DAY: 600}
    assert shop.ids() == [str(n) for n in range(600)]
    assert len(shop.asked()) == 3


def test_capturing_again_stores_nothing(shop: Shop) -> None:
    shop.days[DAY] = ROWS
    shop.capture()
    window = shop.capture()
    assert (window.staged[DAY].files, window.rows) == ((), {DAY: 3})


def test_a_new_state_of_a_window_replaces_the_one_before(shop: Shop) -> None:
    shop.days[DAY] = ROWS
    shop.capture()
    shop.days[DAY] = ROWS[:1]
    assert shop.capture().rows == {DAY: 1}
    assert shop.ids() == ["1"]
    shop.days[DAY] = []
    assert shop.capture().rows == {DAY: 0}
    assert shop.rows() == []


def test_a_window_without_rows_is_an_empty_partition(shop: Shop) -> None:
    window = shop.capture()
    assert (window.failed, window.rows, window.staged[DAY].files) == ({}, {DAY: 0}, ())


def test_one_partition_and_many_give_the_same_rows(shop: Shop) -> None:
    shop.days = {DAY: ROWS, NEXT: ROWS[1:]}
    shop.capture(DAY, NEXT)
    both = [[row["_row_hash"] for row in shop.rows(day)] for day in (DAY, NEXT)]
    shop.files.clear()
    shop.capture(NEXT)
    shop.capture(DAY)
    assert [[row["_row_hash"] for row in shop.rows(day)] for day in (DAY, NEXT)] == both


def test_an_undeclared_column_is_named_and_may_be_ignored(shop: Shop) -> None:
    shop.days[DAY] = [{**row, "chanel": "x"} for row in ROWS]
    said = error(shop.capture())
    assert "transactions?from=2017-01-01" in said
    assert "'chanel' is not declared" in said
    shop.entity = shop.declare(extract={**WINDOW, "extra_columns": "ignore"})
    assert shop.capture().rows == {DAY: 3}


def test_a_missing_column_is_named_and_may_be_declared_optional(shop: Shop) -> None:
    shop.days[DAY] = [{"id": row["id"], "amount": row["amount"]} for row in ROWS]
    said = error(shop.capture())
    assert "column 'name' is missing" in said
    assert "optional: true" in said
    columns = [{**c, "optional": True} if c["name"] == "name" else c for c in COLUMNS]
    shop.entity = shop.declare(columns=columns)
    assert shop.capture().rows == {DAY: 3}


def test_a_window_that_breaks_off_fails_its_partition_and_no_other(shop: Shop) -> None:
    shop.days = {DAY: many(600), NEXT: ROWS}
    whole = shop.bank

    def api(request: Any) -> Answer:
        answer = whole(request)
        is_second = request.query.get("offset") == "250"
        return Answer(answer.body, cut_at=100) if is_second else answer

    shop.server.api = api
    window = shop.capture(DAY, NEXT)
    assert ([*window.failed], window.rows) == ([DAY], {NEXT: 3})
    assert "the connection ended before the answer was whole" in error(window)
    assert not [*shop.data.glob(f"_pd={DAY}/*")]
    shop.server.api = whole
    assert shop.capture(DAY).rows == {DAY: 600}


def test_what_was_staged_and_never_committed_is_captured_again(shop: Shop) -> None:
    shop.days[DAY] = ROWS
    shop.capture(publish=False)
    assert shop.capture().rows == {DAY: 3}
    assert len(shop.files[DAY]) == 1


def test_wrong_credentials_fail_all_partitions_and_lock_no_one_out(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANK_SECRET", "wrong-canary")
    shop.limits["failures_to_open"] = 2
    days = [DAY + timedelta(n) for n in range(20)]
    window = shop.capture(*days)
    assert {*window.failed} == {*days}
    assert isinstance(window.failed[DAY], SourceUnauthorizedError)
    assert "connections.bank.auth" in error(window)
    # Two units are read at one time: one more may be on its way.
    assert len(shop.server.requests) <= 3


def test_a_secret_that_is_not_set_is_named(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BANK_SECRET")
    assert "BANK_SECRET is not set | export BANK_SECRET=…" in error(shop.capture())
    monkeypatch.setenv("BANK_SECRET", "not-a-secret")
    assert shop.capture().rows == {DAY: 0}


def test_a_revoked_permission_is_named(shop: Shop) -> None:
    shop.days[DAY] = ROWS
    shop.capture()
    shop.server.api = lambda request: (
        shop.bank(request) if request.path == "/oauth/token" else Answer({}, 403)
    )
    assert "403 Forbidden: the credentials lack the permission" in error(shop.capture())
    assert shop.ids() == ["1", "2", "3"]


def test_a_token_that_expires_between_pages_is_fetched_anew(shop: Shop) -> None:
    shop.days[DAY] = many(600)

    def api(request: Any) -> Answer:
        if request.query.get("offset") == "250" and len(shop.server.requests) < 5:
            shop.bank.expire_tokens()
        return shop.bank(request)

    shop.server.api = api
    assert shop.capture().rows == {DAY: 600}
    assert shop.ids() == [str(n) for n in range(600)]


def test_a_cancelled_capture_leaves_nothing_behind(shop: Shop) -> None:
    shop.days[DAY] = many(600)

    connector = shop.connector
    (unit,) = connector.plan([DAY], shop.state(), shop.run()).units
    batches = connector.read(unit.objects[0], DAY)
    next(batches)
    batches.close()  # type: ignore[attr-defined]  # it is a generator
    assert not [*shop.data.glob("**/*")]
    assert shop.capture().rows == {DAY: 600}


@pytest.mark.parametrize("thousands", [20, 60])
def test_a_read_holds_a_few_pages(shop: Shop, thousands: int) -> None:
    rows = many(thousands * 1000)

    def api(request: Any) -> Answer:
        if request.path == "/oauth/token":
            return shop.bank(request)
        offset = int(request.query["offset"])
        return Answer({"count": len(rows), "data": rows[offset : offset + 2000]})

    shop.server.api = api
    (unit,) = shop.connector.plan([DAY], shop.state(), shop.run()).units
    before, peak, count = pa.total_allocated_bytes(), 0, 0
    for batch in shop.connector.read(unit.objects[0], DAY):
        peak, count = max(peak, pa.total_allocated_bytes() - before), count + len(batch)
    assert count == thousands * 1000
    assert peak < 8 * 2**20


def test_a_list_without_days_has_a_version_for_each_day_on_which_it_differs(shop: Shop) -> None:
    shop.entity = shop.declare(extract=FULL, partition="none")
    assert shop.entity.grain == Grain.SPARSE
    shop.bank.branches = ROWS
    days = shop.connector.sparse_partitions(shop.state(), shop.run())
    assert days == {DAY}
    assert shop.capture(*days).rows == {DAY: 3}
    days = shop.connector.sparse_partitions(shop.state(), shop.run())
    assert days == {DAY, START.date()}
    window = shop.capture(*days)
    assert (window.rows[DAY], window.staged[START.date()].files) == (3, ())
    shop.bank.branches = ROWS[:2]
    window = shop.capture(*days)
    assert window.rows == {DAY: 3, START.date(): 2}
    assert (shop.ids(), shop.ids(START.date())) == (["1", "2", "3"], ["1", "2"])


def test_a_list_may_be_split_by_a_column_of_its_rows(shop: Shop) -> None:
    columns = [*COLUMNS, {"name": "sold_on", "type": "date"}]
    shop.entity = shop.declare(extract={**FULL, "partition_by": "sold_on"}, columns=columns)
    shop.bank.branches = [{**row, "sold_on": f"2017-01-0{row['id']}"} for row in ROWS]
    window = shop.capture(DAY, NEXT)
    assert window.rows == {DAY: 1, NEXT: 1}
    assert (shop.ids(), shop.ids(NEXT)) == (["1"], ["2"])


def test_several_lists_make_one_partition(shop: Shop) -> None:
    columns = [*COLUMNS, {"name": "place", "type": "string", "from": "{place}"}]
    extract = {
        **WINDOW,
        "path": "transactions/{place}",
        "params": {"from": "{from}", "to": "{to}", "place": "{place}"},
        "for_each": [{"place": "a/b"}, {"place": "Köln"}],
    }
    shop.entity = shop.declare(extract=extract, columns=columns, key=["place", "id"])
    shop.server.api = lambda request: (
        shop.bank(request)
        if request.path == "/oauth/token"
        else Answer({"count": 2, "data": ROWS[:2] if request.query["place"] == "a/b" else ROWS[1:]})
    )
    window = shop.capture()
    found = [(row["place"], row["id"], row["_source_position"]) for row in shop.rows()]
    assert found == [("a/b", "1", 1), ("a/b", "2", 2), ("Köln", "2", 3), ("Köln", "3", 4)]
    assert shop.asked() == ["/v1/transactions/a%2Fb", "/v1/transactions/K%C3%B6ln"]
    assert window.rows == {DAY: 4}
    assert shop.capture().staged[DAY].files == ()


def test_child_arrays_are_an_entity_of_their_own(shop: Shop) -> None:
    shop.days[DAY] = [{"id": 1, "items": [{"sku": "a"}, {"sku": "b"}]}, {"id": 2, "items": []}]
    columns = [
        {"name": "order_id", "from": "$.id", "type": "bigint"},
        {"name": "sku", "type": "string"},
    ]
    extract = {**WINDOW, "children": "$.items[*]"}
    shop.entity = shop.declare(extract=extract, columns=columns, key=["order_id", "sku"])
    shop.capture()
    assert [(row["order_id"], row["sku"]) for row in shop.rows()] == [("1", "a"), ("1", "b")]


@pytest.mark.parametrize(
    ("day", "grain", "zone", "text", "expected"),
    [
        (26, Grain.DAY, None, "{from} {to} {last}", "2017-03-26 2017-03-27 2017-03-26"),
        (1, Grain.MONTH, None, "{from:%Y%m%d}..{last:%d}", "20170301..31"),
        # Berlin's 2017-03-26 has 23 hours.
        (26, Grain.DAY, "Europe/Berlin", "{from:unix} {last:unix}", "1490482800 1490565599"),
        (26, Grain.DAY, "Europe/Berlin", "{to:%Y-%m-%dT%H:%M%z}", "2017-03-27T00:00+0200"),
        (26, Grain.DAY, None, "{from:unix_ms}", "1490486400000"),
    ],
)
def test_windows_are_half_open_and_local(
    day: int, grain: Grain, zone: str | None, text: str, expected: str
) -> None:
    assert filled(text, window_of(date(2017, 3, day), grain, zone)) == expected


def test_no_secret_is_in_raw_an_error_or_a_log(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BANK_SECRET", "canary-secret")
    shop.bank.client = ("headrace-demo", "canary-secret")
    written = io.StringIO()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(written))
    caplog.set_level(logging.DEBUG)
    try:
        shop.days[DAY] = ROWS
        shop.server.faults += [None, Answer({"error": "canary-secret"}, 500)]
        shop.capture()
        shop.server.faults += [Answer({"error": "canary-secret"}, 400)]
        window = shop.capture(NEXT)
        written.writelines(traceback.format_exception(window.failed[NEXT]))
        record = window.record(shop.connector, shop.run()).dump()
        written.write(f"{shop.connector} {record} {shop.rows()} {window}")
    finally:
        structlog.reset_defaults()
    assert shop.ids() == ["1", "2", "3"]
    assert "400 Bad Request" in written.getvalue()
    assert "canary" not in written.getvalue() + caplog.text
    for file in shop.data.glob("**/*.parquet"):
        assert b"canary" not in file.read_bytes()
