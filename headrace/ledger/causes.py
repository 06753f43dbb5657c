"""Groups the partitions that were not published by cause, for messages with one line a cause."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from headrace.grain import Grain

# Reasons that differ only in numbers (days, counts, shares, lines) have one cause.
_FIGURE = re.compile(r"\d+(?:[.,:-]\d+)*")


@dataclass(frozen=True)
class UnpublishedPartition:
    """A partition that was not published, with the reason."""

    asset: str
    partition: date | None
    status: str
    why: str
    grain: Grain = Grain.DAY

    @property
    def label(self) -> str:
        """The partition's label; empty for an asset without partitions."""
        return "" if self.partition is None else self.grain.label(self.partition)


@dataclass(frozen=True)
class Cause:
    """Partitions that were not published for one reason.

    Attributes:
        why: The reason, with the figures of the first day.
        varies: Whether the figures differ between days.
    """

    status: str
    assets: tuple[str, ...]
    days: tuple[date, ...]
    why: str
    varies: bool
    grain: Grain = Grain.DAY

    def line(self) -> str:
        """One line for a message: `failed raw/shop_orders 2024-01-02 to 2024-01-05: …`."""
        named = ", ".join(self.assets)
        on = f" {day_ranges(self.days, self.grain)}" if self.days else ""
        more = " (the first day's figures)" if self.varies else ""
        return f"{self.status} {named}{on}: {self.why}{more}"


def group_by_cause(partitions: Iterable[UnpublishedPartition]) -> list[Cause]:
    """Group partitions by cause, in order of first occurrence.

    Assets whose same days failed for the same reason are in one cause.
    """
    by_reason: dict[tuple[str, str, Grain], dict[str, list[UnpublishedPartition]]] = {}
    for each in partitions:
        reason = each.status, _FIGURE.sub("0", each.why), each.grain
        by_reason.setdefault(reason, {}).setdefault(each.asset, []).append(each)
    return [
        cause
        for (status, _, grain), by_asset in by_reason.items()
        for cause in _causes(status, grain, by_asset)
    ]


def day_ranges(days: Collection[date], grain: Grain = Grain.DAY) -> str:
    """Days as ranges: `2024-01-02 to 2024-01-05, 2024-01-09 (5 days)`; a single day alone."""
    runs = [[grain.label(day) for day in run] for run in _runs(sorted(days), grain)]
    shown = [run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    unit = grain if grain.has_periods else "partition"
    return ", ".join(shown) + (f" ({len(days)} {unit}s)" if len(days) > 1 else "")


def _causes(
    status: str, grain: Grain, by_asset: dict[str, list[UnpublishedPartition]]
) -> Iterator[Cause]:
    """One cause for each set of assets with the same days; all have the same reason."""
    assets_by_days: dict[tuple[date, ...], list[str]] = {}
    for asset, partitions in by_asset.items():
        days = sorted(each.partition for each in partitions if each.partition is not None)
        assets_by_days.setdefault(tuple(days), []).append(asset)
    for same_days, assets in assets_by_days.items():
        partitions = [each for asset in assets for each in by_asset[asset]]
        first = min(partitions, key=lambda each: each.partition or date.min)
        varies = len({each.why for each in partitions}) > 1
        yield Cause(status, tuple(assets), same_days, first.why, varies, grain)


def _runs(days: Sequence[date], grain: Grain) -> Iterator[list[date]]:
    """Runs of consecutive partitions."""
    run: list[date] = []
    for day in days:
        if run and grain.end_of(run[-1]) != day:
            yield run
            run = []
        run.append(day)
    if run:
        yield run
