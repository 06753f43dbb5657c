"""Which days arriving files ask for: the plan, without servers."""

from datetime import UTC, date, datetime, timedelta

import pytest

from headrace.ledger.seen_files import LandingCursor, SeenFiles
from headrace.sources.landing.landing_zone import StoredFile
from headrace.warehouse.pool import session_pool
from sensors.landing import (
    ArrivalPlan,
    FilesSeen,
    overdue_partitions,
    plan_arrivals,
    seconds_to_wait,
    seen_before,
)
from tests import servers
from tests.raw.building import entity

NOW = datetime(2017, 6, 1, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)


def file(day: int, *, version: str = "1", modified_at: datetime = LONG_AGO) -> StoredFile:
    return StoredFile(f"sales-{day:02d}.csv", 10, version, modified_at)


def plan(
    files: list[StoredFile], seen: FilesSeen | None = None, *, max_days: int = 100
) -> ArrivalPlan:
    listing = [(f, frozenset({date(2017, 1, int(f.path[6:8]))})) for f in files]
    return plan_arrivals(seen or FilesSeen(), listing, now=NOW, settle_seconds=2, max_days=max_days)


def january(day: int) -> date:
    return date(2017, 1, day)


def test_new_files_ask_for_their_days_in_windows() -> None:
    found = plan([file(1), file(2), file(3), file(7)])
    assert found.windows == ((january(1), january(3)), (january(7), january(7)))


def test_what_was_asked_for_is_not_asked_for_again() -> None:
    first = plan([file(1), file(2)])
    assert plan([file(1), file(2)], first.seen).windows == ()


def test_a_replaced_file_asks_for_its_day_again() -> None:
    first = plan([file(1), file(2)])
    found = plan([file(1), file(2, version="2")], first.seen)
    assert found.windows == ((january(2), january(2)),)


def test_a_late_file_of_an_old_day_is_not_missed() -> None:
    first = plan([file(9)])
    assert plan([file(1), file(9)], first.seen).windows == ((january(1), january(1)),)


def test_a_file_that_may_still_be_written_waits_for_a_later_tick() -> None:
    young = file(1, modified_at=NOW - timedelta(seconds=1))
    found = plan([young, file(2)])
    assert found.windows == ((january(2), january(2)),)
    assert found.waiting == 1
    assert plan([file(1), file(2)], found.seen).windows == ((january(1), january(1)),)


def test_a_tick_waits_for_new_files_that_settle_soon_and_for_no_others() -> None:
    def wait(ages: list[float], settle_seconds: float, seen: FilesSeen | None = None) -> float:
        files = [
            file(day, modified_at=NOW - timedelta(seconds=age)) for day, age in enumerate(ages, 1)
        ]
        return seconds_to_wait(seen or FilesSeen(), files, now=NOW, settle_seconds=settle_seconds)

    assert wait([], 2) == 0
    assert wait([60, 2], 2) == 0
    assert wait([60, 0.5, 1], 2) == 1.5
    assert wait([1], 10) == 0, "it is the next tick's"
    assert wait([1, 8], 10) == 2
    asked_for = plan([file(1, modified_at=NOW - timedelta(seconds=2))]).seen
    assert wait([2], 3, asked_for) == 0


def test_a_tick_has_a_budget_and_the_next_one_goes_on() -> None:
    files = [file(day) for day in range(1, 8)]
    first = plan(files, max_days=3)
    assert first.windows == ((january(1), january(3)),)
    second = plan(files, first.seen, max_days=3)
    assert second.windows == ((january(4), january(6)),)


def test_files_of_a_tick_after_the_cursor_do_not_count() -> None:
    table = SeenFiles(session_pool(servers.postgres().uri("warehouse")))
    begun = LandingCursor.new()
    first = table.write(begun, {"a": "1", "b": "1"}, [])
    assert table.read(first) == {"a": "1", "b": "1"}
    # The tick breaks off: Dagster never stores its cursor.
    second = table.write(first, {"b": "2", "c": "1"}, ["a"])
    assert table.read(first) == {}
    assert table.read(second) == {"b": "2", "c": "1"}
    assert LandingCursor.parse(str(second)) == second


def test_a_table_of_an_earlier_release_keeps_its_files() -> None:
    borrow = session_pool(servers.postgres().uri("warehouse"))
    table = SeenFiles(borrow)
    first = table.write(LandingCursor.new(), {"a": "1"}, [])
    with borrow() as session:
        session.execute("alter table platform.seen_file rename column cursor_id to watch")
    assert table.read(first) == {"a": "1"}


def test_files_that_are_gone_are_forgotten() -> None:
    first = plan([file(1), file(2)])
    assert set(plan([file(2)], first.seen).seen.versions) == {"sales-02.csv"}


def test_the_first_tick_leaves_out_what_a_backfill_has_published_since() -> None:
    listing = [(file(n), frozenset({january(n)})) for n in (1, 2, 3)]
    published = {january(1): NOW, january(2): LONG_AGO - timedelta(hours=1)}
    assert set(seen_before(listing, published).versions) == {"sales-01.csv"}


@pytest.mark.parametrize(
    ("partition", "path", "due", "overdue"),
    [
        ("day", "{date:%Y-%m-%d}.csv", datetime(2017, 3, 2, 6, tzinfo=UTC), date(2017, 2, 28)),
        ("month", "{date:%Y-%m}.csv", datetime(2017, 3, 2, 6, tzinfo=UTC), date(2017, 2, 1)),
        ("year", "{date:%Y}.csv", datetime(2018, 1, 2, 6, tzinfo=UTC), date(2017, 1, 1)),
    ],
)
def test_a_period_is_overdue_some_days_after_its_last_day(
    partition: str, path: str, due: datetime, overdue: date
) -> None:
    late = entity(
        partition=partition,
        extract={"path": path, "missing_file": "hold", "expected_by": "2d 06:00"},
    )
    days = [date(2017, 1, 10) + timedelta(days=n) for n in range(400)]
    assert overdue_partitions(late, days, due)[-1] == overdue
    assert overdue not in overdue_partitions(late, days, due - timedelta(seconds=1))
    has_policy = late.deadlines() is not None
    assert has_policy == (partition == "day")
