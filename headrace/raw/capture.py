"""Capture: the files of a window of days become data files of raw, ready to be published."""

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

from headrace import progress
from headrace.config.sources import OPERATION_DESCRIPTION, EntityConfig
from headrace.errors import HeadraceError, NoFilesError
from headrace.raw.deliveries import DeliveryOutcome, DeliveryReader, DuplicateDelivery
from headrace.raw.lineage import PARTITION_DATE
from headrace.raw.manifest import current_versions
from headrace.raw.plan import Captured, CapturePlan, CaptureRun, plan_capture
from headrace.raw.writer import DataFolder
from headrace.schema import Column, TableSchema
from headrace.sources.files.corrupt_rows import CORRUPT_REASON, CORRUPT_RECORD
from headrace.sources.files.csv_reader import LINE
from headrace.sources.files.landing import Landing, StoredFile
from headrace.sources.files.path_patterns import files_by_partition, is_file_of, listing_prefix
from headrace.sources.files.unclaimed import UnclaimedFile, unclaimed_files, unclaimed_text
from headrace.staged import StagedPartition

# Arrow, zlib and NumPy leave Python's lock: two deliveries at a time keep two cores busy.
_THREADS = 2
# A run that waits longer than this for files to settle keeps others from their days.
_LONGEST_WAIT_SECONDS = 15.0
_NAMED = 5
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

_LINEAGE = (
    Column(CORRUPT_RECORD, "string", description="Text of a row that has no columns."),
    Column(CORRUPT_REASON, "string", description="Why it has none."),
    Column(LINE, "bigint", nullable=False, description="Record; 1 is the header, 0 no row."),
    Column(
        "_source_object", "string", nullable=False, description="File, table or topic partition."
    ),
    Column("_operation", "string", description=OPERATION_DESCRIPTION),
    Column(
        "_delivery_order", "string", description="Orders deliveries: time of the file, then path."
    ),
    Column(
        "_object_version", "string", nullable=False, description="Times and size, ETag, snapshot."
    ),
    Column("_source", "string", nullable=False, description="Source and entity."),
    Column("_captured_at", "timestamptz", nullable=False, description="When it was read."),
    Column("_batch_id", "string", nullable=False, description="Capture that read it."),
    Column("_row_hash", "bigint", nullable=False, description="Hash of the row's text."),
    Column(PARTITION_DATE, "date", nullable=False, description="Day of the row, UTC."),
)


@dataclass(frozen=True)
class CapturedWindow:
    """What became of the days of a capture; every one of them is in `staged`, `failed` or `held`.

    Attributes:
        staged: By day, the data files to append to raw; often none.
        failed: Why a day could not be captured; the other days are not affected.
        rows: By day in `staged`, the rows of all current versions, earlier captures' included.
        held: Days that wait for a file, with what they wait for.
        overdue: Days in `staged` whose file did not come until `expected_by`.
        duplicates: New files with the same rows as another file of their day; both count.
        superseded: Files that are passed over because a later delivery of the same file is there.
        unplaced: By landing path, how many rows without a day of their own this capture left out,
            because they belong to the first partition and it was not asked for.
        outside: By landing path, how many rows are of days outside the partitions.
        elsewhere: By landing path, the other day to which a file belongs by its own time.
        unclaimed: Files beside the entity's that no entity claims, and nearest to this one.
    """

    staged: Mapping[date, StagedPartition]
    failed: Mapping[date, HeadraceError]
    rows: Mapping[date, int]
    held: Mapping[date, str] = field(default_factory=dict)
    overdue: tuple[date, ...] = ()
    duplicates: tuple[DuplicateDelivery, ...] = ()
    superseded: tuple[str, ...] = ()
    unplaced: Mapping[str, int] = field(default_factory=dict)
    outside: Mapping[str, int] = field(default_factory=dict)
    elsewhere: Mapping[str, date] = field(default_factory=dict)
    unclaimed: tuple[UnclaimedFile, ...] = ()

    def warnings(self) -> list[str]:
        """What somebody may want to look at though no day fails for it, a line each."""
        rows = sum(self.outside.values())
        unplaced = sum(self.unplaced.values())
        twice = [f"{one.path} of {one.day}" for one in self.duplicates]
        other = [f"{path} to {day}" for path, day in self.elsewhere.items()]
        empty = [day.isoformat() for day in self.overdue]
        said = {
            f"{rows} rows are of days outside the partitions and are passed over": self.outside,
            f"{unplaced} rows have no readable day and belong to the first partition, which this "
            "run is not about": self.unplaced,
            "the file did not come in time, and the day is taken as empty": empty,
            "files hold the same rows as another file of their day, and all count": twice,
            "files lie beside a later delivery of the same file and are passed over": (
                self.superseded
            ),
            "files belong to days that this run is not about": other,
        }
        return [f"{what}: {_named([*which])}" for what, which in said.items() if which]


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def raw_schema(entity: EntityConfig) -> TableSchema:
    """Columns of an entity's raw table: every declared column as text, then where it came from."""
    texts = (Column(c.name, "string", description=c.description) for c in entity.columns)
    return TableSchema((*texts, *_LINEAGE))


