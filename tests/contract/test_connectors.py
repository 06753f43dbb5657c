"""The connector contract, over every connector: plan, read, repeat, empty, schema change, crash."""

import gzip
import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from headrace.config.entities.entity import EntityConfig
from headrace.config.settings import PartitionSettings
from headrace.config.sources.file_source import FileEntity, FilesSource
from headrace.errors import SourceRejectedError
from headrace.raw.capture import CapturedWindow, capture, raw_schema
from headrace.raw.manifest import (
    CaptureRecord,
    captured_versions,
    current_files,
    file_name,
    parse_name,
    version_in_footer,
)
from headrace.raw.writer import DataFolder
from headrace.sources.base import CaptureRun, CaptureState, Connector
from headrace.sources.files.connector import FilesConnector
from headrace.sources.landing.landing_zone import LocalLanding
from headrace.staged import StagedFile
from tests.contract.mongodb_collections import MongoCollection, as_instant
from tests.contract.mysql_tables import MysqlTable
from tests.contract.tables import Table
from tests.sources.workbooks import workbook

DAY, NEXT = date(2017, 1, 1), date(2017, 1, 2)
EXIST = PartitionSettings(start=DAY)
START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ROWS = pa.table(
    {
        "id": pa.array([1, 2, 3], pa.int64()),
        "name": ["a", "b", None],
        "amount": pa.array([10, 20, 30], pa.int32()),
    }
)


def _csv(rows: pa.Table) -> bytes:
    out = io.BytesIO()
    pa_csv.write_csv(rows, out)
    return out.getvalue()


def _parquet(rows: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(rows, out, row_group_size=50_000)
    return out.getvalue()


def _json_lines(rows: pa.Table) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows.to_pylist()).encode()


def _json(rows: pa.Table) -> bytes:
    return json.dumps({"count": len(rows), "orders": rows.to_pylist()}, indent=1).encode()


def _excel(rows: pa.Table) -> bytes:
    return workbook({"Orders": [rows.column_names, *(list(r.values()) for r in rows.to_pylist())]})


def _fixed_width(rows: pa.Table) -> bytes:
    lines = (f"{r['id']:<10}{r['name'] or '':<60}{r['amount']:<10}\n" for r in rows.to_pylist())
    return "".join(lines).encode()


_POSITIONS = {"id": [1, 10], "name": [11, 70], "amount": [71, 80]}


@dataclass(frozen=True)
class Kind:
    """One connector: how its files are named and written."""

    connector: str
    suffix: str
    write: Callable[[pa.Table], bytes]
    form: Mapping[str, Any] = field(default_factory=dict)

    def entity(self, **changes: Any) -> FileEntity:
        columns = [
            {"name": "id", "type": "bigint"},
            {"name": "name", "type": "string"},
            {"name": "amount", "type": "int"},
        ]
        path = f"orders-{{date:%Y-%m-%d}}{self.suffix}"
        extract = {"mode": "files", "path": path, **changes.pop("extract", {})}
        if form := {**self.form, **extract.pop("format", {})}:
            extract["format"] = form
        document = {
            "name": "orders",
            "extract": extract,
            "key": ["id"],
            "columns": columns,
            **changes,
        }
        source = {"name": "shop", "connector": self.connector, "entities": [document]}
        return FilesSource.model_validate(source).entities[0]


KINDS = {
    "files": Kind("files", ".csv", _csv),
    "parquet_files": Kind("parquet_files", ".parquet", _parquet),
    "json_lines": Kind("files", ".jsonl", _json_lines, {"type": "json_lines"}),
    "json": Kind("files", ".json", _json, {"type": "json", "records": "orders"}),
    "excel": Kind("files", ".xlsx", _excel, {"type": "excel"}),
    "fixed_width": Kind(
        "files", ".txt", _fixed_width, {"type": "fixed_width", "positions": _POSITIONS}
    ),
}


