"""How far the changes of a table are captured: by partition, the transactions that raw has.

A change is captured once its transaction is visible in the snapshot up to which its partition was
read, as PostgreSQL writes snapshots: `xmin:xmax:running`. Most partitions share one snapshot,
`low`; those whose rows wait for a capture of their own are `behind` (decisions/0049).
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from headrace.sources.tables.watermark import order_after

_STATE = "changes"
# A capture's record in the snapshot holds 4 KiB.
_MOST_RANGES, _MOST_SNAPSHOTS, _LONGEST = 20, 3, 600


@dataclass(frozen=True)
class Behind:
    """Partitions from `first` to `last`, whose changes are captured up to `seen` only.

    Attributes:
        seen: A snapshot; None: their rows were never read.
    """

    first: date
    last: date
    seen: str | None


@dataclass(frozen=True)
class SeenChanges:
    """What is known of a table after a capture; stored in the commit of its rows.

    Attributes:
        identity: Of the server and of the change table: another one says nothing of this one.
        low: Up to which snapshot partitions are captured; None: nothing is.
        behind: Exceptions, in the order of their days.
        order: `_delivery_order` of the last capture, so that a later one is greater.
    """

    identity: str = ""
    low: str | None = None
    behind: tuple[Behind, ...] = ()
    order: str = ""

    @classmethod
    def load(cls, stored: Mapping[str, str], reading: str) -> "SeenChanges":
        """From a connector's state.

        Args:
            stored: The state.
            reading: Stands for what is read and how; rows that were read otherwise are read again.
        """
        try:
            known = json.loads(stored.get(_STATE, "{}"))
            order = str(known.get("order", ""))
            if known.get("reading") != reading:
                return cls(order=order)
            snapshots = [None, *map(str, known["snapshots"])]
            behind = tuple(
                Behind(date.fromisoformat(first), date.fromisoformat(last), snapshots[number])
                for first, last, number in known["behind"]
            )
            return cls(str(known["identity"]), snapshots[known["low"]], behind, order)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return cls()

    def dump(self, reading: str) -> dict[str, str]:
        """As a connector's state."""
        snapshots = [*dict.fromkeys([None, self.low, *(some.seen for some in self.behind)])]
        known: dict[str, Any] = {
            "reading": reading,
            "identity": self.identity,
            "order": self.order,
            "snapshots": snapshots[1:],
            "low": snapshots.index(self.low),
            "behind": [
                [some.first.isoformat(), some.last.isoformat(), snapshots.index(some.seen)]
                for some in self.behind
            ],
        }
        return {_STATE: json.dumps(known, separators=(",", ":"))}

    def of_log(self, identity: str) -> "SeenChanges":
        """The same for a change table; of another one than before, nothing is captured."""
        return self if identity == self.identity else SeenChanges(identity, order=self.order)

    def next_order(self, now: datetime) -> str:
        """`_delivery_order` of a capture at `now`: greater than that of the one before it."""
        return order_after(self.order, now)

    def seen_of(self, partition: date) -> str | None:
        """Up to which snapshot a partition is captured; None: it was never read."""
        found = (some for some in self.behind if some.first <= partition <= some.last)
        return next((some.seen for some in found), self.low)

    def after(
        self, now: str, unseen: Collection[date], captured: Collection[date], order: str
    ) -> "SeenChanges":
        """What is captured after a look at `now`.

        Args:
            now: The look's snapshot.
            unseen: Partitions that had rows which were not captured.
            captured: Those of them that are captured now.
            order: Of the capture.
        """
        behind: list[Behind] = []
        is_next = False
        for day in sorted({*unseen, *captured}):
            if day in captured:
                is_next = False
                continue
            seen = self.seen_of(day)
            if is_next and behind[-1].seen == seen:
                behind[-1] = replace(behind[-1], last=day)
            else:
                behind.append(Behind(day, day, seen))
            is_next = True
        return replace(self, low=now, behind=_fewer(behind), order=order)


def shortened(snapshot: str) -> str:
    """A snapshot of a bounded length: of many running transactions, all count as running."""
    if len(snapshot) <= _LONGEST:
        return snapshot
    least = snapshot.partition(":")[0]
    return f"{least}:{least}:"


def _fewer(behind: list[Behind]) -> tuple[Behind, ...]:
    """Few enough for the state; what is read again then is a repetition, which changes nothing."""
    while len(behind) > _MOST_RANGES or len({some.seen for some in behind}) > _MOST_SNAPSHOTS:
        first, second, *others = behind
        behind = [Behind(first.first, second.last, _older(first.seen, second.seen)), *others]
    return tuple(behind)


def _older(one: str | None, other: str | None) -> str | None:
    if one is None or other is None:
        return None
    return min(one, other, key=_age)


def _age(snapshot: str) -> tuple[int, int, int]:
    least, most, running = snapshot.split(":")
    # Of two snapshots before the same transaction, the older one has more that run.
    return int(most), -len(running.split(",")) if running else 0, int(least)
