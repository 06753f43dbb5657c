"""Changes of members: the rows of a shop's daily change files of products and households.

The data set has one state of each member. Here some get a history through the year, with the faults
of real exports: changes delivered days late, wrong and corrected later, or repeated; members that
are deleted and inserted again; members that are sold before they are exported.
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
# Shares of members with two changes, and of changes that are late, corrected later, or repeated.
_TWICE, _LATE, _CORRECTED, _REPEATED = 0.10, 0.20, 0.05, 0.02
_MAX_DAYS_LATE, _MAX_DAYS_TO_CORRECT, _MAX_DAYS_UNKNOWN = 10, 20, 60


class Dice:
    """Random draws of one member, seeded by its name, independent of other members.

    `random()` is the only method whose sequence Python guarantees between versions.
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
    """One row of a change file.

    Attributes:
        delivered_on: Day of the file.
        changed_at: Event time; on an earlier day if the row is late.
        operation: INSERT, UPDATE or DELETE.
        member: All columns after the change; for a DELETE the key only.
    """

    delivered_on: date
    changed_at: datetime
    operation: str
    member: Member


@dataclass(frozen=True)
class History:
    """Rules by which members of one kind change.

    Attributes:
        name: The kind, a part of the seeds.
        key: Key column.
        share: Share of members that change, 0 to 1.
        new_share: Share of members that are first delivered days or weeks after the first day.
        change: Makes another state of a member.
        first_day: Day of the first, full file.
        last_day: Last day of changes and of change files.
    """

    name: str
    key: str
    share: float
    new_share: float
    change: ChangeMember
    first_day: date
    last_day: date

    def is_new(self, key: object) -> bool:
        """Whether the first day's file lacks the member."""
        return self._is_drawn(key, self.new_share, "new")

    def is_chosen(self, key: object) -> bool:
        """Whether change files have rows of the member, because it is new or changes."""
        return self.is_new(key) or self._is_drawn(key, self.share, "change")

    def changes(
        self, members: Iterable[Member], absences: Mapping[Any, tuple[date, date]]
    ) -> list[Change]:
        """All rows of the change files, by day, then time, then key.

        Args:
            members: Their states on the first day, in any order.
            absences: By key, the days on which a member is deleted and inserted again, at night; it
                has no other changes.
        """
        rows = [change for member in members for change in self._of_member(member, absences)]
        return sorted(rows, key=lambda r: (r.delivered_on, r.changed_at, r.member[self.key]))

    def _of_member(
        self, member: Member, absences: Mapping[Any, tuple[date, date]]
    ) -> Iterator[Change]:
        key = member[self.key]
        dice = Dice(f"{self.name} {key}")
        if self.is_new(key):
            delivered_on = self.first_day + timedelta(days=1 + dice.below(_MAX_DAYS_UNKNOWN))
            yield Change(delivered_on, _at_night(delivered_on), INSERT, member)
        elif key in absences:
            yield from self._absence(dice, member, *absences[key])
        elif self.is_chosen(key):
            for at in sorted(self._moment(dice) for _ in range(2 if dice.chance(_TWICE) else 1)):
                member = self.change(dice, member)
                yield from self._deliveries(dice, Change(at.date(), at, UPDATE, member))
            if dice.chance(_REPEATED) and at.date() < self.last_day:
                # An update without a change.
                again = self._later(dice, Change(at.date(), at, UPDATE, member), _MAX_DAYS_LATE)
                yield replace(again, changed_at=_at_night(again.delivered_on))

    def _deliveries(self, dice: Dice, change: Change) -> Iterator[Change]:
        """The rows of a change: on its day or late; sometimes a wrong one before the right one."""
        if dice.chance(_LATE):
            change = self._later(dice, change, _MAX_DAYS_LATE)
        if dice.chance(_CORRECTED) and change.delivered_on < self.last_day:
            yield replace(change, member=self.change(dice, change.member))
            change = self._later(dice, change, _MAX_DAYS_TO_CORRECT)
        yield change

    def _absence(self, dice: Dice, member: Member, first: date, last: date) -> Iterator[Change]:
        only_key = dict.fromkeys(member) | {self.key: member[self.key]}
        delete = Change(first, _at_night(first), DELETE, only_key)
        yield self._later(dice, delete, _MAX_DAYS_LATE) if dice.chance(_LATE) else delete
        yield Change(last, _at_night(last), INSERT, self.change(dice, member))

    def _later(self, dice: Dice, change: Change, max_days: int) -> Change:
        delivered_on = change.delivered_on + timedelta(days=1 + dice.below(max_days))
        return replace(change, delivered_on=min(delivered_on, self.last_day))

    def _moment(self, dice: Dice) -> datetime:
        """A random second within the opening hours of any day but the first."""
        days = (self.last_day - self.first_day).days
        day = self.first_day + timedelta(days=1 + dice.below(days))
        return _midnight(day) + timedelta(seconds=dice.pick(_OPEN_SECONDS))

    def _is_drawn(self, key: object, share: float, purpose: str) -> bool:
        # By a hash of the key, independent of other members.
        return drawn(f"{purpose} {self.name} {key}") < share


def drawn(name: str) -> float:
    """A uniform number in [0, 1) from a hash of the name."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) / 2**64


def _at_night(day: date) -> datetime:
    return _midnight(day) + timedelta(hours=3)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)  # noqa: DTZ001 - local time of the store
