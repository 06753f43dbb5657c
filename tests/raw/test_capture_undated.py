"""Files without a day in their names: their rows go to the days that they name themselves."""

import os
from datetime import date, timedelta
from typing import Any

from headrace.config.settings import PartitionSettings
from headrace.raw.manifest import captured_content
from tests.raw.building import (
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
    assert (raw.values("_source_position"), window.rows) == ([2, 4], {DAY: 2, NEXT: 1})
    assert raw.values("_partition_date", NEXT) == [NEXT]
    assert window.unplaced == {}


def test_rows_whose_day_cannot_be_read_go_to_the_first_partition(undated_raw: Raw) -> None:
    raw = undated_raw
    lines = ["1,1/1/2017 8:26", "2,soon", '"3,x","1/1/1917 0:00"', "4", "5,"]
    raw.deliver("orders/a.csv", csv_text(lines, HEADER))
    window = raw.capture(DAY, NEXT)
    # They belong to a day that was not asked for, and the caller is told.
    assert (window.rows, window.unplaced) == ({DAY: 1, NEXT: 0}, {"orders/a.csv": 3})
    window = raw.capture(FIRST, DAY)
    assert (window.rows, window.unplaced) == ({FIRST: 3, DAY: 1}, {})
    found = raw.rows(FIRST)
    assert [(row["_corrupt_record"], row["_corrupt_reason"]) for row in found] == [
        ("2,soon", "sold_at: no readable day"),
        ("4", "too few fields"),
        ("5,", "sold_at: no readable day"),
    ]
    assert {row["id"] for row in found} == {None}


def widened(start: date, end: date | None = None) -> dict[str, Any]:
    return {"partitions": PartitionSettings(start=start, end=end)}


def test_rows_outside_the_partitions_are_counted_and_no_day_is_the_worse_for_them(
    undated_raw: Raw,
) -> None:
    raw = undated_raw
    lines = ["1,12/1/2016 8:00", "2,12/2/2016 8:00", "3,1/1/2017 8:00", "4,1/2/2017 8:00"]
    raw.deliver("orders/dump.csv", csv_text(lines, HEADER))
    window = raw.capture(DAY, **widened(DAY, NEXT))
    assert (window.rows, window.outside) == ({DAY: 1}, {"orders/dump.csv": 3})
    assert [row["_corrupt_record"] for row in raw.rows()] == [None]
    assert window.warnings() == [
        "3 rows are of days outside the partitions and are left out: orders/dump.csv"
    ]


def test_days_that_come_to_exist_are_captured_from_files_already_captured(undated_raw: Raw) -> None:
    raw = undated_raw
    lines = ["1,12/31/2016 8:00", "2,1/1/2017 8:00", "3,1/2/2017 8:00", "4,soon"]
    raw.deliver("orders/dump.csv", csv_text(lines, HEADER))
    raw.capture(DAY, **widened(DAY, NEXT))
    assert [row["_corrupt_record"] for row in raw.rows()] == [None, "4,soon"]
    window = raw.capture(FIRST, DAY, NEXT, **widened(FIRST))
    assert (window.rows, window.outside) == ({FIRST: 2, DAY: 1, NEXT: 1}, {})
    # A row without a day belongs to the first one, which is another one now.
    assert [row["_corrupt_record"] for row in raw.rows(FIRST)] == [None, "4,soon"]
    assert [row["_corrupt_record"] for row in raw.rows()] == [None]


def test_a_file_that_lacks_a_column_fails_the_days_of_its_rows_alone(undated_raw: Raw) -> None:
    raw = undated_raw
    raw.deliver("orders/a.csv", csv_text(["1,1/1/2017 8:26", "2,1/2/2017 8:26"], HEADER))
    raw.deliver("orders/b.csv", csv_text(["1/2/2017 9:00", "1/3/2017 9:00"], "sold_at"))
    window = raw.capture(FIRST, DAY, NEXT)
    assert (list(window.failed), window.rows) == ([NEXT], {FIRST: 0, DAY: 1})
    assert {path.parent.name for path in raw.on_disk()} == {f"_pd={DAY}"}
    raw.deliver("orders/b.csv", csv_text(["5,1/2/2017 9:00"], HEADER))
    assert raw.capture(FIRST, DAY, NEXT).rows == {FIRST: 0, DAY: 1, NEXT: 2}


def test_a_file_that_breaks_later_fails_the_days_that_it_had_rows_for(undated_raw: Raw) -> None:
    raw = undated_raw
    raw.deliver("orders/a.csv", csv_text(["1,1/1/2017 8:26"], HEADER))
    raw.capture(FIRST, DAY, NEXT)
    raw.deliver("orders/a.csv", csv_text(["1/2/2017 8:26"], "sold_at"))
    window = raw.capture(FIRST, DAY, NEXT)
    assert (list(window.failed), window.rows) == ([DAY, NEXT], {FIRST: 0})
    assert raw.values("id") == ["1"]


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


def test_a_file_that_is_overwritten_by_an_older_one_changes_each_of_its_days(
    undated_raw: Raw,
) -> None:
    raw = undated_raw
    raw.deliver("orders/a.csv", csv_text(["1,1/1/2017 8:26", "2,1/2/2017 8:26"], HEADER))
    raw.deliver("orders/b.csv", csv_text(["3,1/2/2017 8:26"], HEADER))
    raw.capture(DAY, NEXT)
    before = {day: captured_content(raw.files[day]) for day in (DAY, NEXT)}
    path = raw.deliver("orders/a.csv", csv_text(["4,1/1/2017 8:26", "2,1/2/2017 9:00"], HEADER))
    os.utime(path, ns=(0, 1))
    window = raw.capture(DAY, NEXT)
    assert {day: len(some.files) for day, some in window.staged.items()} == {DAY: 1, NEXT: 1}
    after = {day: captured_content(raw.files[day]) for day in (DAY, NEXT)}
    assert [day for day in before if before[day] != after[day]] == [DAY, NEXT]
    assert (raw.values("id"), raw.values("id", NEXT)) == (["4"], ["2", "3"])


def test_a_file_that_does_not_say_its_days_fails_all_days(undated_raw: Raw) -> None:
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
