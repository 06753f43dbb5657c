"""Capture: the files of a window of days become data files of raw, ready to be published.

Belongs here: what raw's columns are, one capture of many days, and what became of each.
Elsewhere: what to read (headrace.ingestion.plan), reading it (…deliveries), publication (the IO
managers).
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date

from headrace import progress
from headrace.config.sources import EntityConfig
from headrace.errors import HeadraceError
from headrace.ingestion.corrupt_rows import CORRUPT_REASON, CORRUPT_RECORD
from headrace.ingestion.csv_reader import LINE
from headrace.ingestion.deliveries import (
    CaptureRun,
    DeliveryOutcome,
    DeliveryReader,
    DuplicateDelivery,
)
from headrace.ingestion.drafts import DataFolder
from headrace.ingestion.files import listing_prefix
from headrace.ingestion.landing import Landing
from headrace.ingestion.plan import Captured, CapturePlan, plan_capture, settled_time
from headrace.ingestion.rows import PARTITION_DATE
from headrace.ingestion.versions import current_versions
from headrace.schema import Column, TableSchema
from headrace.staged import StagedPartition

# Arrow, zlib and NumPy leave Python's lock: two deliveries at a time keep two cores busy.
_THREADS = 2

_LINEAGE = (
    Column(CORRUPT_RECORD, "string", description="Text of a row that has no columns."),
    Column(CORRUPT_REASON, "string", description="Why it has none."),
    Column(LINE, "bigint", nullable=False, description="Record; 1 is the header, 0 no row."),
    Column("_file", "string", nullable=False, description="Path in the landing zone."),
    Column("_delivery", "string", description="Orders deliveries: time of the file, then path."),
    Column("_file_version", "string", nullable=False, description="Times and size, or ETag."),
    Column("_source", "string", nullable=False, description="Source and entity."),
    Column("_captured_at", "timestamptz", nullable=False, description="When it was read."),
    Column("_batch_id", "string", nullable=False, description="Capture that read it."),
    Column("_row_hash", "bigint", nullable=False, description="Hash of the row's text."),
    Column(PARTITION_DATE, "date", nullable=False, description="Day of the row, UTC."),
)


@dataclass(frozen=True)
class CapturedWindow:
    """What became of the days of a capture; every one of them is in `staged` or in `failed`.

    Attributes:
        staged: By day, the data files to append to raw; often none.
        failed: Why a day could not be captured; the other days are not affected.
        rows: By day in `staged`, the rows of all current versions, earlier captures' included.
        duplicates: New files with the same rows as another file of their day; both count.
        superseded: Files that are passed over because a later delivery of the same file is there.
        unplaced: By landing path, how many rows without a day of their own this capture left out,
            because they belong to the first partition and it was not asked for.
    """

    staged: Mapping[date, StagedPartition]
    failed: Mapping[date, HeadraceError]
    rows: Mapping[date, int]
    duplicates: tuple[DuplicateDelivery, ...] = ()
    superseded: tuple[str, ...] = ()
    unplaced: Mapping[str, int] = field(default_factory=dict)


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
    listing = landing.list_files(listing_prefix(entity.extract, days))
    settled_before = settled_time(run.captured_at, run.settle_seconds)
    plan = plan_capture(entity, listing, captured, days, settled_before=settled_before)
    reader = DeliveryReader(entity, landing, folder, captured, raw_schema(entity), run)
    outcomes = [_known(plan, captured)]
    done, total = len(plan.unchanged) + len(plan.failed), len(set(days))
    progress.report(run.asset, done, total)
    with ThreadPoolExecutor(_THREADS) as pool:
        for delivery, outcome in zip(
            plan.deliveries, pool.map(reader.read, plan.deliveries), strict=True
        ):
            outcomes.append(outcome)
            done += len(delivery.days)
            progress.report(run.asset, done, total)
    return replace(_window(outcomes), superseded=plan.superseded)


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
    for outcome in outcomes:
        staged |= {day: StagedPartition(day, tuple(f)) for day, f in outcome.staged.items()}
        rows |= outcome.rows
        failed |= outcome.failed
        duplicates += outcome.duplicates
        unplaced |= outcome.unplaced
    return CapturedWindow(
        staged=dict(sorted(staged.items())),
        failed=dict(sorted(failed.items())),
        rows=dict(sorted(rows.items())),
        duplicates=tuple(sorted(duplicates, key=lambda d: (d.day, d.path))),
        unplaced=unplaced,
    )
