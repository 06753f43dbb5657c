"""What a capture of days brings: rows with their lineage, data files, counts."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from headrace import progress
from headrace.config.settings import PartitionSettings
from headrace.raw.capture import capture, raw_schema
from headrace.raw.manifest import captured_versions
from headrace.raw.writer import DataFolder, PartitionWriter
from headrace.sources.base import CaptureRun, CaptureState
from headrace.sources.files.connector import FilesConnector
from headrace.sources.landing.landing_zone import LocalLanding
from tests import servers
from tests.raw.building import (
    DAY,
    FILE,
    FIRST,
    GOOD,
    NEXT,
    NEXT_FILE,
    START,
    Raw,
    csv_text,
    entity,
    read,
)


def test_a_row_is_captured_with_all_that_is_known_of_it(raw: Raw) -> None:
    raw.deliver(FILE, csv_text(["1,a,10", "2,b"]))
    window = raw.capture()
    first, second = raw.rows()
    expected = {
        "id": "1",
        "name": "a",
        "amount": "10",
        "_corrupt_record": None,
        "_corrupt_reason": None,
        "_source_position": 2,
        "_source_object": FILE,
        "_operation": None,
        "_delivery_order": "19700101T000001000000 orders/orders-0042017-0011-0011.csv",
        "_object_version": first["_object_version"],
        "_source": "shop.orders",
        "_captured_at": START + timedelta(seconds=2),
        "_batch_id": "batch-2",
        "_row_hash": first["_row_hash"],
        "_partition_date": DAY,
    }
    assert first == expected
    assert first["_object_version"].startswith(f"1000000000-{len(csv_text(['1,a,10', '2,b']))}-")
    assert second == expected | {
        **dict.fromkeys(("id", "name", "amount")),
        "_corrupt_record": "2,b",
        "_corrupt_reason": "too few fields",
        "_source_position": 3,
        "_row_hash": second["_row_hash"],
    }
    assert first["_row_hash"] != second["_row_hash"]
    assert window.rows == {DAY: 2}


def test_the_data_files_have_the_schema_that_is_declared(raw: Raw) -> None:
    raw.deliver(FILE, GOOD)
    raw.capture()
    (file,) = raw.files[DAY]
    assert read(file).schema.equals(raw_schema(entity()).arrow())
    # A field id of Parquet's would be taken for one of Iceberg's.
    footer = pq.read_schema(file.path.removeprefix("file://"))
    assert all(b"PARQUET:field_id" not in (field.metadata or {}) for field in footer)


def test_what_is_staged_says_what_its_file_says(raw: Raw) -> None:
    raw.deliver(FILE, csv_text(["1,a,10", "2,b", "3,c,30"]))
    (file,) = raw.capture().staged[DAY].files
    path = Path(file.path.removeprefix("file://"))
    footer = pq.read_metadata(path)
    assert (
        (file.rows, file.size_bytes)
        == (footer.num_rows, path.stat().st_size)
        == (3, file.size_bytes)
    )
    found = pq.read_table(path)
    assert file.null_counts == {name: found[name].null_count for name in found.schema.names}
    assert file.null_counts["id"] == 1
    assert file.footer is not None
    group = file.footer.row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    assert columns["_partition_date"].statistics.min == DAY
    assert path.parent.name == "_pd=2017-01-01"


def test_one_day_many_days_and_each_alone_capture_the_same(tmp_path: Path) -> None:
    days = [DAY + timedelta(number) for number in range(5)]
    found = []
    for name, windows in {"at once": [days], "each": [[day] for day in days]}.items():
        (tmp_path / name).mkdir()
        raw = Raw(tmp_path / name, entity())
        for day in days[:4]:
            raw.deliver(f"orders/orders-{day}.csv", csv_text([f"{day.day},x,1"] * day.day))
        for window in windows:
            raw.capture(*window, at=START)
        other = {"_batch_id": None, "_object_version": None}
        found.append([[row | other for row in raw.rows(day)] for day in days])
    assert found[0] == found[1]
    assert [len(rows) for rows in found[0]] == [1, 2, 3, 4, 0]


def test_a_day_without_a_file_is_staged_as_empty(raw: Raw) -> None:
    window = raw.capture(DAY, NEXT)
    assert (window.failed, window.rows) == ({}, {DAY: 0, NEXT: 0})
    assert {day: some.files for day, some in window.staged.items()} == {DAY: (), NEXT: ()}


def test_capturing_again_adds_nothing_and_reads_nothing(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw.deliver(FILE, GOOD)
    raw.deliver(NEXT_FILE, GOOD)
    raw.capture(DAY, NEXT)
    monkeypatch.delattr(LocalLanding, "open")
    window = raw.capture(DAY, NEXT)
    assert {day: some.files for day, some in window.staged.items()} == {DAY: (), NEXT: ()}
    assert window.rows == {DAY: 2, NEXT: 2}


def test_a_header_alone_is_a_day_without_rows(raw: Raw) -> None:
    raw.deliver(FILE, csv_text([]))
    window = raw.capture()
    assert (window.rows, window.failed, window.staged[DAY].files) == ({DAY: 0}, {}, ())


def test_gzip_is_read_whatever_the_name_says(raw: Raw) -> None:
    raw.deliver(FILE, GOOD, zipped=True)
    raw.deliver(f"{NEXT_FILE}.gz", GOOD, zipped=True)
    assert raw.capture(DAY, NEXT).rows == {DAY: 2, NEXT: 2}


def test_what_was_staged_and_never_published_does_not_count(raw: Raw) -> None:
    raw.deliver(FILE, GOOD)
    raw.capture(publish=False)
    assert raw.rows() == []
    assert raw.capture().rows == {DAY: 2}
    assert raw.values("amount") == ["10", "20"]


def test_progress_is_told_for_every_day(raw: Raw) -> None:
    raw.deliver(FILE, GOOD)
    raw.deliver(NEXT_FILE, "")
    told: list[tuple[str, int, int]] = []
    with progress.listening(lambda asset, done, total: told.append((asset, done, total))):
        raw.capture(FIRST, DAY, NEXT)
    assert told == [("raw", 1, 3), ("raw", 2, 3), ("raw", 3, 3)]


def test_a_large_file_is_captured_in_several_row_groups(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.raw.writer._WAITING_BYTES", 2**20)
    monkeypatch.setattr("headrace.raw.writer._IN_MEMORY_BYTES", 2**10)
    raw.deliver(FILE, csv_text([f"{number},name {number},1" for number in range(100_000)]))
    raw.capture()
    (file,) = raw.files[DAY]
    assert file.footer is not None
    assert file.footer.num_row_groups > 1
    assert file.rows == 100_000
    assert raw.values("_source_position") == list(range(2, 100_002))


@pytest.mark.s3
def test_data_files_are_written_to_s3(raw: Raw) -> None:
    store = servers.s3()
    scheme, _, endpoint = (store.settings.endpoint or "").partition("://")
    filesystem = fs.S3FileSystem(
        access_key=store.settings.access_key_id,
        secret_key=store.settings.secret_access_key,
        region=store.settings.region,
        scheme=scheme,
        endpoint_override=endpoint,
    )
    raw.deliver(FILE, GOOD)
    raw.deliver(NEXT_FILE, "")
    path = f"{store.bucket}/raw/orders/data"
    run = CaptureRun("shop.orders", "b", START, PartitionSettings(start=FIRST))
    folder = DataFolder(filesystem, path, f"s3://{path}")
    connector = FilesConnector(raw.entity, LocalLanding(raw.landing))
    window = capture(connector, raw.entity, folder, CaptureState(), [DAY, NEXT], run)
    (file,) = window.staged[DAY].files
    key = file.path.removeprefix("s3://")
    assert pq.read_table(key, filesystem=filesystem)["amount"].to_pylist() == ["10", "20"]
    assert filesystem.get_file_info(key).size == file.size_bytes
    assert captured_versions([file])[0].rows == 2
    folder.delete([file, replace(file, path=f"s3://{path}/gone.parquet")])
    assert filesystem.get_file_info(key).type == fs.FileType.NotFound


def test_memory_does_not_grow_with_the_file(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{number},{'x' * 60},1" for number in range(20_000)]
    monkeypatch.setattr("headrace.raw.writer._WAITING_BYTES", 2**20)
    write = PartitionWriter.write
    held: list[int] = []

    def watched(
        writer: PartitionWriter, batches: Sequence[pa.RecordBatch], *, are_all: bool = True
    ) -> None:
        held.append(pa.total_allocated_bytes())
        write(writer, batches, are_all=are_all)

    monkeypatch.setattr(PartitionWriter, "write", watched)
    peaks = []
    for times in (10, 30):
        raw.deliver(FILE, csv_text(lines * times))
        held.clear()
        assert raw.capture().rows == {DAY: 20_000 * times}
        assert len(held) > times
        peaks.append(max(held))
    assert peaks[1] < 1.5 * peaks[0]