class Shop:
    """A source of one kind, and what raw holds of it."""

    def __init__(self, folder: Path, kind: Kind) -> None:
        self.kind, self.entity = kind, kind.entity()
        self.landing, self.data = folder / "landing", folder / "raw"
        self.landing.mkdir()
        self.files: dict[date, list[StagedFile]] = {}
        self.stored: Mapping[str, str] = {}
        self.window: CapturedWindow
        self.runs = 0

    @property
    def connector(self) -> Connector:
        return FilesConnector(self.entity, LocalLanding(self.landing))

    def path(self, day: date = DAY) -> Path:
        return self.landing / f"orders-{day}{self.kind.suffix}"

    def object_name(self, day: date = DAY) -> str:
        return self.path(day).name

    def deliver(self, rows: pa.Table = ROWS, day: date = DAY) -> None:
        self.runs += 1
        self.path(day).write_bytes(self.kind.write(rows))
        os.utime(self.path(day), ns=(0, self.runs * 10**9))

    def run(self) -> CaptureRun:
        self.runs += 1
        at = START + timedelta(seconds=self.runs)
        return CaptureRun("shop.orders", f"batch-{self.runs}", at, EXIST)

    def state(self) -> CaptureState:
        held = {day: captured_versions(files) for day, files in self.files.items()}
        return CaptureState(held, not held, self.stored)

    def capture(self, *days: date, publish: bool = True) -> CapturedWindow:
        folder = DataFolder(fs.LocalFileSystem(), str(self.data), f"file://{self.data}")
        run = self.run()
        window = capture(self.connector, self.entity, folder, self.state(), days or (DAY,), run)
        if publish:
            record = CaptureRecord.load(window.record(self.connector, run).dump())
            self.stored = record.state if record else {}
            for day, staged in window.staged.items():
                self.files.setdefault(day, []).extend(staged.files)
        return window

    def rows(self, day: date = DAY) -> list[dict[str, Any]]:
        tables = [_read(file) for file in current_files(self.files.get(day, []))]
        rows = pa.concat_tables(tables).to_pylist() if tables else []
        return sorted(rows, key=lambda row: row["_source_position"])

    def values(self, column: str, day: date = DAY) -> list[str | None]:
        """One column's values as text; an empty text of CSV and a NULL of Parquet are equal."""
        return [
            str(row[column]) if row[column] not in (None, "") else None for row in self.rows(day)
        ]


def _read(file: StagedFile) -> pa.Table:
    with pq.ParquetFile(file.path.removeprefix("file://")) as parquet:
        return parquet.read()


DATABASES: Mapping[str, type[Table]] = {
    "postgres": Table,
    "mysql": MysqlTable,
    "mongodb": MongoCollection,
}


