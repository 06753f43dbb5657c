"""What a capture has to read, decided without reading."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from headrace.ingestion.landing import StoredFile
from headrace.ingestion.plan import CapturePlan, Delivery, listing_id, path_id, plan_capture
from headrace.ingestion.versions import CapturedVersion
from tests.ingestion.building import DAY, NEXT, entity, undated

WRITTEN = datetime(2017, 1, 5, tzinfo=UTC)
THIRD = date(2017, 1, 3)


def file(path: str, version: str = "1") -> StoredFile:
    return StoredFile(path, 10, version, WRITTEN)


def named(day: date, version: str = "1") -> StoredFile:
    return file(f"orders/orders-{day}.csv", version)


def captured(stored: StoredFile, described: object = None) -> CapturedVersion:
    as_read = listing_id(stored, described or entity())  # type: ignore[arg-type]
    return CapturedVersion(WRITTEN, path_id(stored), "c" * 16, as_read, 5)


def test_new_files_are_read_and_known_ones_are_not() -> None:
    listing = [named(NEXT), named(DAY), file("orders/readme.txt")]
    plan = plan_capture(entity(), listing, {DAY: [captured(named(DAY))]}, [THIRD, NEXT, DAY])
    assert plan == CapturePlan((Delivery((NEXT,), (named(NEXT),)),), unchanged=(DAY, THIRD))


def test_one_day_and_many_make_the_same_plan() -> None:
    days = [DAY + timedelta(number) for number in range(30)]
    listing = [named(day) for day in days]
    whole = plan_capture(entity(), listing, {}, days)
    parts = [plan_capture(entity(), listing, {}, [day]) for day in days]
    assert whole.deliveries == tuple(d for part in parts for d in part.deliveries)


def test_a_changed_file_is_read_again() -> None:
    known = {DAY: [captured(named(DAY, "1"))]}
    assert plan_capture(entity(), [named(DAY, "2")], known, [DAY]).unchanged == ()


def test_a_file_that_changed_back_is_compared_with_the_latest_version_alone() -> None:
    first, second = captured(named(DAY, "1")), captured(named(DAY, "2"))
    known = {DAY: [replace(second, captured_at=WRITTEN + timedelta(1)), first]}
    assert plan_capture(entity(), [named(DAY, "1")], known, [DAY]).unchanged == ()


def test_every_file_is_read_again_once_it_is_read_differently() -> None:
    known = {DAY: [captured(named(DAY))]}
    columns = [{"name": "id", "type": "bigint"}, {"name": "note", "type": "string"}]
    for other in (entity(extract={"format": {"encoding": "cp1252"}}), entity(columns=columns)):
        assert plan_capture(other, [named(DAY)], known, [DAY]).unchanged == ()
    described = entity(description="something else", quality={"min_rows": 1})
    assert plan_capture(described, [named(DAY)], known, [DAY]).unchanged == (DAY,)


def test_a_day_without_a_file_is_empty_or_waits_as_declared() -> None:
    assert plan_capture(entity(), [], {}, [DAY]).unchanged == (DAY,)
    held = entity(extract={"missing_file": "hold"})
    plan = plan_capture(held, [named(NEXT)], {}, [DAY, NEXT])
    assert str(plan.failed[DAY]) == (
        "orders: there is no file for 2017-01-01: orders/orders-2017-01-01.csv"
    )
    assert [delivery.days for delivery in plan.deliveries] == [(NEXT,)]
    # What was captured does not go when the source clears its folder.
    assert plan_capture(held, [], {DAY: [captured(named(DAY))]}, [DAY]).unchanged == (DAY,)


def test_a_file_that_may_still_be_written_holds_its_day_back_and_no_other() -> None:
    young = replace(named(DAY), modified_at=WRITTEN + timedelta(seconds=9))
    settled_before = WRITTEN + timedelta(seconds=8)
    plan = plan_capture(
        entity(), [young, named(NEXT)], {}, [DAY, NEXT], settled_before=settled_before
    )
    assert "orders-2017-01-01.csv was written at 00:00:09" in str(plan.failed[DAY])
    assert [delivery.days for delivery in plan.deliveries] == [(NEXT,)]


def test_files_whose_rows_say_their_day_are_read_once_for_all_days() -> None:
    listing = [file("orders/b.csv"), file("orders/a.csv")]
    plan = plan_capture(undated(), listing, {}, [NEXT, DAY])
    assert plan.deliveries == (Delivery((DAY, NEXT), (listing[1], listing[0])),)
    known = {day: [captured(listing[1], undated())] for day in (DAY, NEXT)}
    plan = plan_capture(undated(), listing, known, [DAY, NEXT])
    assert plan.deliveries == (Delivery((DAY, NEXT), (listing[0],)),)
