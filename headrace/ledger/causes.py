"""Bad partitions folded: one line a cause, days as ranges, assets as a list."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby

# Days, counts, shares and lines differ from day to day; the cause is the same.
_FIGURE = re.compile(r"\d+(?:[.,:-]\d+)*")


@dataclass(frozen=True)
class BadPartition:
    """A partition that was not published, and why."""

    asset: str
    partition: date | None
    status: str
    why: str


@dataclass(frozen=True)
class Cause:
    """Partitions that were not published for one reason.

    Attributes:
        why: The reason in the words of the first day.
        varies: Whether other days give it with other figures.
    """

    status: str
    assets: tuple[str, ...]
    days: tuple[date, ...]
    why: str
    varies: bool

    def line(self) -> str:
        """For people: `failed raw/shop_orders 2024-01-02 to 2024-01-05: …`."""
        named = ", ".join(self.assets)
        on = f" {day_ranges(self.days)}" if self.days else ""
        more = " (the first day's figures)" if self.varies else ""
        return f"{self.status} {named}{on}: {self.why}{more}"


def fold(partitions: Iterable[BadPartition]) -> list[Cause]:
    """Each cause once, in the order in which it is first met.

    Assets are named together where the same days of them failed for the same reason.
    """
    by_reason: dict[tuple[str, str], dict[str, list[BadPartition]]] = {}
    for each in partitions:
        kind = each.status, _FIGURE.sub("0", each.why)
        by_reason.setdefault(kind, {}).setdefault(each.asset, []).append(each)
    return [cause for (status, _), found in by_reason.items() for cause in _causes(status, found)]


def day_ranges(days: Collection[date]) -> str:
    """`2024-01-02 to 2024-01-05, 2024-01-09 (5 days)`; a single day alone."""
    runs = list(_runs(sorted(days)))
    shown = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    return ", ".join(shown) + (f" ({len(days)} days)" if len(days) > 1 else "")


def _causes(status: str, found: dict[str, list[BadPartition]]) -> Iterator[Cause]:
    together: dict[tuple[date, ...], list[str]] = {}
    for asset, some in found.items():
        days = sorted(each.partition for each in some if each.partition is not None)
        together.setdefault(tuple(days), []).append(asset)
    for same_days, assets in together.items():
        mine = [each for asset in assets for each in found[asset]]
        first = min(mine, key=lambda each: each.partition or date.min)
        varies = len({each.why for each in mine}) > 1
        yield Cause(status, tuple(assets), same_days, first.why, varies)


def _runs(days: Sequence[date]) -> Iterator[list[date]]:
    """Days in a row."""
    numbered = enumerate(days)
    for _, run in groupby(numbered, key=lambda pair: pair[1] - timedelta(days=pair[0])):
        yield [day for _, day in run]
