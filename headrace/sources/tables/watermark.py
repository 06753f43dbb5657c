"""The watermark of a table: which rows are captured, and how far it may advance.

Invariant: every committed row that raw lacks has a cursor at or after `low`, or none, or its day is
in `backlog`. `low` moves up to the start of the oldest transaction that may still write, less the
overlap, and never beyond a row that was left for another partition (decisions/0043). The backlog
has the days of which no capture has read the rows before `low` (decisions/0048).
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

from headrace.grain import Grain
from headrace.sources.base import short_id
from headrace.sources.tables.database import Days, Horizon, Pending, Position

# A backend reads its clock before others see its transaction.
_UNSEEN = timedelta(seconds=1)
# A capture's record in the snapshot holds 4 KiB; each partition takes 22 bytes of it.
_MOST_SEEN = 60
_MOST_MARKS = 12
# Of ranges that lie closest, days between them are read again.
_MOST_RANGES = 12
_STATE = "watermark"
# Stands for a cursor before year 1, or -infinity.
BEFORE_ALL = datetime.min.replace(tzinfo=UTC)

PendingByPartition = Mapping[date, Pending]


@dataclass(frozen=True)
class Watermark:
    """What is known of a table after a capture; stored in the commit of its rows.

    Attributes:
        low: See the module; None: nothing is known to be captured.
        order: `_delivery_order` of the last capture, so that a later one is greater.
        seen: By partition whose rows at or after `low` are captured: their digest.
        marks: Of an increasing id: moments and the greatest id that was visible before each.
        backlog: Half-open ranges of days; see the module.
    """

    low: Position | None = None
    order: str = ""
    seen: Mapping[date, str] = field(default_factory=dict)
    marks: Sequence[tuple[str, int]] = ()
    backlog: tuple[Days, ...] = ()

    @classmethod
    def load(cls, stored: Mapping[str, str], reading: str) -> "Watermark":
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
            low = known.get("low")
            low = datetime.fromisoformat(low) if isinstance(low, str) else low
            marks = [(str(at), int(last)) for at, last in known.get("marks", ())]
            seen = {date.fromisoformat(day): str(digest) for day, digest in known["seen"].items()}
            backlog = [
                (date.fromisoformat(start), date.fromisoformat(end))
                for start, end in known.get("backlog", ())
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls()
        return cls(low, order, seen, marks, tuple(backlog))

    @property
    def is_new(self) -> bool:
        """Whether nothing is known to be captured."""
        return self.low is None and not self.seen and not self.backlog

    def dump(self, reading: str) -> dict[str, str]:
        """As a connector's state."""
        seen = dict(sorted(self.seen.items())[-_MOST_SEEN:])
        known: dict[str, Any] = {
            "reading": reading,
            "low": self.low.isoformat() if isinstance(self.low, datetime) else self.low,
            "order": self.order,
            "seen": {day.isoformat(): digest for day, digest in seen.items()},
        }
        known |= {"marks": self.marks} if self.marks else {}
        if self.backlog:
            known["backlog"] = [[f"{start}", f"{end}"] for start, end in self.backlog]
        return {_STATE: json.dumps(known, separators=(",", ":"))}

    def next_order(self, now: datetime) -> str:
        """`_delivery_order` of a capture at `now`: greater than that of the one before it."""
        return order_after(self.order, now)

    def unseen(self, pending: PendingByPartition) -> set[date]:
        """The partitions with rows that are not known to be captured."""
        return {day for day, rows in pending.items() if self.seen.get(day) != rows.digest}


def order_after(before: str, now: datetime) -> str:
    """`_delivery_order` of a capture at `now`, after a capture with another one."""
    text = now.astimezone(UTC).isoformat(timespec="microseconds")
    if text > before:
        return text
    after = datetime.fromisoformat(before) + timedelta(microseconds=1)
    return after.isoformat(timespec="microseconds")


def lowest(horizon: Horizon, overlap: timedelta) -> datetime | None:
    """Up to where no row can come any more; None: the watermark must stay."""
    quiet = _quiet_before(horizon)
    return None if quiet is None else quiet - overlap


def lowest_id(horizon: Horizon, overlap: int, marks: Sequence[tuple[str, int]]) -> int | None:
    """The greatest id up to which no row can come any more; None: the watermark must stay.

    A sequence gives ids to transactions while they run. An id that was visible at a moment before
    which every running transaction has ended is greater than all that are still to come below it.
    The ids of transactions (xid) do not tell: one is given at the first write, after `nextval`.
    """
    quiet = _quiet_before(horizon)
    ended = [last for at, last in marks if quiet and datetime.fromisoformat(at) <= quiet]
    return max(ended) + 1 - overlap if ended else None


def next_marks(
    marks: Sequence[tuple[str, int]], at: datetime, last: int, low: Position | None
) -> list[tuple[str, int]]:
    """The marks with one more, without those that `low` has passed."""
    known = [one for one in marks if not isinstance(low, int) or one[1] >= low]
    if not known or known[-1][1] < last:
        known.append((at.astimezone(UTC).isoformat(), last))
    # Those in the middle only make the watermark finer.
    return known if len(known) <= _MOST_MARKS else [known[0], *known[-_MOST_MARKS + 1 :]]


def _quiet_before(horizon: Horizon) -> datetime | None:
    """All transactions that began before this moment have ended; None: it is not known."""
    if horizon.is_held:
        return None
    return min(horizon.now, horizon.oldest or horizon.now) - _UNSEEN


def advanced(
    before: Position | None,
    bound: Position | None,
    pending: PendingByPartition,
    left: Collection[date],
) -> Position | None:
    """The next `low`.

    Args:
        before: The present one.
        bound: Of `lowest` or `lowest_id`.
        pending: Rows at or after `before`, by partition.
        left: Partitions whose rows are not captured.
    """
    if bound is None:
        return before
    firsts = [first for day in left if (first := pending[day].first) is not None]
    positions: list[Any] = [bound, *firsts]  # All are times, or all are ids.
    after: Position = min(positions)
    if after == BEFORE_ALL:
        return before
    return after if before is None or after > before else before  # type: ignore[operator]


def backlog_of(
    before: Sequence[Days], days: Collection[date], left: Collection[date], grain: Grain
) -> tuple[Days, ...]:
    """The ranges of a backlog.

    Args:
        before: The ranges that it had; none: all days.
        days: First days of partitions that have rows in them.
        left: Those of them that are not captured.
        grain: Of the partitions.
    """
    ranges: list[Days] = []
    last: int | None = None
    for day in sorted(days):
        within = next((n for n, (start, end) in enumerate(before) if start <= day < end), -1)
        if day in left:
            # Between two neighbours of one range lies no row that is not captured.
            start = ranges.pop()[0] if last == within else day
            ranges.append((start, grain.end_of(day)))
        last = within if day in left else None
    while len(ranges) > _MOST_RANGES:
        gaps = [after[0] - before[1] for before, after in pairwise(ranges)]
        at = gaps.index(min(gaps))
        ranges[at : at + 2] = [(ranges[at][0], ranges[at + 1][1])]
    return tuple(ranges)


def united(parts: Collection[Pending]) -> Pending:
    """The rows of several days as those of one partition."""
    firsts: list[Any] = [part.first for part in parts if part.first is not None]
    lasts = [part.last for part in parts if part.last is not None]
    digests = sorted(part.digest for part in parts)
    digest = digests[0] if len(digests) == 1 else short_id(*digests)[:8]
    rows = sum(part.rows for part in parts)
    return Pending(rows, min(firsts, default=None), digest, max(lasts, default=None))