def capture(
    entity: EntityConfig,
    landing: Landing,
    folder: DataFolder,
    captured: Captured,
    days: Sequence[date],
    run: CaptureRun,
) -> CapturedWindow:
    """Read what is new in the landing zone for `days`, and write it where no table refers to it.

    Args:
        entity: Whose files to read.
        landing: Where they arrive.
        folder: Where raw's data files lie.
        captured: By day, every version that raw holds (`versions.captured_versions`).
        days: Partitions; one and many take the same path.
        run: Name and time of the capture.

    Returns:
        A result for each of `days`. A day that failed leaves no data files behind.

    Raises:
        SourceUnavailableError: The landing zone itself does not answer.
        StorageUnavailableError: A data file could not be written.
        StorageRejectedError: It may not be written.
    """
    listing = _settled_listing(entity, landing, days, run)
    plan = plan_capture(entity, listing, captured, days, run)
    if error := _nothing_ever(entity, landing, listing, run):
        return CapturedWindow({}, dict.fromkeys(sorted(set(days)), error), {})
    reader = DeliveryReader(entity, landing, folder, captured, raw_schema(entity), run)
    outcomes = [_known(plan, captured)]
    done, total = len(plan.unchanged) + len(plan.failed) + len(plan.held), len(set(days))
    progress.report(run.asset, done, total)
    with ThreadPoolExecutor(_THREADS) as pool:
        for delivery, outcome in zip(
            plan.deliveries, pool.map(reader.read, plan.deliveries), strict=True
        ):
            outcomes.append(outcome)
            done += len(delivery.days)
            progress.report(run.asset, done, total)
    return replace(
        _window(outcomes),
        held=plan.held,
        overdue=plan.overdue,
        superseded=plan.superseded,
        elsewhere=plan.elsewhere,
        unclaimed=_unclaimed(entity, listing, run),
    )


def _settled_listing(
    entity: EntityConfig, landing: Landing, days: Sequence[date], run: CaptureRun
) -> tuple[StoredFile, ...]:
    """What lies in the folder of the days' files, once the youngest of them has been left alone.

    Whoever delivers a file and asks for its day at once does not mean to fail: a short wait is
    waited for here. After a longer one the day is tried again, as the plan says.
    """
    folder = listing_prefix(entity.extract, days, entity.grain).rpartition("/")[0]
    prefix = f"{folder}/" if folder else ""
    listing = landing.list_files(prefix)
    found = files_by_partition(entity.extract, listing, days, entity.grain)
    own = [file for some in found.values() for file in some]
    ages = [(run.captured_at - file.arrived_at).total_seconds() for file in own]
    wait = run.settle_seconds - min(ages, default=run.settle_seconds)
    if not 0 < wait <= run.settle_seconds <= _LONGEST_WAIT_SECONDS:
        return listing
    time.sleep(wait)
    before = {file.path: file.version for file in listing}
    # What has not changed while we waited has been left alone, whatever the clocks say.
    return tuple(
        replace(file, changed_at=_LONG_AGO) if before.get(file.path) == file.version else file
        for file in landing.list_files(prefix)
    )


def _nothing_ever(
    entity: EntityConfig, landing: Landing, listing: Sequence[StoredFile], run: CaptureRun
) -> NoFilesError | None:
    """That the entity's `path` matches no file at all, neither now nor ever before."""
    if not run.is_first or entity.extract.optional:
        return None
    if any(is_file_of(entity.extract, file.path) for file in listing):
        return None
    everything = landing.list_files()
    if any(is_file_of(entity.extract, file.path) for file in everything):
        return None
    lost = unclaimed_files(run.entities or {entity.name: entity}, everything, run.ignore)
    # Those that are nearest to this entity's path first.
    near = sorted(lost, key=lambda file: file.pattern != entity.extract.path)
    found = unclaimed_text(near) or f"{len(everything)} files are there, all of other entities"
    return NoFilesError(
        f"no file matches the path of {entity.name}, {entity.extract.path}; {found}",
        fix="correct `path`, deliver the files, or declare `optional: true` if there may be none",
    )


def _unclaimed(
    entity: EntityConfig, listing: Sequence[StoredFile], run: CaptureRun
) -> tuple[UnclaimedFile, ...]:
    found = unclaimed_files(run.entities, listing, run.ignore) if run.entities else ()
    return tuple(file for file in found if file.pattern == entity.extract.path)


def _known(plan: CapturePlan, captured: Captured) -> DeliveryOutcome:
    """The days about which reading would say nothing."""
    current = {day: current_versions(captured.get(day, ())) for day in plan.unchanged}
    rows = {day: sum(v.rows for v in versions.values()) for day, versions in current.items()}
    return DeliveryOutcome(dict.fromkeys(current, ()), rows, plan.failed)


def _window(outcomes: Iterable[DeliveryOutcome]) -> CapturedWindow:
    staged: dict[date, StagedPartition] = {}
    rows: dict[date, int] = {}
    failed: dict[date, HeadraceError] = {}
    duplicates: list[DuplicateDelivery] = []
    unplaced: dict[str, int] = {}
    outside: dict[str, int] = {}
    for outcome in outcomes:
        staged |= {day: StagedPartition(day, tuple(f)) for day, f in outcome.staged.items()}
        rows |= outcome.rows
        failed |= outcome.failed
        duplicates += outcome.duplicates
        unplaced |= outcome.unplaced
        outside |= outcome.outside
    return CapturedWindow(
        staged=dict(sorted(staged.items())),
        failed=dict(sorted(failed.items())),
        rows=dict(sorted(rows.items())),
        duplicates=tuple(sorted(duplicates, key=lambda d: (d.day, d.path))),
        unplaced=unplaced,
        outside=outside,
    )
