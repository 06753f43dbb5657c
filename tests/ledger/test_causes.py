"""Folding: many partitions that failed for one reason are one line."""

from datetime import date, timedelta

from headrace.ledger.causes import UnpublishedPartition, day_ranges, group_by_cause

FIRST = date(2024, 1, 1)


def bad(
    asset: str, partition: date | None, why: str, status: str = "failed"
) -> UnpublishedPartition:
    return UnpublishedPartition(asset, partition, status, why)


def day(number: int) -> date:
    return FIRST + timedelta(days=number - 1)


def lines(*found: UnpublishedPartition) -> list[str]:
    return [cause.line() for cause in group_by_cause(found)]


def test_days_in_a_row_are_a_range() -> None:
    assert day_ranges([day(3), day(1), day(2), day(9)]) == (
        "2024-01-01 to 2024-01-03, 2024-01-09 (4 days)"
    )
    assert day_ranges([day(31), day(32)]) == "2024-01-31 to 2024-02-01 (2 days)"
    assert day_ranges([day(1)]) == "2024-01-01"


def test_one_cause_is_one_line_with_its_days_and_assets() -> None:
    why = "the warehouse is full"
    found = [bad(asset, day(n), why) for asset in ("w/dim_a", "w/fact_b") for n in (1, 2, 3)]
    assert lines(*found) == [
        "failed w/dim_a, w/fact_b 2024-01-01 to 2024-01-03 (3 days): the warehouse is full"
    ]


def test_figures_and_days_in_a_reason_make_no_other_cause() -> None:
    found = [bad("raw/a", day(n), f"a-2024-01-0{n}.csv: line {n * 100}: no 'x'") for n in (1, 2)]
    days = "2024-01-01 to 2024-01-02 (2 days)"
    why = "a-2024-01-01.csv: line 100: no 'x' (the first day's figures)"
    assert lines(*found) == [f"failed raw/a {days}: {why}"]


def test_other_days_other_reasons_and_other_states_stay_apart() -> None:
    assert lines(
        bad("raw/a", day(1), "no file"),
        bad("raw/b", day(2), "no file"),
        bad("raw/a", day(3), "no header"),
        bad("raw/a", day(4), "no file", "held"),
        bad("dim_x", None, "no file"),
    ) == [
        "failed raw/a 2024-01-01: no file",
        "failed raw/b 2024-01-02: no file",
        "failed dim_x: no file",
        "failed raw/a 2024-01-03: no header",
        "held raw/a 2024-01-04: no file",
    ]


def test_nothing_bad_is_no_line() -> None:
    assert lines() == []
