"""The connector contract: the interface through which raw captures a kind of source.

A capture asks the connector for a plan, reads the plan's units as Arrow record batches, writes
them, and commits the data files together with the connector's state.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from headrace.config.settings import PartitionSettings
from headrace.errors import HeadraceError
from headrace.schema import Column


@dataclass(frozen=True)
class CapturedVersion:
    """One source object as it was at one capture, restricted to one partition.

    Attributes:
        captured_at: When it was read, UTC; later versions of an object have later times.
        object_id: Identifies the object; see `SourceObject.object_id`.
        content_id: Identifies the rows in their order: equal for equal deliveries, whatever
            their compression or line ends.
        read_id: See `SourceObject.read_id`.
        rows: Rows in the partition. 0: an earlier version had rows and this one has none; its data
            file holds one marker row, with `_source_position` 0.
        modified_at: See `SourceObject.modified_at`; None for a version that was captured before
            this was recorded.
    """

    captured_at: datetime
    object_id: str
    content_id: str
    read_id: str
    rows: int
    modified_at: datetime | None = None


# By partition, every version that raw holds.
Captured = Mapping[date, Sequence[CapturedVersion]]


@dataclass(frozen=True)
class SourceObject:
    """One version of a thing that is read whole: a file, a key range of a table, some offsets.

    Attributes:
        name: `_source_object`: path, table, or topic partition.
        version: `_object_version`: changes whenever the content changes.
        order: `_delivery_order`: orders the deliveries of an entity, as text.
        object_id: Identifies the object, 16 hexadecimal digits. Of several versions with one id
            the last one counts, so an append-only source gives each range of offsets its own id.
        read_id: Identifies version and reading options (columns, format), 16 hexadecimal digits:
            while it is unchanged, another read gives the same rows.
        modified_at: When the content was written, UTC.
        locator: What the connector needs to read it; raw passes it back unchanged.
        replaces: The previous version of the object, where it may lie in another partition.
    """

    name: str
    version: str
    order: str
    object_id: str
    read_id: str
    modified_at: datetime
    locator: Any = None
    replaces: CapturedVersion | None = None


@dataclass(frozen=True)
class Overlap:
    """Rows that earlier captures may have read already; raw stores none of them twice.

    Attributes:
        column: A column of the entity: a time, or an increasing id.
        since: A row was read before only if its value there is at or after this instant or id, or
            NULL. None: whatever its value is.
    """

    column: str
    since: datetime | int | None = None


@dataclass(frozen=True)
class ReadUnit:
    """Objects that are read one after another. Units are read in parallel.

    Attributes:
        partitions: The partitions that its rows may belong to, by their first days.
        objects: In the order of their deliveries.
        split_by: Column that determines the partition of a row; None: all rows belong to the only
            partition of the unit.
        overlap: The rows that raw may hold already; None if the source repeats none. Raw drops such
            a row if it equals the latest row of its key in the partition.
        is_log: Whether its rows are changes: equal rows are equal changes, and no second delivery.
        rows: About how many rows are read, for progress; None: it is not known.
    """

    partitions: tuple[date, ...]
    objects: tuple[SourceObject, ...]
    split_by: str | None = None
    overlap: Overlap | None = None
    is_log: bool = False
    rows: int | None = None


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class CapturePlan:
    """What to read for some partitions: each is in one of `units`, `unchanged`, `failed`, `held`.

    Attributes:
        units: What must be read; no partition is in two units.
        unchanged: Partitions for which the source has nothing new.
        failed: Partitions that cannot be captured now, with the reason.
        held: Partitions that wait for a delivery, with what they wait for.
        overdue: Partitions (of `units` or `unchanged`) whose delivery did not arrive in time.
        notices: Warnings that fail no partition: by text, the objects that it is about.
        remarks: Lines that go to the run's log only.
        memo: What the connector needs in `state_after`; raw passes it back unread.
        threads: How many units are read at a time.
        is_first_load: Whether a first load is read, whose units raw may commit one after another:
            `state_after` counts those that are still to come as failed.
        release: Called once when nothing more is read.
    """

    units: tuple[ReadUnit, ...]
    unchanged: tuple[date, ...] = ()
    failed: Mapping[date, HeadraceError] = field(default_factory=dict)
    held: Mapping[date, str] = field(default_factory=dict)
    overdue: tuple[date, ...] = ()
    notices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    memo: Any = None
    threads: int = 2
    is_first_load: bool = False
    release: Callable[[], None] = _nothing


@dataclass(frozen=True)
class CaptureState:
    """What raw holds of an entity.

    Attributes:
        captured: By partition, every version that raw holds.
        is_empty: Whether the entity was never captured.
        stored: What `Connector.state_after` returned for the last commit.
    """

    captured: Captured = field(default_factory=dict)
    is_empty: bool = False
    stored: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CaptureRun:
    """What all units of one capture have in common.

    Attributes:
        source: Source and entity, as in `_source`.
        batch_id: Identifies the capture.
        captured_at: Its time, UTC.
        partitions: The days that exist; rows without a day of their own go to the first.
        asset: The asset whose progress is reported.
    """

    source: str
    batch_id: str
    captured_at: datetime
    partitions: PartitionSettings
    asset: str = "raw"


class Connector(Protocol):
    """Reads one entity of one kind of source."""

    @property
    def kind(self) -> str:
        """Its name in YAML (`connector`)."""
        ...

    @property
    def columns(self) -> tuple[Column, ...]:
        """The entity's columns as raw keeps them: the source's types, text where it has none."""
        ...

    def plan(self, partitions: Sequence[date], state: CaptureState, run: CaptureRun) -> CapturePlan:
        """Decide what to read. Looks at the source's metadata (listing, watermarks), reads no rows.

        Raises:
            SourceUnavailableError: The source does not answer.
            SourceRejectedError: The source refuses access.
        """
        ...

    def read(
        self,
        source_object: SourceObject,
        partition: date | None = None,
        columns: Collection[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows of exactly this version, in order, with a few batches in memory at a time.

        Args:
            source_object: An object of a plan.
            partition: The partition of all its rows; None: a column determines it.
            columns: The only columns to read; None: all.

        Returns:
            Batches of `columns`, then `_corrupt_record`, `_corrupt_reason` (see
            `sources.corrupt_rows`), `_source_position`, and `_operation` where there is one.

        Raises:
            SourceRejectedError: The object is not as declared. Names object, column and remedy.
            SourceUnavailableError: It changed since the plan, or the connection was lost.
        """
        ...

    def state_after(
        self, plan: CapturePlan, state: CaptureState, failed: Collection[date]
    ) -> Mapping[str, str]:
        """The state to commit together with the rows that the plan read: a few short texts.

        Args:
            plan: The plan.
            state: What raw held before it.
            failed: Partitions that could not be captured; their rows are not in the commit.
        """
        ...

    def pending_partitions(self, state: CaptureState, run: CaptureRun) -> Mapping[date, str]:
        """The partitions with rows that no capture has read, by the source's metadata.

        A partition without new rows may be among them: its capture then finds nothing. Empty before
        the first capture, for files (the sensor of the landing zone watches these), and for a
        source whose metadata do not show new rows.

        Returns:
            By partition, a text that changes when more rows come.

        Raises:
            SourceUnavailableError, SourceRejectedError: As `plan` does.
        """
        ...

    def sparse_partitions(self, state: CaptureState, run: CaptureRun) -> set[date]:
        """For grain `SPARSE`: the partitions for which the source has data."""
        ...


@runtime_checkable
class AfterCommit(Protocol):
    """A connector that changes its source once rows are committed, such as by moving files."""

    def after_commit(
        self,
        captured_of: Callable[[Sequence[date]], Captured],
        failed: Collection[date],
        run: CaptureRun,
    ) -> Sequence[str]:
        """Do what may follow the commit; returns lines for the log.

        It depends on what raw holds: a run that was killed before it is made good by the next one.

        Args:
            captured_of: What raw holds of partitions, this run's commit included.
            failed: Partitions that this run did not commit.
            run: The run.

        Raises: as `plan` does.
        """
        ...


def current_versions(versions: Iterable[CapturedVersion]) -> dict[str, CapturedVersion]:
    """By `object_id`, the latest version of each object of one partition."""
    return {v.object_id: v for v in sorted(versions, key=lambda v: (v.captured_at, v.content_id))}


def short_id(*parts: str) -> str:
    """16 hexadecimal digits that identify some texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
