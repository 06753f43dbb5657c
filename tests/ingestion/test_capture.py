"""Deliveries, good and bad, and what raw holds after them."""

import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from headrace import progress
from headrace.config.settings import PartitionSettings
from headrace.errors import SourceRejectedError, SourceUnavailableError
from headrace.ingestion.capture import capture, raw_schema
from headrace.ingestion.deliveries import CaptureRun
from headrace.ingestion.drafts import DataFolder, DayDraft
from headrace.ingestion.landing import LocalLanding
from headrace.ingestion.versions import captured_versions
from tests import servers
from tests.ingestion.building import (
    DAY,
    FIRST,
    NEXT,
    START,
    Raw,
    csv_text,
    entity,
    errors,
    read,
)

FILE = "orders/orders-2017-01-01.csv"
NEXT_FILE = "orders/orders-2017-01-02.csv"
GOOD = csv_text(["1,a,10", "2,b,20"])


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
        "_line": 2,
        "_file": FILE,
        "_file_version": f"1000000000-{len(csv_text(['1,a,10', '2,b']))}",
        "_source": "shop.orders",
        "_captured_at": START + timedelta(seconds=2),
        "_batch_id": "batch-2",
        "_row_hash": first["_row_hash"],
        "_partition_date": DAY,
    }
    assert first == expected
    assert second == expected | {
        **dict.fromkeys(("id", "name", "amount")),
        "_corrupt_record": "2,b",
        "_corrupt_reason": "too few fields",
        "_line": 3,
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


def test_what_is_staged_says_what_its_footer_says(raw: Raw) -> None:
    raw.deliver(FILE, csv_text(["1,a,10", "2,b", "3,c,30"]))
    (file,) = raw.capture().staged[DAY].files
    path = Path(file.path.removeprefix("file://"))
    footer = pq.read_metadata(path)
    group = footer.row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    assert (
        (file.rows, file.size_bytes)
        == (footer.num_rows, path.stat().st_size)
        == (3, file.size_bytes)
    )
    assert file.null_counts == {name: c.statistics.null_count for name, c in columns.items()}
    assert file.null_counts["id"] == 1
    assert file.footer is not None
    assert file.footer.row_group(0).column(12).statistics.min == DAY
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
        batch = {"_batch_id": None}
        found.append([[row | batch for row in raw.rows(day)] for day in days])
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


def test_a_file_that_was_only_touched_adds_nothing(raw: Raw) -> None:
    raw.deliver(FILE, GOOD)
    raw.capture()
    raw.deliver(FILE, GOOD.replace("\n", "\r\n"))
    window = raw.capture()
    assert (window.staged[DAY].files, window.rows) == ((), {DAY: 2})


def test_a_corrected_file_is_a_new_version_and_the_old_one_is_kept(raw: Raw) -> None:
    raw.deliver(FILE, GOOD)
    raw.capture()
    raw.deliver(FILE, csv_text(["1,a,10", "2,b,99", "3,c,30"]))
    window = raw.capture()
    assert raw.values("amount") == ["10", "99", "30"]
    assert window.rows == {DAY: 3}
    assert sorted(row["amount"] for f in raw.files[DAY] for row in read(f).to_pylist()) == [
        "10", "10", "20", "30", "99",
    ]  # fmt: skip


def test_a_correction_that_is_taken_back_is_a_version_too(raw: Raw) -> None:
    for text in (GOOD, csv_text(["1,a,99"]), GOOD):
        raw.deliver(FILE, text)
        raw.capture()
    assert raw.values("amount") == ["10", "20"]
    assert len(raw.files[DAY]) == 3


def test_a_file_that_is_corrected_to_nothing_takes_its_rows_with_it(raw: Raw) -> None:
    raw.deliver(FILE, GOOD)
    raw.capture()
    raw.deliver(FILE, csv_text([]))
    window = raw.capture()
    assert (raw.rows(), window.rows) == ([], {DAY: 0})
    (marker,) = read(window.staged[DAY].files[0]).to_pylist()
    assert (marker["_line"], marker["id"], marker["_partition_date"]) == (0, None, DAY)
    assert raw.capture().staged[DAY].files == ()
    raw.deliver(FILE, GOOD)
    raw.capture()
    assert raw.values("amount") == ["10", "20"]


def test_a_header_alone_is_a_day_without_rows(raw: Raw) -> None:
    raw.deliver(FILE, csv_text([]))
    window = raw.capture()
    assert (window.rows, window.failed, window.staged[DAY].files) == ({DAY: 0}, {}, ())


def test_a_file_that_disappears_stays_captured(raw: Raw) -> None:
    delivered = raw.deliver(FILE, GOOD)
    raw.capture()
    delivered.unlink()
    assert raw.capture().rows == {DAY: 2}
    assert raw.values("amount") == ["10", "20"]


def test_a_clock_that_was_set_back_does_not_bring_the_old_version_back(raw: Raw) -> None:
    raw.deliver(FILE, GOOD)
    raw.capture(at=START)
    raw.deliver(FILE, csv_text(["1,a,99"]))
    raw.capture(at=START - timedelta(hours=1))
    assert raw.values("amount") == ["99"]
    assert raw.values("_captured_at") == [START + timedelta(microseconds=1)]


def test_a_newly_declared_column_is_captured_from_files_already_captured(tmp_path: Path) -> None:
    narrow = entity(columns=[{"name": "id", "type": "bigint"}], extract={"extra_columns": "ignore"})
    raw = Raw(tmp_path, narrow)
    raw.deliver(FILE, GOOD)
    raw.capture()
    raw.entity = entity()
    raw.capture()
    assert raw.values("amount") == ["10", "20"]


@pytest.mark.parametrize("zipped", [False, True])
def test_the_same_file_delivered_twice_is_captured_once_and_reported(
    raw: Raw, *, zipped: bool
) -> None:
    raw.entity = entity(extract={"path": "orders/orders-{date:%Y-%m-%d}*.csv"})
    raw.deliver(FILE, GOOD)
    raw.capture()
    copy = f"orders/orders-2017-01-01-copy.csv{'.gz' if zipped else ''}"
    raw.deliver(copy, GOOD, zipped=zipped)
    window = raw.capture()
    assert [(found.day, found.path) for found in window.duplicates] == [(DAY, copy)]
    assert (window.rows, raw.values("amount")) == ({DAY: 2}, ["10", "20"])
    assert raw.capture().duplicates == ()


def test_two_equal_files_of_one_capture_count_once(raw: Raw) -> None:
    raw.entity = entity(extract={"path": "orders/orders-{date:%Y-%m-%d}*.csv"})
    raw.deliver(FILE.replace(".csv", "-b.csv"), GOOD)
    raw.deliver(FILE.replace(".csv", "-a.csv"), GOOD)
    window = raw.capture()
    # The one that was there first counts.
    assert [found.path for found in window.duplicates] == [FILE.replace(".csv", "-a.csv")]
    assert raw.values("_file") == [FILE.replace(".csv", "-b.csv")] * 2


def test_a_repeated_file_does_not_come_back_when_the_first_is_corrected(raw: Raw) -> None:
    raw.entity = entity(extract={"path": "orders/orders-{date:%Y-%m-%d}*.csv"})
    raw.deliver(FILE, GOOD)
    raw.deliver(FILE.replace(".csv", "-copy.csv"), GOOD)
    raw.capture()
    raw.deliver(FILE, csv_text(["1,a,99"]))
    raw.capture()
    assert raw.values("amount") == ["99"]


def test_files_of_one_day_with_other_rows_all_count(raw: Raw) -> None:
    raw.entity = entity(extract={"path": "orders/orders-{date:%Y-%m-%d}-*.csv"})
    raw.deliver("orders/orders-2017-01-01-north.csv", csv_text(["1,a,10"]))
    raw.deliver("orders/orders-2017-01-01-south.csv", csv_text(["2,b,20"]))
    assert raw.capture().rows == {DAY: 2}
    assert raw.values("amount") == ["10", "20"]


def test_gzip_is_read_whatever_the_name_says(raw: Raw) -> None:
    raw.deliver(FILE, GOOD, zipped=True)
    raw.deliver(f"{NEXT_FILE}.gz", GOOD, zipped=True)
    assert raw.capture(DAY, NEXT).rows == {DAY: 2, NEXT: 2}


BAD: dict[str, tuple[str | bytes, str]] = {
    "a missing column": (csv_text(["1,10"], "id,amount"), "line 1: column 'name' is missing"),
    "an extra column": (csv_text(["1,a,1,x"], "id,name,amount,z"), "'z' is not declared"),
    "no header": (csv_text(["2,b,20"], "1,a,10"), "line 1 names none of the columns"),
    "an empty file": ("", "is empty: it has not even a header"),
    "another encoding": (
        "id,name,amount\n1,é,2\n".encode("latin-1"),
        "line 2, character 3 (column",
    ),
    "an open quote": (csv_text(['1,"a,10', "2,b,20"]), "line 2: a quote is opened and never"),
    "half a gzip file": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "the file was cut off"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_read_fails_its_day_and_no_other(raw: Raw, case: str) -> None:
    text, said = BAD[case]
    raw.deliver(FILE, text)
    raw.deliver(NEXT_FILE, GOOD)
    window = raw.capture(FIRST, DAY, NEXT)
    assert isinstance(window.failed[DAY], SourceRejectedError)
    assert errors(window)[DAY].startswith(f"{FILE}")
    assert said in errors(window)[DAY]
    assert (list(window.failed), window.rows) == ([DAY], {FIRST: 0, NEXT: 2})
    raw.deliver(FILE, GOOD)
    assert raw.capture(FIRST, DAY, NEXT).rows == {FIRST: 0, DAY: 2, NEXT: 2}


def test_a_day_that_fails_keeps_what_it_had_and_leaves_no_files_behind(raw: Raw) -> None:
    raw.entity = entity(extract={"path": "orders/orders-{date:%Y-%m-%d}*.csv"})
    raw.deliver(FILE, GOOD)
    raw.capture()
    before = raw.on_disk()
    raw.deliver(FILE, csv_text(["1,a,99"]))
    raw.deliver(FILE.replace(".csv", "-more.csv"), "")
    window = raw.capture()
    assert (list(window.failed), window.staged) == ([DAY], {})
    assert raw.on_disk() == before
    assert raw.values("amount") == ["10", "20"]


def test_a_file_that_is_still_written_fails_its_day_for_now(raw: Raw) -> None:
    raw.deliver(FILE, GOOD)
    now = datetime.fromtimestamp((raw.landing / FILE).stat().st_mtime, UTC)
    window = raw.capture(at=now + timedelta(seconds=1), settle=2.0)
    assert isinstance(window.failed[DAY], SourceUnavailableError)
    assert raw.capture(at=now + timedelta(seconds=3), settle=2.0).rows == {DAY: 2}


def test_a_file_that_grows_while_it_is_read_fails_its_day_for_now(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw.deliver(FILE, csv_text(["1,a,10", '2,"b']))
    listed = LocalLanding.list_files

    def list_then_grow(landing: LocalLanding, prefix: str = "") -> object:
        found = listed(landing, prefix)
        raw.deliver(FILE, GOOD)
        return found

    monkeypatch.setattr(LocalLanding, "list_files", list_then_grow)
    window = raw.capture()
    assert isinstance(window.failed[DAY], SourceUnavailableError)
    assert "still being written" in errors(window)[DAY]


def test_a_file_that_may_not_be_read_is_named(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    raw.deliver(FILE, GOOD)

    def refuse(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied")

    if os.geteuid():
        (raw.landing / FILE).chmod(stat.S_IWUSR)
    else:  # Root may read everything.
        monkeypatch.setattr(Path, "open", refuse)
    assert errors(raw.capture())[DAY].startswith(f"{FILE} may not be read | give the user")


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
    monkeypatch.setattr("headrace.ingestion.drafts._WAITING_BYTES", 2**20)
    monkeypatch.setattr("headrace.ingestion.drafts._IN_MEMORY_BYTES", 2**10)
    raw.deliver(FILE, csv_text([f"{number},name {number},1" for number in range(100_000)]))
    raw.capture()
    (file,) = raw.files[DAY]
    assert file.footer is not None
    assert file.footer.num_row_groups > 1
    assert file.rows == 100_000
    assert raw.values("_line") == list(range(2, 100_002))


HEADER = "id,sold_at"


def test_rows_go_to_the_days_they_name(undated_raw: Raw) -> None:
    raw = undated_raw
    raw.deliver(
        "orders/a.csv",
        csv_text(
            ["1,1/1/2017 8:26", "2,1/2/2017 0:00", "3,1/1/2017 23:59", "4,1/3/2017 1:00"], HEADER
        ),
    )
    window = raw.capture(DAY, NEXT)
    assert (raw.values("id"), raw.values("id", NEXT)) == (["1", "3"], ["2"])
    assert (raw.values("_line"), window.rows) == ([2, 4], {DAY: 2, NEXT: 1})
    assert raw.values("_partition_date", NEXT) == [NEXT]
    assert window.unplaced == {}


def test_rows_whose_day_cannot_be_read_go_to_the_first_partition(undated_raw: Raw) -> None:
    raw = undated_raw
    lines = ["1,1/1/2017 8:26", "2,soon", '"3,x","1/1/1917 0:00"', "4", "5,"]
    raw.deliver("orders/a.csv", csv_text(lines, HEADER))
    window = raw.capture(DAY, NEXT)
    # They belong to a day that was not asked for, and the caller is told.
    assert (window.rows, window.unplaced) == ({DAY: 1, NEXT: 0}, {"orders/a.csv": 4})
    window = raw.capture(FIRST, DAY)
    assert (window.rows, window.unplaced) == ({FIRST: 4, DAY: 1}, {})
    found = raw.rows(FIRST)
    assert [(row["_corrupt_record"], row["_corrupt_reason"]) for row in found] == [
        ("2,soon", "sold_at: no readable day"),
        ('"3,x",1/1/1917 0:00', "sold_at: day outside the partitions"),
        ("4", "too few fields"),
        ("5,", "sold_at: no readable day"),
    ]
    assert {row["id"] for row in found} == {None}


def test_days_that_a_new_delivery_does_not_change_are_not_captured_again(undated_raw: Raw) -> None:
    raw = undated_raw
    lines = ["1,1/1/2017 8:26", "2,1/2/2017 8:26"]
    raw.deliver("orders/a.csv", csv_text(lines, HEADER))
    raw.capture(DAY, NEXT)
    raw.deliver("orders/a.csv", csv_text(["9,1/2/2017 0:01", *lines], HEADER))
    window = raw.capture(DAY, NEXT)
    assert {day: len(some.files) for day, some in window.staged.items()} == {DAY: 0, NEXT: 1}
    assert raw.values("id", NEXT) == ["9", "2"]


def test_rows_that_a_new_delivery_leaves_out_are_gone_from_their_day(undated_raw: Raw) -> None:
    raw = undated_raw
    raw.deliver("orders/a.csv", csv_text(["1,1/1/2017 8:26", "2,1/2/2017 8:26"], HEADER))
    raw.capture(DAY, NEXT)
    raw.deliver("orders/a.csv", csv_text(["2,1/2/2017 8:26"], HEADER))
    assert raw.capture(DAY, NEXT).rows == {DAY: 0, NEXT: 1}
    assert (raw.rows(DAY), raw.values("id", NEXT)) == ([], ["2"])


def test_a_file_of_any_day_that_cannot_be_read_fails_all_days(undated_raw: Raw) -> None:
    raw = undated_raw
    raw.deliver("orders/a.csv", csv_text(["1,1/1/2017 8:26"], HEADER))
    raw.deliver("orders/b.csv", "")
    window = raw.capture(DAY, NEXT)
    assert list(window.failed) == [DAY, NEXT]
    assert raw.on_disk() == set()


def test_many_days_in_any_order_are_captured_from_one_file(undated_raw: Raw) -> None:
    raw = undated_raw
    days = [DAY + timedelta(number % 90) for number in range(9_000)]
    lines = [f"{n},{d.month}/{d.day}/{d.year} 1:00" for n, d in enumerate(days)]
    raw.deliver("orders/a.csv", csv_text(lines, HEADER))
    window = raw.capture(*sorted(set(days)))
    assert window.rows == dict.fromkeys(sorted(set(days)), 100)
    assert raw.values("id") == [str(number) for number in range(0, 9_000, 90)]


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
    window = capture(raw.entity, LocalLanding(raw.landing), folder, {}, [DAY, NEXT], run)
    (file,) = window.staged[DAY].files
    key = file.path.removeprefix("s3://")
    assert pq.read_table(key, filesystem=filesystem)["amount"].to_pylist() == ["10", "20"]
    assert filesystem.get_file_info(key).size == file.size_bytes
    assert captured_versions([file])[0].rows == 2
    folder.delete([file, replace(file, path=f"s3://{path}/gone.parquet")])
    assert filesystem.get_file_info(key).type == fs.FileType.NotFound


def test_memory_does_not_grow_with_the_file(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{number},{'x' * 60},1" for number in range(20_000)]
    monkeypatch.setattr("headrace.ingestion.drafts._WAITING_BYTES", 2**20)
    write = DayDraft.write
    held: list[int] = []

    def watched(draft: DayDraft, batches: Sequence[pa.RecordBatch]) -> None:
        held.append(pa.total_allocated_bytes())
        write(draft, batches)

    monkeypatch.setattr(DayDraft, "write", watched)
    peaks = []
    for times in (10, 30):
        raw.deliver(FILE, csv_text(lines * times))
        held.clear()
        assert raw.capture().rows == {DAY: 20_000 * times}
        assert len(held) > times
        peaks.append(max(held))
    assert peaks[1] < 1.5 * peaks[0]
