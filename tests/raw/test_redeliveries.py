"""Files that are corrected, repeated or gone: which of their versions count in raw."""

from datetime import timedelta
from pathlib import Path

from headrace.sources.files.plan import SUPERSEDED
from tests.raw.building import (
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
    assert (marker["_source_position"], marker["id"], marker["_partition_date"]) == (0, None, DAY)
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


def stores(raw: Raw) -> None:
    """Make it a source that delivers one file a store and day."""
    raw.entity = entity(
        extract={"path": "{date:%Y-%m-%d}/store-*.csv"}, key=["_source_object", "_source_position"]
    )


def test_equal_files_of_two_stores_both_count_and_are_named(raw: Raw) -> None:
    stores(raw)
    for store in "abc":
        raw.deliver(f"{DAY}/store-{store}.csv", GOOD)
    window = raw.capture()
    assert (window.rows, raw.values("amount")) == ({DAY: 6}, ["10", "20"] * 3)
    # A file under two names is a source's mistake, or none at all: somebody may want to look.
    assert [found.name for found in window.duplicates] == [
        f"{DAY}/store-b.csv", f"{DAY}/store-c.csv",
    ]  # fmt: skip
    assert raw.capture().duplicates == ()


def test_two_swapped_files_that_are_swapped_back_lose_no_row(raw: Raw) -> None:
    stores(raw)
    north, south = csv_text(["3,a,30", "4,b,40"]), csv_text(["1,a,10", "2,b,20"])
    for first, second in ((north, south), (south, north)):
        raw.deliver(f"{DAY}/store-north.csv", first)
        raw.deliver(f"{DAY}/store-south.csv", second)
        raw.capture()
    assert raw.values("amount") == ["10", "20", "30", "40"]


def test_of_equal_files_one_that_is_corrected_takes_nothing_from_the_other(raw: Raw) -> None:
    stores(raw)
    raw.deliver(f"{DAY}/store-a.csv", GOOD)
    raw.deliver(f"{DAY}/store-b.csv", GOOD)
    raw.capture()
    raw.deliver(f"{DAY}/store-a.csv", csv_text(["1,a,99"]))
    raw.capture()
    assert raw.values("amount") == ["99", "10", "20"]


def test_a_file_that_its_source_packs_later_is_no_second_file(raw: Raw) -> None:
    plain = raw.deliver(FILE, GOOD)
    raw.capture()
    plain.unlink()
    raw.deliver(f"{FILE}.gz", GOOD, zipped=True)
    window = raw.capture()
    assert (window.staged[DAY].files, window.rows, window.notices) == ((), {DAY: 2}, {})


def test_of_a_file_and_its_packed_delivery_the_later_counts_and_the_other_is_named(
    raw: Raw,
) -> None:
    raw.deliver(f"{FILE}.gz", GOOD, zipped=True)
    raw.deliver(FILE, csv_text(["1,a,99"]))
    for _ in range(2):
        window = raw.capture()
        assert (window.notices, raw.values("amount")) == ({SUPERSEDED: (f"{FILE}.gz",)}, ["99"])


def test_a_name_in_decomposed_unicode_is_the_same_file(raw: Raw) -> None:
    raw.entity = entity(extract={"path": "caf\u00e9/orders-{date:%Y-%m-%d}.csv"})
    for folder in ("cafe\u0301", "caf\u00e9"):
        raw.deliver(f"{folder}/orders-2017-01-01.csv", csv_text([f"{len(folder)},a,1"]))
        raw.capture()
    assert raw.values("id") == ["4"]


def test_files_of_one_day_with_other_rows_all_count(raw: Raw) -> None:
    raw.entity = entity(extract={"path": "orders/orders-{date:%Y-%m-%d}-*.csv"})
    raw.deliver("orders/orders-2017-01-01-north.csv", csv_text(["1,a,10"]))
    raw.deliver("orders/orders-2017-01-01-south.csv", csv_text(["2,b,20"]))
    assert raw.capture().rows == {DAY: 2}
    assert raw.values("amount") == ["10", "20"]
