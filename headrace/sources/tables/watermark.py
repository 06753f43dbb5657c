"""The watermark of a table: which rows are captured, and how far it may advance.

Invariant: every committed row that raw lacks has a cursor at or after `low`, or none. `low` moves
up to the start of the oldest transaction that may still write, less the overlap, and never beyond
a row that was left for another partition (decisions/0043).
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from headrace.sources.base import short_id
from headrace.sources.tables.database import Horizon, Pending

# A backend reads its clock before others see its transaction.
_UNSEEN = timedelta(seconds=1)
# A capture's record in the snapshot holds 4 KiB; each partition takes 22 bytes of it.
_MOST_SEEN = 90
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
    """

    low: datetime | None = None
    order: str = ""
    seen: Mapping[date, str] = field(default_factory=dict)

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
            low = datetime.fromisoformat(known["low"]) if known.get("low") else None
            seen = {date.fromisoformat(day): str(digest) for day, digest in known["seen"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls()
        return cls(low, order, seen)

    def dump(self, reading: str) -> dict[str, str]:
        """As a connector's state."""
        seen = dict(sorted(self.seen.items())[-_MOST_SEEN:])
        known = {
            "reading": reading,
            "low": self.low.isoformat() if self.low else None,
            "order": self.order,
            "seen": {day.isoformat(): digest for day, digest in seen.items()},
        }
        return {_STATE: json.dumps(known, separators=(",", ":"))}

    def next_order(self, now: datetime) -> str:
        """`_delivery_order` of a capture at `now`: greater than that of the one before it."""
        text = now.astimezone(UTC).isoformat(timespec="microseconds")
        if text > self.order:
            return text
        after = datetime.fromisoformat(self.order) + timedelta(microseconds=1)
        return after.isoformat(timespec="microseconds")

    def unseen(self, pending: PendingByPartition) -> set[date]:
        """The partitions with rows that are not known to be captured."""
        return {day for day, rows in pending.items() if self.seen.get(day) != rows.digest}


def lowest(horizon: Horizon, overlap: timedelta) -> datetime | None:
    """Up to where no row can come any more; None: the watermark must stay."""
    if horizon.is_held:
        return None
    return min(horizon.now, horizon.oldest or horizon.now) - _UNSEEN - overlap


def advanced(
    before: datetime | None,
    bound: datetime | None,
    pending: PendingByPartition,
    left: Collection[date],
) -> datetime | None:
    """The next `low`.

    Args:
        before: The present one.
        bound: Of `lowest`.
        pending: Rows at or after `before`, by partition.
        left: Partitions whose rows are not captured.
    """
    if bound is None:
        return before
    firsts = [first for day in left if (first := pending[day].first) is not None]
    after = min([bound, *firsts])
    if after <= BEFORE_ALL:
        return before
    return after if before is None else max(before, after)


def united(parts: Collection[Pending]) -> Pending:
    """The rows of several days as those of one partition."""
    firsts = [part.first for part in parts if part.first is not None]
    digests = sorted(part.digest for part in parts)
    digest = digests[0] if len(digests) == 1 else short_id(*digests)[:8]
    return Pending(sum(part.rows for part in parts), min(firsts, default=None), digest)
