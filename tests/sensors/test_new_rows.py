"""New rows of databases ask for a run of their days, once, whoever captures them."""

from datetime import date

from headrace.errors import SourceUnavailableError
from headrace.pipeline.pending import PendingRows
from sensors.new_rows import RequestedRows, plan_rows

FIRST, LAST = date(2017, 1, 2), date(2017, 1, 9)
NOTHING = RequestedRows({})


def found(**digests: dict[date, str]) -> PendingRows:
    return PendingRows({k: v for k, v in digests.items() if v}, {}, tuple(digests))


def test_no_new_rows_ask_for_no_run() -> None:
    assert plan_rows(NOTHING, found(orders={})).window is None


def test_new_rows_ask_for_the_days_that_they_lie_in() -> None:
    plan = plan_rows(NOTHING, found(orders={FIRST: "a"}, visits={LAST: "b"}))
    assert plan.window == (FIRST, LAST)


def test_the_same_rows_are_asked_for_once_and_more_rows_again() -> None:
    first = plan_rows(NOTHING, found(orders={FIRST: "a"}))
    known = RequestedRows.parse(first.cursor.dump())
    assert plan_rows(known, found(orders={FIRST: "a"})).window is None
    assert plan_rows(known, found(orders={FIRST: "b"})).window == (FIRST, FIRST)
    captured = plan_rows(known, found(orders={})).cursor
    assert plan_rows(captured, found(orders={FIRST: "a"})).window == (FIRST, FIRST)


def test_a_table_that_cannot_be_looked_at_keeps_what_was_asked() -> None:
    known = plan_rows(NOTHING, found(orders={FIRST: "a"})).cursor
    error = SourceUnavailableError("it is down", fix="start it")
    plan = plan_rows(known, PendingRows({}, {"orders": error}, ("orders",)))
    assert (plan.window, plan.cursor.requested) == (None, known.requested)


def test_a_look_begins_after_the_table_at_which_the_last_one_ended() -> None:
    assert RequestedRows({}, "b").in_turn(["a", "b", "c"]) == ["c", "a", "b"]
    assert RequestedRows({}, "gone").in_turn(["a", "b"]) == ["a", "b"]


def test_a_cursor_that_cannot_be_read_starts_over() -> None:
    assert RequestedRows.parse("not json") == RequestedRows.parse(None) == NOTHING
