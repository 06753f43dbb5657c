"""Files without a day in their names: their rows go to the days that they name themselves."""

from datetime import timedelta

from tests.ingestion.building import (
    DAY,
    FIRST,
    NEXT,
    Raw,
    csv_text,
)

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
