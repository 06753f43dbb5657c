"""The sensor of the landing zone: it requests runs for the days of new and changed files."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from headrace.config.entities.entity import EntityConfig
from headrace.config.loader import Project
from headrace.config.sources.file_source import FileEntity
from headrace.grain import Grain
from headrace.ledger.records import PartitionState
from headrace.ledger.seen_files import LandingCursor
from headrace.sources.files.path_patterns import days_of_file
from headrace.sources.files.unclaimed import outside_text, unclaimed_files, unclaimed_text
from headrace.sources.landing.arrival import arrived_files
from headrace.sources.landing.landing_zone import Landing, StoredFile
from headrace.sources.landing.zip_landing import with_archives
from platform_assets.keys import name_of, raw_key, warehouse_key
from platform_assets.partitions import are_all_daily, days_of, range_tags
from resources.lake import LakeResource
from resources.landing import LandingResource
from resources.warehouse import WarehouseResource
from sensors.undated_files import UndatedFiles

# For how long after a file's deadline its held partition is requested.
_OVERDUE = timedelta(days=7)
_NEVER = datetime.min.replace(tzinfo=UTC)
# The longest wait of an evaluation for files to settle. Dagster's daemon evaluates a sensor every
# 5 s at most, so a file that is left to the next evaluation waits 5 s more.
_WAIT_AT_MOST_SECONDS = 3.0


@dataclass(frozen=True)
class FilesSeen:
    """By path, the version of each file whose days were requested."""

    versions: Mapping[str, str] = field(default_factory=dict)

    def is_new(self, file: StoredFile) -> bool:
        """Whether no earlier tick requested this version of the file."""
        return self.versions.get(file.path) != _version(file)

    def changes_since(self, before: "FilesSeen") -> tuple[dict[str, str], list[str]]:
        """New and changed files with their versions, and the paths that are removed."""
        new = {p: v for p, v in self.versions.items() if before.versions.get(p) != v}
        return new, [path for path in before.versions if path not in self.versions]


@dataclass(frozen=True)
class ArrivalPlan:
    """The result of `plan_arrivals`.

    Attributes:
        windows: Windows of days to run, both ends included.
        seen: The files to record as requested.
        waiting: Number of new files that are left to later ticks.
    """

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
    idle: Collection[StoredFile] = (),
) -> ArrivalPlan:
    """Choose the days of new and changed files, oldest first.

    A file is new by its path, size and version, not by its age: a listing that starts after the
    newest name or time misses files that are replaced or arrive late.

    Args:
        seen: Files that earlier ticks requested.
        listing: Every file with the days it belongs to.
        now: The time, UTC.
        settle_seconds: A file that arrived less than this ago may be incomplete; it waits.
        max_days: Most days of one tick; the next tick continues.
        idle: Files that were read and have no row of an existing day: they are recorded as seen.
    """
    settled_before = _settled_before(now, settle_seconds)
    fresh = [(file, days) for file, days in listing if days and seen.is_new(file)]
    settled = [(file, days) for file, days in fresh if file.arrived_at <= settled_before]
    chosen: set[date] = set()
    taken: dict[str, str] = {file.path: _version(file) for file in idle}
    for file, days in sorted(settled, key=lambda pair: (min(pair[1]), pair[0].path)):
        if len(chosen | days) > max_days and chosen:
            continue
        chosen |= days
        taken[file.path] = _version(file)
    present = {file.path for file, _ in listing}
    kept = {path: version for path, version in seen.versions.items() if path in present}
    return ArrivalPlan(
        _windows(sorted(chosen)), FilesSeen({**kept, **taken}), len(fresh) + len(idle) - len(taken)
    )


def seconds_to_wait(
    seen: FilesSeen, files: Sequence[StoredFile], *, now: datetime, settle_seconds: float
) -> float:
    """How long to wait until new files have settled; 0 if that exceeds `_WAIT_AT_MOST_SECONDS`."""
    settled_before = _settled_before(now, settle_seconds)
    unsettled = [
        (file.arrived_at - settled_before).total_seconds()
        for file in files
        if file.arrived_at > settled_before and seen.is_new(file)
    ]
    return max((rest for rest in unsettled if rest <= _WAIT_AT_MOST_SECONDS), default=0.0)


def seen_before(
    listing: Sequence[tuple[StoredFile, frozenset[date]]], published_at: Mapping[date, datetime]
) -> FilesSeen:
    """The files that the first tick need not request: all their days were published after them.

    A sensor is usually turned on after a backfill, which has read the files that existed then.

    Args:
        listing: Every file with the partitions it belongs to.
        published_at: When each day was published down to the warehouse, UTC.
    """
    return FilesSeen(
        {
            file.path: _version(file)
            for file, days in listing
            if days and all(published_at.get(day, _NEVER) > file.arrived_at for day in days)
        }
    )


def build_landing_sensor(
    project: Project,
    job: dg.JobDefinition,
    partitions: dg.DailyPartitionsDefinition,
    connection: str | None = None,
) -> dg.SensorDefinition:
    """The sensor that requests the days of new and changed files.

    Args:
        project: The configuration.
        job: Runs all assets.
        partitions: The days that exist.
        connection: The SFTP server whose files are listed; None: the landing zone.
    """
    settings = project.settings.sensor
    place = "in the landing zone" if connection is None else f"of the connection {connection}"

    @dg.sensor(
        name="new_files" if connection is None else f"new_files_{connection}",
        job=job,
        minimum_interval_seconds=(
            settings.interval_seconds if connection is None else settings.rows_interval_seconds
        ),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Runs the days of files that arrive or change {place}.",
    )
    def new_files(
        context: dg.SensorEvaluationContext,
        landing: LandingResource,
        lake: LakeResource,
        warehouse: WarehouseResource,
    ) -> dg.SensorResult:
        known = days_of(partitions.get_partition_keys())
        now = datetime.now(UTC)
        entities = project.file_entities(connection)
        zone = landing.landing() if connection is None else _sftp_landing(project, connection)
        files = with_archives(zone, [entity.extract for entity in entities.values()])
        evaluation = _Evaluation(project, entities, files, lake, warehouse, known, now)
        tick = evaluation.run(context.cursor)
        for warning in tick.warnings:
            context.log.warning(warning)
        are_days = are_all_daily(project)
        requests = [
            dg.RunRequest(tags=range_tags(*window, are_days_partitions=are_days))
            for window in tick.windows
        ]
        requests += [
            # Dagster launches one run for a run key. If the day is held again after it, the reason
            # is another one.
            dg.RunRequest(
                run_key=f"overdue {name} {day}",
                tags=range_tags(day, day, are_days_partitions=are_days),
            )
            for name, day in tick.overdue
        ]
        # Dagster allows a skip reason only without requests.
        skipped = None if requests else dg.SkipReason(tick.summary)
        if requests:
            context.log.info(tick.summary)
        return dg.SensorResult(run_requests=requests, skip_reason=skipped, cursor=tick.cursor)

    return new_files


@dataclass(frozen=True)
class _Tick:
    """The result of one evaluation.

    Attributes:
        windows: Windows of days to run, both ends included.
        overdue: Entity and day of held partitions whose file's deadline has passed.
        summary: One line for the log or the skip reason.
        warnings: Lines to log as warnings.
        cursor: The sensor's next cursor.
    """

    windows: tuple[tuple[date, date], ...]
    overdue: tuple[tuple[str, date], ...]
    summary: str
    warnings: tuple[str, ...]
    cursor: str


@dataclass(frozen=True)
class _Evaluation:
    """One evaluation of the sensor; `known` are the days that exist."""

    project: Project
    entities: Mapping[str, FileEntity]
    landing: Landing
    lake: LakeResource
    warehouse: WarehouseResource
    known: Sequence[date]
    now: datetime
    may_wait: bool = True

    def run(self, cursor: str | None) -> _Tick:
        """List the files, plan the requests, and record the requested files."""
        settings, listed = self.project.settings.sensor, self.landing.list_files()
        files = arrived_files(self.entities.values(), listed, self.landing)
        mark, seen, warnings = self._before(cursor)
        if self.may_wait and (
            seconds := seconds_to_wait(
                seen, files, now=self.now, settle_seconds=settings.settle_seconds
            )
        ):
            time.sleep(seconds)
            return replace(self, now=datetime.now(UTC), may_wait=False).run(cursor)
        undated = UndatedFiles(self.project, self.entities, self.landing, self.lake, self.known)
        settled = _settled_before(self.now, settings.settle_seconds)
        fresh = [file for file in files if seen.is_new(file) and file.arrived_at <= settled]
        of_rows = undated.days(fresh)
        listing = _with_days(files, [*self.entities.values()], self.known, of_rows)
        if not mark.tick and not warnings:
            seen = seen_before(listing, self._published_at())
        plan = plan_arrivals(
            seen,
            listing,
            now=self.now,
            settle_seconds=settings.settle_seconds,
            max_days=settings.max_days_per_tick,
            # Later days are run by the schedule, which then reads these files.
            idle=[file for file, days in of_rows.items() if not days & {*self.known}],
        )
        lost = self._unclaimed(listed)
        summary = f"{len(files)} files listed, {_days(plan.windows)} requested"
        waiting = f"; {plan.waiting} files wait" if plan.waiting else ""
        return _Tick(
            plan.windows,
            self._overdue(),
            f"{summary}{waiting}{f'; {lost}' if lost else ''}",
            (*warnings, *([lost] if lost and plan.windows else [])),
            str(self._recorded(mark, plan.seen)),
        )

    def _before(self, cursor: str | None) -> tuple[LandingCursor, FilesSeen, list[str]]:
        """The parsed cursor, the files seen up to it, and a warning about an invalid cursor."""
        if not cursor or cursor.startswith("{"):
            # Earlier releases had the files in the cursor, by versions that lacked the times.
            return LandingCursor.new(), FilesSeen(), []
        mark = LandingCursor.parse(cursor)
        if mark is None:
            warning = "the cursor cannot be read: every file counts as new"
            return LandingCursor.new(), FilesSeen(), [warning]
        return mark, FilesSeen(self.warehouse.seen_files().read(mark)), []

    def _recorded(self, mark: LandingCursor, seen: FilesSeen) -> LandingCursor:
        table = self.warehouse.seen_files()
        before = FilesSeen(table.read(mark) if mark.tick else {})
        new, removed = seen.changes_since(before)
        return table.write(mark, new, removed) if new or removed or not mark.tick else mark

    def _unclaimed(self, files: Sequence[StoredFile]) -> str:
        entities = self.entities
        lost = unclaimed_text(
            unclaimed_files(entities, files, self.project.settings.landing.ignore)
        )
        partitions = self.project.settings.partitions
        outside = outside_text(entities, files, partitions, self.now.date())
        locked = [f"{file.path} {file.problem}" for file in files if file.path.endswith("/")]
        return "; ".join([*locked, *filter(None, (lost, outside))])

    def _published_at(self) -> dict[date, datetime]:
        facts = [name_of(warehouse_key(fact.name)) for fact in self.project.star.facts]
        return _published_at(self.warehouse, facts)

    def _overdue(self) -> tuple[tuple[str, date], ...]:
        """Held partitions whose deadline has passed: their next run treats them as empty."""
        found: list[tuple[str, date]] = []
        for name, entity in self.entities.items():
            ended = overdue_partitions(entity, self.known, self.now)
            if ended:
                states = self.warehouse.ledger().states(name_of(raw_key(name)), ended)
                # Runs are requested by existing days; a period may begin before the first one.
                found += [
                    (name, max(start, self.known[0]))
                    for start in ended
                    if _is_held(states.get(start))
                ]
        return tuple(found)


def overdue_partitions(entity: EntityConfig, days: Sequence[date], now: datetime) -> list[date]:
    """The partitions whose file's deadline passed within the last 7 days.

    Args:
        entity: The entity of the files.
        days: The days that exist, in order.
        now: UTC.
    """

    def has_just_ended(partition: date) -> bool:
        until = entity.waits_until(partition)
        return until is not None and until <= now < until + _OVERDUE

    partitions = entity.grain.starts(days[0], days[-1]) if days else []
    return [one for one in partitions if has_just_ended(one) and entity.expects_file(one)]


def _is_held(state: PartitionState | None) -> bool:
    return state is not None and state.status == "held"


def _sftp_landing(project: Project, connection: str) -> Landing:
    # asyncssh takes half a second to import: only where a source is on an SFTP server.
    from headrace.sources.landing.sftp_landing import sftp_landing  # noqa: PLC0415

    return sftp_landing(project, connection)


def _days(windows: Sequence[tuple[date, date]]) -> str:
    days = sum((end - start).days + 1 for start, end in windows)
    return {0: "no day", 1: "1 day"}.get(days, f"{days} days")


def _published_at(warehouse: WarehouseResource, facts: Sequence[str]) -> dict[date, datetime]:
    """By day, when the first of the facts was published; only days on which all facts are."""
    found: list[dict[date, datetime]] = []
    for fact in facts:
        states = warehouse.ledger().states(fact).values()
        by_day = {state.partition: state.published_at for state in states}
        found.append({day: at for day, at in by_day.items() if day and at})
    everywhere = set.intersection(*map(set, found))
    return {day: min(some[day] for some in found) for day in everywhere}


def _with_days(
    listing: Sequence[StoredFile],
    entities: Sequence[FileEntity],
    known: Sequence[date],
    of_rows: Mapping[StoredFile, frozenset[date]],
) -> list[tuple[StoredFile, frozenset[date]]]:
    exist, found = frozenset(known), []
    for file in listing:
        named = {
            _day_of_run(entity.grain, day, known)
            for entity in entities
            for day in days_of_file(entity.extract, file.path)
        }
        found.append((file, exist & (named | of_rows.get(file, frozenset()))))
    return found


def _day_of_run(grain: Grain, day: date, known: Sequence[date]) -> date:
    """A day whose run builds the partition to which a file's day belongs."""
    if not known or grain == Grain.DAY:
        return day
    if grain == Grain.NONE:
        return known[-1]
    first = grain.start_of(day)
    # A period may begin before the first day that exists.
    return max(first, known[0]) if grain.end_of(first) > known[0] else first


def _settled_before(now: datetime, settle_seconds: float) -> datetime:
    return now - timedelta(seconds=settle_seconds)


def _version(file: StoredFile) -> str:
    # A corrected manifest lets a file arrive that did not change.
    by = f":{file.arrival}" if file.arrival else ""
    return f"{file.size_bytes}:{file.version}:{file.modified_at:%Y%m%dT%H%M%S%f}{by}"


def _windows(days: Sequence[date]) -> tuple[tuple[date, date], ...]:
    windows: list[tuple[date, date]] = []
    for day in days:
        if windows and day - windows[-1][1] == timedelta(days=1):
            windows[-1] = (windows[-1][0], day)
        else:
            windows.append((day, day))
    return tuple(windows)
