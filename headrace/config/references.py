"""What the files of a configuration say of each other: names and days that must agree."""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path

from headrace.config.settings import PartitionSettings, Settings
from headrace.config.sources import SourceConfig
from headrace.config.star import CalendarConfig, StarConfig
from headrace.config.star_references import star_problems
from headrace.config.target_limits import target_problems

Fault = tuple[str, str]


def project_problems(
    settings: Settings, star: StarConfig, sources: Mapping[Path, SourceConfig]
) -> Iterator[Fault]:
    """Each fault, as the file's name below the configuration's folder and what is wrong in it.

    Args:
        settings: Of the environment.
        star: The star.
        sources: File to what it declares.
    """
    yield from _source_problems(sources)
    entities = {f"{s.name}.{e.name}": e for s in sources.values() for e in s.entities}
    for what in star_problems(star, entities):
        yield "star.yaml", what
    for what in target_problems(star):
        yield "star.yaml", what
    for what in calendar_problems(star.calendar, settings.partitions):
        yield "star.yaml", what


def calendar_problems(
    calendar: CalendarConfig, partitions: PartitionSettings, today: date | None = None
) -> Iterator[str]:
    """Days that exist and that the calendar lacks: their facts would point to no row of it.

    Args:
        calendar: The date dimension.
        partitions: The days that exist.
        today: The day after the last one, where `partitions` has no end; None: not looked at.
    """
    if calendar.start > partitions.start:
        yield (
            f"calendar.start: {calendar.start} lies after partitions.start, {partitions.start}: "
            "begin the calendar on that day or before it"
        )
    after = partitions.end or today
    if after is None or calendar.end < calendar.start:
        return
    last = after - timedelta(days=1)
    if calendar.end < last:
        named = "partitions.end" if partitions.end else "the last day that exists today"
        yield (
            f"calendar.end: {calendar.end} lies before {named}, {after if partitions.end else last}"
            ": facts of later days would be held; let the calendar end on the last day or after it"
        )


def _source_problems(sources: Mapping[Path, SourceConfig]) -> Iterator[Fault]:
    files: dict[str, Path] = {}
    tables: dict[str, str] = {}
    for path, source in sources.items():
        place = f"sources/{path.name}"
        first = files.setdefault(source.name, path)
        if first != path:
            yield place, f"name: source '{source.name}' is declared twice, in {first.name} too"
            continue
        for i, entity in enumerate(source.entities):
            whole, table = f"{source.name}.{entity.name}", f"{source.name}_{entity.name}"
            other = tables.setdefault(table, whole)
            if other != whole:
                both = f"{whole} and {other} would share the table {table}: rename one of them"
                yield place, f"entities[{i}].name: {both}"
