"""Members that change: what a shop's export of changes says of its products and households.

The wheel knows one state of each. Here some get a history through the year, with the trouble that
real exports have: changes told days late, told wrong and corrected, told again, members that leave
and come back, members that are sold before the export knows them.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from hashlib import blake2b
from typing import Any

Member = dict[str, Any]
ChangeMember = Callable[["Dice", Member], Member]

INSERT, UPDATE, DELETE = "I", "U", "D"

_OPEN_SECONDS = range(6 * 3600, 22 * 3600)
_TWICE, _LATE, _CORRECTED, _RESENT = 0.10, 0.20, 0.05, 0.02
_MOST_DAYS_LATE, _MOST_DAYS_TO_CORRECT, _MOST_DAYS_UNKNOWN = 10, 20, 60


class Dice:
    """Draws of one member: they depend on its name alone, not on who else is there.

    `random()` is the one method whose sequence Python keeps between versions.
    """

    def __init__(self, name: str) -> None:
        self._random = random.Random(name)  # noqa: S311 - made-up changes, no secret

    def chance(self, share: float) -> bool:
        """True in `share` of the cases."""
        return self._random.random() < share

    def below(self, end: int) -> int:
        """A whole number from 0 to `end` - 1."""
        return int(self._random.random() * end)

    def pick(self, values: Sequence[Any]) -> Any:
        """One of `values`."""
        return values[self.below(len(values))]


@dataclass(frozen=True)
class Change:
    """One row of a file of changes.

    Attributes:
        told_on: Day of the file.
        changed_at: When it happened; before `told_on` if it is told late.
        operation: INSERT, UPDATE or DELETE.
        member: All columns as they then are; after a DELETE the key alone.
    """

    told_on: date
    changed_at: datetime
    operation: str
    member: Member


@dataclass(frozen=True)
class History:
    """How members of one kind change.

    Attributes:
        name: What they are, for the draws.
        key: Column that identifies one.
        share: How many change, from 0 to 1.
        new_share: How many are told of days or weeks after the first day only.
        change: Another state of a member.
        first_day: What is known before the first change holds from here.
        last_day: No change and no file of changes comes later.
    """

    name: str
    key: str
    share: float
    new_share: float
    change: ChangeMember
    first_day: date
    last_day: date

    def is_new(self, key: object) -> bool:
        """Whether the first day's file lacks the member of this key."""
        return self._falls_to(key, self.new_share, "new")

    def is_chosen(self, key: object) -> bool:
        """Whether files of changes tell of the member of this key, be it new or changing."""
        return self.is_new(key) or self._falls_to(key, self.share, "change")

    def changes(
        self, members: Iterable[Member], absences: Mapping[Any, tuple[date, date]]
    ) -> list[Change]:
        """All rows that the files of changes hold, by day, then time, then key.

        Args:
            members: As they are on the first day, in any order.
            absences: By key, the days on whose early mornings a member leaves and comes back; its
                history has nothing else.
        """
        rows = [change for member in members for change in self._of_member(member, absences)]
        return sorted(rows, key=lambda r: (r.told_on, r.changed_at, r.member[self.key]))

    def _of_member(
        self, member: Member, absences: Mapping[Any, tuple[date, date]]
    ) -> Iterator[Change]:
        key = member[self.key]
        dice = Dice(f"{self.name} {key}")
        if self.is_new(key):
            told_on = self.first_day + timedelta(days=1 + dice.below(_MOST_DAYS_UNKNOWN))
            yield Change(told_on, _at_night(told_on), INSERT, member)
        elif key in absences:
            yield from self._absence(dice, member, *absences[key])
        elif self.is_chosen(key):
            for at in sorted(self._moment(dice) for _ in range(2 if dice.chance(_TWICE) else 1)):
                member = self.change(dice, member)
                yield from self._told(dice, Change(at.date(), at, UPDATE, member))
            if dice.chance(_RESENT) and at.date() < self.last_day:
                # Nothing changed, though it says so.
                again = self._later(dice, Change(at.date(), at, UPDATE, member), _MOST_DAYS_LATE)
                yield replace(again, changed_at=_at_night(again.told_on))

    def _told(self, dice: Dice, change: Change) -> Iterator[Change]:
        """A change as the files tell it: on its day or late; at times wrong first, then right."""
        if dice.chance(_LATE):
            change = self._later(dice, change, _MOST_DAYS_LATE)
        if dice.chance(_CORRECTED) and change.told_on < self.last_day:
            yield replace(change, member=self.change(dice, change.member))
            change = self._later(dice, change, _MOST_DAYS_TO_CORRECT)
        yield change

    def _absence(self, dice: Dice, member: Member, left: date, back: date) -> Iterator[Change]:
        only_key = dict.fromkeys(member) | {self.key: member[self.key]}
        gone = Change(left, _at_night(left), DELETE, only_key)
        yield self._later(dice, gone, _MOST_DAYS_LATE) if dice.chance(_LATE) else gone
        yield Change(back, _at_night(back), INSERT, self.change(dice, member))

    def _later(self, dice: Dice, change: Change, most_days: int) -> Change:
        told_on = change.told_on + timedelta(days=1 + dice.below(most_days))
        return replace(change, told_on=min(told_on, self.last_day))

    def _moment(self, dice: Dice) -> datetime:
        """A second of the opening hours of any day but the first."""
        days = (self.last_day - self.first_day).days
        day = self.first_day + timedelta(days=1 + dice.below(days))
        return _midnight(day) + timedelta(seconds=dice.pick(_OPEN_SECONDS))

    def _falls_to(self, key: object, share: float, purpose: str) -> bool:
        # By the key's own hash, so that nobody's lot depends on who else is there.
        return drawn(f"{purpose} {self.name} {key}") < share


def drawn(name: str) -> float:
    """A number from 0 to below 1 that a name always has; numbers of similar names differ."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) / 2**64


def _at_night(day: date) -> datetime:
    return _midnight(day) + timedelta(hours=3)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)  # noqa: DTZ001 - local time, as the till's
