"""What happens to made-up members, and when it is told: every row of many members' years."""

from collections import Counter, defaultdict
from datetime import date, datetime, time, timedelta

import pytest

from demo.history import DELETE, INSERT, UPDATE, Change, Dice, History, Member

FIRST, LAST = date(2017, 1, 1), date(2017, 12, 31)
LEFT, BACK = date(2017, 3, 1), date(2017, 4, 1)
AWAY = range(2000, 2300)
NIGHT = time(3)


def one_step(dice: Dice, member: Member) -> Member:
    """Counts the changes, and is a little different each time."""
    return member | {"steps": member["steps"] + 1, "drawn": dice.below(1_000_000)}


HISTORY = History("thing", "id", 0.5, 0.1, one_step, FIRST, LAST)


@pytest.fixture(scope="module")
def rows() -> list[Change]:
    members = [{"id": n, "steps": 0, "drawn": 0} for n in range(AWAY.stop)]
    return HISTORY.changes(members, dict.fromkeys(AWAY, (LEFT, BACK)))


@pytest.fixture(scope="module")
def instants(rows: list[Change]) -> dict[tuple[int, datetime], list[Change]]:
    """By member and time of a change in opening hours, its rows as they are told."""
    found = defaultdict(list)
    for row in rows:
        if row.changed_at.time() != NIGHT:
            found[row.member["id"], row.changed_at].append(row)
    return found


def days_late(row: Change) -> int:
    return (row.delivered_on - row.changed_at.date()).days


def test_rows_come_by_day_then_time_then_key(rows: list[Change]) -> None:
    order = [(row.delivered_on, row.changed_at, row.member["id"]) for row in rows]
    assert order == sorted(order)


def test_nothing_is_told_after_the_last_day_or_before_it_happened(rows: list[Change]) -> None:
    assert {row.delivered_on for row in rows} <= {FIRST + timedelta(days=n) for n in range(1, 365)}
    assert min(map(days_late, rows)) == 0
    assert rows[-1].delivered_on == LAST


def test_members_change_while_the_shop_is_open(
    instants: dict[tuple[int, datetime], list[Change]],
) -> None:
    hours = Counter(at.hour for _, at in instants)
    assert {*hours} == {*range(6, 22)}
    assert {row.operation for told in instants.values() for row in told} == {UPDATE}


def test_each_change_goes_on_from_the_one_before(
    instants: dict[tuple[int, datetime], list[Change]],
) -> None:
    steps = defaultdict(list)
    for (member, _), told in sorted(instants.items()):
        steps[member].append(told[-1].member["steps"])
    assert Counter(map(tuple, steps.values())).keys() == {(1,), (1, 2)}


def test_what_is_told_late_is_told_within_ten_days(
    instants: dict[tuple[int, datetime], list[Change]],
) -> None:
    late = Counter(days_late(told[0]) for told in instants.values())
    assert {*late} == {*range(11)}
    assert late[0] / late.total() == pytest.approx(0.8, abs=0.05)


def test_what_is_told_wrong_is_told_right_one_to_twenty_days_later(
    instants: dict[tuple[int, datetime], list[Change]],
) -> None:
    corrected = [told for told in instants.values() if len(told) > 1]
    assert len(corrected) / len(instants) == pytest.approx(0.05, abs=0.02)
    assert all(wrong.member != right.member for wrong, right in corrected)
    assert {(right.delivered_on - wrong.delivered_on).days for wrong, right in corrected} <= {
        *range(1, 21)
    }
    assert max((right.delivered_on - wrong.delivered_on).days for wrong, right in corrected) > 10


def test_some_are_told_again_without_a_change(
    rows: list[Change], instants: dict[tuple[int, datetime], list[Change]]
) -> None:
    again = [row for row in rows if row.changed_at.time() == NIGHT and row.operation == UPDATE]
    assert len(again) / len(instants) == pytest.approx(0.02, abs=0.01)
    for row in again:
        member = row.member["id"]
        *_, last = [told for (key, _), told in sorted(instants.items()) if key == member]
        assert row.member == last[-1].member
        assert row.changed_at > last[-1].changed_at


def test_a_member_is_away_from_one_night_to_another_and_comes_back_changed(
    rows: list[Change],
) -> None:
    away = [
        row for row in rows if row.member["id"] in AWAY and not HISTORY.is_new(row.member["id"])
    ]
    gone = [row for row in away if row.operation == DELETE]
    back = [row for row in away if row.operation == INSERT]
    assert len(gone) + len(back) == len(away)
    assert {row.changed_at for row in gone} == {datetime.combine(LEFT, NIGHT)}
    assert {(row.changed_at, row.delivered_on) for row in back} == {
        (datetime.combine(BACK, NIGHT), BACK)
    }
    assert [row.member | {"id": 0} for row in gone] == [
        {"id": 0, "steps": None, "drawn": None}
    ] * len(gone)
    assert {row.member["steps"] for row in back} == {1}
    assert sum(days_late(row) > 0 for row in gone) / len(gone) == pytest.approx(0.2, abs=0.08)


def test_a_new_member_is_told_of_within_two_months_and_does_not_change(rows: list[Change]) -> None:
    new = [row for row in rows if HISTORY.is_new(row.member["id"])]
    assert len({row.member["id"] for row in new}) == len(new)
    assert {row.operation for row in new} == {INSERT}
    assert {row.changed_at for row in new} == {
        datetime.combine(row.delivered_on, NIGHT) for row in new
    }
    days = {(row.delivered_on - FIRST).days for row in new}
    assert days <= {*range(1, 61)}
    assert max(days) > 50
