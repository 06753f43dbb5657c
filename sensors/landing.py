"""Files that arrive: which days they ask for.

Belongs here: the plan from what was seen and what is there, and the sensor around it.
Elsewhere: files whose rows say their days (sensors.undated), listing and naming files
(headrace.ingestion), the job that captures them (jobs).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from headrace.config.loading import Project
from headrace.config.sources import FileExtract
from headrace.ingestion.files import days_of_file
from headrace.ingestion.landing import StoredFile
from platform_assets.keys import name_of, warehouse_key
from platform_assets.partitions import days_of, range_tags
from resources.lake import LakeResource
from resources.landing import LandingResource
from resources.warehouse import WarehouseResource
from sensors.undated import UndatedFiles

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class FilesSeen:
    """Path to version of every file that was asked for; the sensor's cursor."""

    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, cursor: str | None) -> "FilesSeen | None":
        """The cursor's content; None if it cannot be read."""
        if not cursor:
            return cls()
        try:
            versions = json.loads(cursor)["versions"]
            return cls({str(path): str(version) for path, version in versions.items()})
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def is_new(self, file: StoredFile) -> bool:
        """Whether no earlier tick asked for this version of the file."""
        return self.versions.get(file.path) != _version(file)

    def dump(self) -> str:
        """As a cursor."""
        return json.dumps({"versions": dict(self.versions)}, separators=(",", ":"))


@dataclass(frozen=True)
class ArrivalPlan:
    """Days to run, as windows with both ends included, and what to remember."""

    windows: tuple[tuple[date, date], ...]
    seen: FilesSeen
    waiting: int


def plan_arrivals(
    seen: FilesSeen,
    listing: Sequence[tuple[StoredFile, frozenset[date]]],
    *,
    now: datetime,
    settle_seconds: float,
    max_days: int,
) -> ArrivalPlan:
    """Choose the days of new and changed files, oldest first.

    A file is new by its path, size and version, never by its age: a listing that starts after
    the newest name or time misses files that are replaced or that come late.

    Args:
        seen: What earlier ticks asked for.
        listing: Every file with the partitions it belongs to.
        now: The time, UTC.
        settle_seconds: A file modified less than this ago may still be written; it waits.
        max_days: Days of one tick; the next tick goes on with the rest.
    """
    settled_before = _settled_before(now, settle_seconds)
    fresh = [(file, days) for file, days in listing if days and seen.is_new(file)]
    settled = [(file, days) for file, days in fresh if file.modified_at <= settled_before]
    chosen: set[date] = set()
    taken: dict[str, str] = {}
    for file, days in sorted(settled, key=lambda pair: (min(pair[1]), pair[0].path)):
        if len(chosen | days) > max_days and chosen:
            continue
        chosen |= days
        taken[file.path] = _version(file)
    present = {file.path for file, _ in listing}
    kept = {path: version for path, version in seen.versions.items() if path in present}
    return ArrivalPlan(
        _windows(sorted(chosen)), FilesSeen({**kept, **taken}), len(fresh) - len(taken)
    )


def seen_before(
    listing: Sequence[tuple[StoredFile, frozenset[date]]], published_at: Mapping[date, datetime]
) -> FilesSeen:
    """What the first tick need not ask for: files older than the publication of all their days.

    A sensor is most often turned on after a backfill, which has read what lay there already.

    Args:
        listing: Every file with the partitions it belongs to.
        published_at: When each day was published down to the warehouse, UTC.
    """
    return FilesSeen(
        {
            file.path: _version(file)
            for file, days in listing
            if days and all(published_at.get(day, _NEVER) > file.modified_at for day in days)
        }
    )


def build_landing_sensor(
    project: Project, job: dg.JobDefinition, partitions: dg.DailyPartitionsDefinition
) -> dg.SensorDefinition:
    """Asks for the days of files that arrived or changed."""
    settings = project.settings.sensor
    extracts = [entity.extract for _, entity in project.entities().values()]
    facts = [name_of(warehouse_key(fact.name)) for fact in project.star.facts]

    @dg.sensor(
        name="new_files",
        job=job,
        minimum_interval_seconds=settings.interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Runs the days of files that arrive or change in the landing zone.",
    )
    def new_files(
        context: dg.SensorEvaluationContext,
        landing: LandingResource,
        lake: LakeResource,
        warehouse: WarehouseResource,
    ) -> dg.SensorResult:
        now, files = datetime.now(UTC), landing.landing().list_files()
        seen = FilesSeen.parse(context.cursor)
        if seen is None:
            context.log.warning("the cursor cannot be read: every file counts as new")
            seen = FilesSeen()
        known = days_of(partitions.get_partition_keys())
        undated = UndatedFiles(project, landing.landing(), lake, known)
        settled = _settled_before(now, settings.settle_seconds)
        fresh = [file for file in files if seen.is_new(file) and file.modified_at <= settled]
        listing = _with_days(files, extracts, known, undated.days(fresh))
        if not context.cursor:
            seen = seen_before(listing, _published_at(warehouse, facts))
        plan = plan_arrivals(
            seen,
            listing,
            now=now,
            settle_seconds=settings.settle_seconds,
            max_days=settings.max_days_per_tick,
        )
        requests = [dg.RunRequest(tags=range_tags(*window)) for window in plan.windows]
        return dg.SensorResult(run_requests=requests, cursor=plan.seen.dump())

    return new_files


def _published_at(warehouse: WarehouseResource, facts: Sequence[str]) -> dict[date, datetime]:
    """By day, when the last of the facts was published; days on which one is not are absent."""
    found: list[dict[date, datetime]] = []
    for fact in facts:
        states = warehouse.ledger().states(fact).values()
        by_day = {state.partition: state.published_at for state in states}
        found.append({day: at for day, at in by_day.items() if day and at})
    everywhere = set.intersection(*map(set, found))
    return {day: min(some[day] for some in found) for day in everywhere}


def _with_days(
    listing: Sequence[StoredFile],
    extracts: Sequence[FileExtract],
    known: Sequence[date],
    of_rows: Mapping[StoredFile, frozenset[date]],
) -> list[tuple[StoredFile, frozenset[date]]]:
    exist, found = frozenset(known), []
    for file in listing:
        named = {day for extract in extracts for day in days_of_file(extract, file.path)}
        found.append((file, exist & (named | of_rows.get(file, frozenset()))))
    return found


def _settled_before(now: datetime, settle_seconds: float) -> datetime:
    return now - timedelta(seconds=settle_seconds)


def _version(file: StoredFile) -> str:
    return f"{file.size_bytes}:{file.version}"


def _windows(days: Sequence[date]) -> tuple[tuple[date, date], ...]:
    windows: list[tuple[date, date]] = []
    for day in days:
        if windows and day - windows[-1][1] == timedelta(days=1):
            windows[-1] = (windows[-1][0], day)
        else:
            windows.append((day, day))
    return tuple(windows)
