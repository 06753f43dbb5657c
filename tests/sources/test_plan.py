"""What a capture has to read, decided without reading."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from headrace.config.settings import PartitionSettings
from headrace.config.sources.file_source import FileEntity
from headrace.sources.base import Captured, CapturedVersion, CapturePlan, CaptureRun
from headrace.sources.files.plan import OTHER_DAYS, listing_id, path_id, plan_files
from headrace.sources.landing.landing_zone import StoredFile
from tests.raw.building import DAY, FIRST, NEXT, entity, undated

WRITTEN = datetime(2017, 1, 5, tzinfo=UTC)
THIRD = date(2017, 1, 3)
DAYS_THAT_EXIST = PartitionSettings(start=FIRST)


def file(path: str, version: str = "1") -> StoredFile:
    return StoredFile(path, 10, version, WRITTEN)


def named(day: date, version: str = "1") -> StoredFile:
    return file(f"orders/orders-{day}.csv", version)


def captured(stored: StoredFile, described: FileEntity | None = None) -> CapturedVersion:
    as_read = listing_id(stored, described or entity(), DAYS_THAT_EXIST)
    return CapturedVersion(WRITTEN, path_id(stored), "c" * 16, as_read, 5)


def planned(
    described: FileEntity,
    listing: list[StoredFile],
    known: Captured,
    days: list[date],
    settle_seconds: float = 0.0,
    **changes: Any,
) -> CapturePlan:
    run = CaptureRun("shop.orders", "b", WRITTEN + timedelta(seconds=10), DAYS_THAT_EXIST)
    return plan_files(described, listing, known, days, replace(run, **changes), settle_seconds)


def read(plan: CapturePlan) -> list[tuple[tuple[date, ...], tuple[StoredFile, ...]]]:
    """What a plan reads: by unit, its partitions and files."""
    return [(unit.partitions, tuple(o.locator for o in unit.objects)) for unit in plan.units]


def test_new_files_are_read_and_known_ones_are_not() -> None:
    listing = [named(NEXT), named(DAY), file("orders/readme.txt")]
    plan = planned(entity(), listing, {DAY: [captured(named(DAY))]}, [THIRD, NEXT, DAY])
    assert read(plan) == [((NEXT,), (named(NEXT),))]
    assert (plan.unchanged, plan.failed, plan.held) == ((DAY, THIRD), {}, {})


def test_one_day_and_many_make_the_same_plan() -> None:
    days = [DAY + timedelta(number) for number in range(30)]
    listing = [named(day) for day in days]
    whole = planned(entity(), listing, {}, days)
    parts = [planned(entity(), listing, {}, [day]) for day in days]
    assert whole.units == tuple(unit for part in parts for unit in part.units)


def test_a_changed_file_is_read_again() -> None:
    known = {DAY: [captured(named(DAY, "1"))]}
    assert planned(entity(), [named(DAY, "2")], known, [DAY]).unchanged == ()


def test_a_file_that_changed_back_is_compared_with_the_latest_version_alone() -> None:
    first, second = captured(named(DAY, "1")), captured(named(DAY, "2"))
    known = {DAY: [replace(second, captured_at=WRITTEN + timedelta(1)), first]}
    assert planned(entity(), [named(DAY, "1")], known, [DAY]).unchanged == ()


def test_every_file_is_read_again_once_it_is_read_differently() -> None:
    known = {DAY: [captured(named(DAY))]}
    columns = [{"name": "id", "type": "bigint"}, {"name": "note", "type": "string"}]
    for other in (entity(extract={"format": {"encoding": "cp1252"}}), entity(columns=columns)):
        assert planned(other, [named(DAY)], known, [DAY]).unchanged == ()
    described = entity(description="something else", quality={"min_rows": 1})
    assert planned(described, [named(DAY)], known, [DAY]).unchanged == (DAY,)


def test_a_day_without_a_file_is_held_or_empty_as_declared() -> None:
    assert planned(entity(), [], {}, [DAY]).unchanged == (DAY,)
    held = entity(extract={"missing_file": "hold"})
    plan = planned(held, [named(NEXT)], {}, [DAY, NEXT])
    assert plan.held[DAY].startswith(
        "there is no file orders/orders-2017-01-01.csv; the day waits for it without a limit"
    )
    assert [unit.partitions for unit in plan.units] == [(NEXT,)]
    # What was captured does not go when the source clears its folder.
    assert planned(held, [], {DAY: [captured(named(DAY))]}, [DAY]).unchanged == (DAY,)


def test_a_day_without_a_file_is_held_unless_something_else_is_declared() -> None:
    plain: dict[str, Any] = {
        "name": "o",
        "extract": {"mode": "files", "path": "{date:%Y-%m-%d}.csv"},
    }
    plain |= {"key": ["id"], "columns": [{"name": "id", "type": "bigint"}]}
    assert [*planned(FileEntity.model_validate(plain), [], {}, [DAY]).held] == [DAY]


def test_days_on_which_no_file_is_expected_are_empty_without_one() -> None:
    working = {"expected_on": ["mon", "tue"], "closed_on": ["01-02", date(2017, 1, 10)]}
    shop = entity(extract={"missing_file": "hold", **working})
    days = [DAY + timedelta(days=n) for n in range(11)]
    plan = planned(shop, [], {}, days)
    # A Tuesday and a Monday: the other Monday is New Year's, the other Tuesday is closed, too.
    assert [*plan.held] == [date(2017, 1, 3), date(2017, 1, 9)]
    assert (len(plan.unchanged), plan.overdue) == (9, ())


def test_a_day_is_held_until_its_file_is_overdue_and_empty_with_a_warning_then() -> None:
    late = entity(extract={"missing_file": "hold", "expected_by": "2d 06:30"})
    due = datetime(2017, 1, 3, 6, 30, tzinfo=UTC)
    plan = planned(late, [], {}, [DAY], captured_at=due - timedelta(seconds=1))
    assert "waits for it until 2017-01-03 06:30 UTC" in plan.held[DAY]
    plan = planned(late, [], {}, [DAY], captured_at=due)
    assert (plan.held, plan.unchanged, plan.overdue) == ({}, (DAY,), (DAY,))


@pytest.mark.parametrize(
    ("declared", "cron"),
    [
        ({"expected_by": "06:00"}, "0 6 * * 0,1,2,3,4,5,6"),
        ({"expected_by": "06:30", "expected_on": ["mon", "fri"]}, "30 6 * * 2,6"),
        ({"expected_by": "2d 00:05", "expected_on": ["fri", "sat"]}, "5 0 * * 0,1"),
        ({}, None),
    ],
)
def test_deadlines_come_on_the_days_after_those_that_are_expected(
    declared: dict[str, Any], cron: str | None
) -> None:
    assert entity(extract=declared).extract.deadlines() == cron


def test_a_time_that_yaml_reads_as_a_number_is_a_time() -> None:
    assert entity(extract={"expected_by": 630}).extract.expected_by == "10:30"
    assert entity(extract={"expected_by": "00:00"}).extract.waits_until(DAY) == datetime(
        2017, 1, 2, tzinfo=UTC
    )


def reference(version: str = "1") -> StoredFile:
    written = datetime(2017, 1, 3, 9, tzinfo=UTC)
    return replace(file("products.csv", version), modified_at=written)


def test_a_file_without_a_day_belongs_to_the_first_and_its_later_versions_to_their_own() -> None:
    products = entity(extract={"path": "products.csv"})
    days = [FIRST, DAY, NEXT, THIRD]
    assert read(planned(products, [reference()], {}, days)) == [((FIRST,), (reference(),))]
    elsewhere = planned(products, [reference()], {}, days[1:])
    assert elsewhere.notices == {OTHER_DAYS: (f"products.csv to {FIRST}",)}
    known = {FIRST: [captured(reference(), products)]}
    assert read(planned(products, [reference()], known, days)) == []
    later = reference(version="2")
    assert read(planned(products, [later], known, days)) == [((THIRD,), (later,))]
    # Where days were declared to end, what comes after the last belongs to it.
    ended = PartitionSettings(start=FIRST, end=THIRD)
    plan = planned(products, [later], known, days[:3], partitions=ended)
    assert read(plan) == [((NEXT,), (later,))]


def test_a_file_without_a_day_never_goes_back_before_what_was_captured_of_it() -> None:
    products = entity(extract={"path": "products.csv"})
    known = {date(2017, 1, 4): [captured(reference(), products)]}
    older = reference(version="2")
    days = [THIRD, date(2017, 1, 4)]
    assert [u.partitions for u in planned(products, [older], known, days).units] == [(days[1],)]


def test_a_folder_that_cannot_be_looked_into_fails_the_days_whose_files_may_lie_there() -> None:
    by_month = entity(extract={"path": "{date:%Y}/{date:%m}/orders-{date:%d}.csv"})
    locked = replace(file("2017/01/"), problem="cannot be listed: Permission denied")
    plan = planned(by_month, [locked], {}, [FIRST, DAY, NEXT])
    assert [*plan.failed] == [DAY, NEXT]
    assert "2017/01/ cannot be listed" in str(plan.failed[DAY])
    assert planned(entity(), [locked], {}, [DAY]).failed == {}


def test_a_file_that_may_still_be_written_holds_its_day_back_and_no_other() -> None:
    young = replace(named(DAY), modified_at=WRITTEN + timedelta(seconds=9))
    plan = planned(entity(), [young, named(NEXT)], {}, [DAY, NEXT], settle_seconds=2)
    assert "orders-2017-01-01.csv was written at 00:00:09" in str(plan.failed[DAY])
    assert [unit.partitions for unit in plan.units] == [(NEXT,)]


def test_files_whose_rows_say_their_day_are_read_once_for_all_days() -> None:
    listing = [file("orders/b.csv"), file("orders/a.csv")]
    plan = planned(undated(), listing, {}, [NEXT, DAY])
    assert read(plan) == [((DAY, NEXT), (listing[1], listing[0]))]
    known = {day: [captured(listing[1], undated())] for day in (DAY, NEXT)}
    plan = planned(undated(), listing, known, [DAY, NEXT])
    assert read(plan) == [((DAY, NEXT), (listing[0],))]
