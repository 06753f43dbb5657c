"""Times of facts and of dimensions that cannot be compared: instants, local times, days.

Belongs here: which clock a time is of, and joins of times of two clocks.
Elsewhere: names and types of columns (headrace.config.star_references), comparing times of one
clock (headrace.star).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from headrace.config.sources import EntityConfig
from headrace.config.star import DimensionConfig, FactConfig, FactDimension

Clock = Literal["an instant", "a local time without a zone", "a day in UTC"]


@dataclass(frozen=True)
class _Time:
    """What is compared: a column of an entity, or its day, and which clock it is of."""

    what: str
    clock: Clock
    has_zone: bool


def clock_problems(
    where: str,
    fact: FactConfig,
    join: FactDimension,
    dim: DimensionConfig,
    entities: Mapping[str, EntityConfig],
) -> Iterator[str]:
    """A join that would compare a local time with an instant, or days of two zones.

    A day without a zone begins at midnight of whatever clock it is compared with.
    """
    if fact.entity not in entities or dim.entity not in entities:
        return  # said already
    event = None if fact.is_snapshot else join.event_time or fact.event_time
    ours = _time(fact.entity, event, entities[fact.entity])
    theirs = _time(dim.entity, dim.effective_time, entities[dim.entity])
    if ours is None or theirs is None or ours.clock == theirs.clock:
        return
    if "a day in UTC" in {ours.clock, theirs.clock} and not (ours.has_zone or theirs.has_zone):
        return
    both = ((fact.entity, ours), (dim.entity, theirs))
    lacking = [entity for entity, time in both if time.clock != "an instant"]
    yield (
        f"{where}: {ours.what} ({ours.clock}) would be compared with {theirs.what} "
        f"({theirs.clock}), where versions of {dim.name} begin: declare the `timezone` of "
        f"{' and '.join(lacking)}"
    )


def _time(name: str, column: str | None, entity: EntityConfig) -> _Time | None:
    kinds = {c.name: c.type for c in entity.columns}
    if column is not None and column not in kinds:
        return None  # said already
    kind = "date" if column is None else kinds[column]
    what = f"the day of {name}" if column is None else f"'{column}' of {name}"
    clock: Clock = "an instant"
    if entity.timezone is None and kind != "timestamptz":
        clock = "a day in UTC" if kind == "date" else "a local time without a zone"
    return _Time(what, clock, entity.timezone is not None)