class DatabaseShop:
    """A table of a database, read whole by days: the surface of Shop."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.table = DATABASES[kind](folder)
        self.kind = kind

    @property
    def entity(self) -> EntityConfig:
        found: EntityConfig = self.table.entity
        return found

    @property
    def connector(self) -> Connector:
        return self.table.connector

    @property
    def stored(self) -> Mapping[str, str]:
        return self.table.stored

    @property
    def files(self) -> dict[date, list[StagedFile]]:
        return self.table.files

    @property
    def data(self) -> Path:
        return self.table.data

    def object_name(self, day: date = DAY) -> str:  # noqa: ARG002
        return self.table.name

    def deliver(self, rows: pa.Table = ROWS, day: date = DAY) -> None:
        names = rows.schema.names
        if isinstance(self.table, MongoCollection):
            self.table.documents.delete_many({"sold_on": as_instant(day)})
        else:
            self.table.write("delete from {table} where sold_on = %s", day)
            for missing in {"id", "name", "amount"} - {*names}:
                self.table.write(f"alter table {{table}} drop column {missing}")
        values = zip(*(rows.column(name).to_pylist() for name in names), strict=True)
        self.table.load([*names, "sold_on"], [(*row, day) for row in values])

    def run(self) -> CaptureRun:
        return self.table.run()

    def state(self) -> CaptureState:
        return self.table.state()

    def capture(self, *days: date, publish: bool = True) -> CapturedWindow:
        return self.table.capture(*(days or (DAY,)), publish=publish)

    def rows(self, day: date = DAY) -> list[dict[str, Any]]:
        found = self.table.rows(day) if day in self.table.files else []
        return sorted(found, key=lambda row: row["_source_position"])

    def values(self, column: str, day: date = DAY) -> list[str | None]:
        return [str(r[column]) if r[column] not in (None, "") else None for r in self.rows(day)]


AnyShop = Shop | DatabaseShop


def _any_shop(kind: str, folder: Path) -> AnyShop:
    return DatabaseShop(folder, kind) if kind in DATABASES else Shop(folder, KINDS[kind])


@pytest.fixture(params=[*KINDS, *DATABASES])
def any_shop(request: pytest.FixtureRequest, tmp_path: Path) -> AnyShop:
    """A shop of each connector."""
    return _any_shop(request.param, tmp_path)


@pytest.fixture(params=KINDS)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    return Shop(tmp_path, KINDS[request.param])


@pytest.fixture(params=[kind for kind in KINDS if kind != "fixed_width"])
def named(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    """Of a kind whose files name their columns."""
    return Shop(tmp_path, KINDS[request.param])


@pytest.fixture(params=[*(kind for kind in KINDS if kind != "fixed_width"), *DATABASES])
def named_shop(request: pytest.FixtureRequest, tmp_path: Path) -> AnyShop:
    """Of any kind whose objects name their columns."""
    return _any_shop(request.param, tmp_path)


@pytest.fixture(params=[k for k in (*KINDS, *DATABASES) if k not in ("excel", "mongodb")])
def streamed_shop(request: pytest.FixtureRequest, tmp_path: Path) -> AnyShop:
    """Of any kind that is read in batches: a sheet of Excel is read whole.

    The server of MongoDB's protocol is slow: a scripted one serves test_mongodb_faults.py.
    """
    return _any_shop(request.param, tmp_path)


def error(window: CapturedWindow, day: date = DAY) -> str:
    return f"{window.failed[day]} | {window.failed[day].fix}"


def test_the_plan_names_what_is_new_and_what_waits(shop: Shop) -> None:
    shop.deliver()
    plan = shop.connector.plan([DAY, NEXT], shop.state(), shop.run())
    assert [unit.partitions for unit in plan.units] == [(DAY,)]
    assert [one.name for one in plan.units[0].objects] == [shop.path().name]
    assert (plan.unchanged, plan.failed, [*plan.held]) == ((), {}, [NEXT])
    assert plan == shop.connector.plan([NEXT, DAY], shop.state(), shop.run())


def test_rows_are_captured_in_their_order_with_neutral_lineage(any_shop: AnyShop) -> None:
    any_shop.deliver()
    window = any_shop.capture()
    assert window.rows == {DAY: 3}
    assert any_shop.values("id") == ["1", "2", "3"]
    assert any_shop.values("name") == ["a", "b", None]
    first = any_shop.rows()[0]
    assert (first["_source_object"], first["_operation"]) == (any_shop.object_name(), None)
    assert len({row["_row_hash"] for row in any_shop.rows()}) == 3
    (file,) = any_shop.files[DAY]
    assert _read(file).schema.equals(raw_schema(any_shop.entity).arrow())


def test_capturing_again_stores_nothing(any_shop: AnyShop) -> None:
    any_shop.deliver()
    any_shop.capture()
    window = any_shop.capture()
    assert (window.staged[DAY].files, window.rows) == ((), {DAY: 3})


def test_rows_of_partitions_that_nobody_asked_for_are_not_captured(any_shop: AnyShop) -> None:
    any_shop.deliver()
    any_shop.deliver(ROWS.slice(1), NEXT)
    assert any_shop.capture(NEXT).rows == {NEXT: 2}
    assert [*any_shop.files] == [NEXT]


def test_a_column_that_the_source_lost_is_named(named_shop: AnyShop) -> None:
    named_shop.deliver(ROWS.drop_columns(["name"]))
    try:
        said = error(named_shop.capture())
    except SourceRejectedError as raised:
        said = f"{raised} | {raised.fix}"
    assert named_shop.object_name() in said
    assert "column 'name' is missing" in said


def test_capturing_again_reads_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.deliver()
    shop.capture()
    monkeypatch.delattr(LocalLanding, "open")
    window = shop.capture()
    assert (window.staged[DAY].files, window.rows) == ((), {DAY: 3})


def test_a_new_version_replaces_the_one_before(any_shop: AnyShop) -> None:
    any_shop.deliver()
    any_shop.capture()
    any_shop.deliver(ROWS.slice(0, 1))
    assert any_shop.capture().rows == {DAY: 1}
    assert any_shop.values("id") == ["1"]
    any_shop.deliver(ROWS.slice(0, 0))
    assert any_shop.capture().rows == {DAY: 0}
    assert any_shop.rows() == []


def test_an_object_without_rows_is_an_empty_partition(any_shop: AnyShop) -> None:
    any_shop.deliver(ROWS.slice(0, 0))
    window = any_shop.capture()
    assert (window.failed, window.rows, window.staged[DAY].files) == ({}, {DAY: 0}, ())


def test_one_partition_and_many_give_the_same_rows(any_shop: AnyShop) -> None:
    any_shop.deliver()
    any_shop.deliver(ROWS.slice(1), NEXT)
    any_shop.capture(DAY, NEXT)
    both = [any_shop.values("_row_hash", day) for day in (DAY, NEXT)]
    any_shop.files.clear()
    any_shop.capture(NEXT)
    any_shop.capture(DAY)
    assert [any_shop.values("_row_hash", day) for day in (DAY, NEXT)] == both


def test_an_undeclared_column_is_named_and_may_be_ignored(named: Shop) -> None:
    named.deliver(ROWS.append_column("chanel", ROWS["name"]))
    said = error(named.capture())
    assert named.path().name in said
    assert "'chanel' is not declared" in said
    assert "extra_columns: ignore" in said
    named.entity = named.kind.entity(extract={"extra_columns": "ignore"})
    assert named.capture().rows == {DAY: 3}


def test_a_missing_column_is_named_and_may_be_declared_optional(named: Shop) -> None:
    named.deliver(ROWS.drop_columns(["name"]))
    said = error(named.capture())
    assert named.path().name in said
    assert "column 'name' is missing" in said
    assert "optional: true" in said
    columns = [
        {"name": "id", "type": "bigint"},
        {"name": "name", "type": "string", "optional": True},
        {"name": "amount", "type": "int"},
    ]
    named.entity = named.kind.entity(columns=columns)
    assert named.capture().rows == {DAY: 3}
    assert named.values("name") == [None] * 3


def test_an_object_that_breaks_off_fails_its_partition_and_no_other(shop: Shop) -> None:
    shop.deliver(pa.concat_tables([ROWS] * 2000))
    shop.deliver(day=NEXT)
    whole = shop.path().read_bytes()
    if shop.kind.suffix in (".jsonl", ".txt"):  # Lines do not say how many they are; gzip does.
        whole = gzip.compress(whole)
    cut = whole[: len(whole) // 2]
    # A text has to say that it is whole; Parquet's footer does.
    footer = {"format": {"footer": "END"}} if shop.kind.suffix == ".csv" else {}
    shop.entity = shop.kind.entity(extract=footer)
    shop.path().write_bytes(cut)
    if footer:
        shop.path(NEXT).write_bytes(shop.path(NEXT).read_bytes() + b"END,,\n")
    window = shop.capture(DAY, NEXT)
    assert ([*window.failed], window.rows) == ([DAY], {NEXT: 3})
    assert shop.path().name in error(window)
    assert not [*shop.data.glob(f"_pd={DAY}/*")]


def test_what_was_staged_and_never_committed_is_captured_again(any_shop: AnyShop) -> None:
    """A process that is killed between staging and commit leaves files that no table names."""
    any_shop.deliver()
    any_shop.capture(publish=False)
    assert any_shop.capture().rows == {DAY: 3}
    assert len(any_shop.files[DAY]) == 1
    assert any_shop.values("id") == ["1", "2", "3"]


def test_the_state_of_a_commit_reaches_the_next_plan_and_never_goes_back(shop: Shop) -> None:
    shop.deliver(day=NEXT)
    shop.deliver()
    shop.capture()
    first = shop.stored
    (state,) = first.values()
    assert state == shop.rows()[0]["_delivery_order"]
    shop.capture(NEXT)  # An older file.
    assert shop.stored == first


def test_footers_record_what_a_file_holds_and_the_snapshot_how_much(shop: Shop) -> None:
    days = [DAY + timedelta(n) for n in range(40)]
    for day in days:
        shop.deliver(day=day)
    run = shop.run()
    window = shop.capture(*days)
    record = window.record(shop.connector, run)
    assert (record.partitions, record.files, record.rows) == (40, 40, 120)
    assert record.connector == shop.kind.connector
    assert len(record.dump()) < 500
    (file,) = shop.files[DAY]
    with pq.ParquetFile(file.path.removeprefix("file://")) as parquet:
        metadata = parquet.metadata.metadata
    version = version_in_footer(metadata)
    assert version == parse_name(file.path)
    assert file_name(version) == file.path.rpartition("/")[2]
    assert metadata[b"headrace.source_object"].decode() == shop.path().name


def typed(folder: Path) -> Shop:
    return Shop(folder, KINDS["parquet_files"])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (pa.array([1.5, 2, 3]), "column 'amount' is double, not int | declare source_type: double"),
        (pa.array(["1", "2", "3"]), "column 'amount' is string, not int | declare source_type: s"),
        (
            pa.array([1, 2, 3], pa.int64()),
            "column 'amount' is bigint, not int | declare source_typ",
        ),
        (
            pa.array([[1], [2], [3]]),
            "column 'amount' is list<element: int64>, not int | deliver the column as int",
        ),
    ],
)
def test_a_column_of_another_type_is_named_with_the_type_to_declare(
    tmp_path: Path, values: pa.Array, said: str
) -> None:
    shop = typed(tmp_path)
    shop.deliver(ROWS.set_column(2, "amount", values))
    found = error(shop.capture())
    assert f"{shop.path().name}: {said}" in found


def test_types_that_lose_nothing_are_widened(tmp_path: Path) -> None:
    shop = typed(tmp_path)
    columns = {
        "id": ("bigint", pa.array([1, 2], pa.uint32())),
        "name": ("string", pa.array(["a", "b"]).dictionary_encode()),
        "amount": ("decimal(12,2)", pa.array([1, 2], pa.decimal128(8, 1))),
        "at": ("timestamp", pa.array([0, 1], pa.timestamp("ms"))),
        "seen_at": ("timestamptz", pa.array([0, 1], pa.timestamp("ns", "Europe/Berlin"))),
        "share": ("double", pa.array([0.5, 1], pa.float32())),
        "day": ("date", pa.array([0, 86_400_000], pa.date64())),
        "nothing": ("boolean", pa.nulls(2)),
    }
    shop.entity = shop.kind.entity(
        columns=[{"name": name, "type": kind} for name, (kind, _) in columns.items()]
    )
    shop.deliver(pa.table({name: values for name, (_, values) in columns.items()}))
    window = shop.capture()
    # A nanosecond is no microsecond: the file fails rather than lose it.
    assert "'seen_at' has values that timestamptz does not hold" in error(window)
    columns["seen_at"] = ("timestamptz", pa.array([0, 1000], pa.timestamp("ns", "Europe/Berlin")))
    shop.deliver(pa.table({name: values for name, (_, values) in columns.items()}))
    assert shop.capture().rows == {DAY: 2}
    (file,) = shop.files[DAY]
    assert _read(file).schema.equals(raw_schema(shop.entity).arrow())


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamptz"])
def test_typed_times_split_rows_by_partition(tmp_path: Path, kind: str) -> None:
    shop = typed(tmp_path)
    days = pa.array([17167, 17168, None, 10], pa.date32())
    values = {
        "date": days,
        "timestamp": days.cast(pa.timestamp("us")),
        "timestamptz": days.cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC")),
    }[kind]
    shop.entity = shop.kind.entity(
        extract={"path": "*.parquet", "partition_by": "sold_at"},
        columns=[{"name": "id", "type": "bigint"}, {"name": "sold_at", "type": kind}],
    )
    shop.deliver(pa.table({"id": [1, 2, 3, 4], "sold_at": values}))
    window = shop.capture(DAY, NEXT)
    assert (window.rows, [*window.outside.values()]) == ({DAY: 2, NEXT: 1}, [1])
    assert shop.values("id") == ["1", None]
    corrupt = shop.rows()[1]
    assert (corrupt["_corrupt_record"], corrupt["_corrupt_reason"]) == (
        "3,",
        "sold_at: no readable day",
    )


def test_typed_times_belong_to_the_local_day(tmp_path: Path) -> None:
    shop = typed(tmp_path)
    shop.entity = shop.kind.entity(
        extract={"path": "*.parquet", "partition_by": "sold_at"},
        columns=[{"name": "id", "type": "bigint"}, {"name": "sold_at", "type": "timestamptz"}],
        timezone="Europe/Berlin",
    )
    late = pa.array([datetime(2017, 1, 1, 23, 30, tzinfo=UTC)], pa.timestamp("us", "UTC"))
    shop.deliver(pa.table({"id": [1], "sold_at": late}))
    assert shop.capture(DAY, NEXT).rows == {DAY: 0, NEXT: 1}


@pytest.mark.parametrize("thousands", [200, 600])
def test_a_read_holds_a_few_batches(streamed_shop: AnyShop, thousands: int) -> None:
    rows = pa.table(
        {
            "id": pa.array(range(thousands * 1000), pa.int64()),
            "name": ["x" * 60] * (thousands * 1000),
            "amount": pa.array([1] * (thousands * 1000), pa.int32()),
        }
    )
    streamed_shop.deliver(rows)
    del rows
    plan = streamed_shop.connector.plan([DAY], streamed_shop.state(), streamed_shop.run())
    before, peak, count = pa.total_allocated_bytes(), 0, 0
    for batch in streamed_shop.connector.read(plan.units[0].objects[0], DAY):
        peak, count = max(peak, pa.total_allocated_bytes() - before), count + len(batch)
    assert count == thousands * 1000
    assert peak < 40 * 2**20
