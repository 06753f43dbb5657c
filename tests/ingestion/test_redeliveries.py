"""Files that are corrected, repeated or gone: which of their versions count in raw."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.ingestion.building import (
    DAY,
    FILE,
    GOOD,
    START,
    Raw,
    csv_text,
    entity,
    read,
)


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
