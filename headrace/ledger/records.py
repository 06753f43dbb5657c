"""Rows of the ledger's tables: attempts and states of partitions, and summaries of assets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from headrace.ledger.build_plan import InputVersions

# `skipped`: an input was not published; `superseded`: a newer run published the partition first;
# `running`: a run has begun it; `interrupted`: that run died.
Status = Literal["published", "held", "failed", "skipped", "superseded", "running", "interrupted"]


@dataclass(frozen=True)
class PartitionRecord:
    """The outcome of one attempt at a partition.

    Attributes:
        asset: Name of the asset, such as `processed/retail_transactions`.
        partition: First day of the partition; None for an asset without partitions.
        status: Its outcome; `published` with `rows_out` 0 is an empty partition.
        run_id: The run.
        snapshot_id: The lake's snapshot that publishes it; of the warehouse, the snapshot it was
            loaded from; of a mart, NULL.
        code_version: Version of the code and configuration that built it.
        rows_in: Rows read.
        rows_out: Rows that are published, or would be if the audit had passed.
        rows_quarantined: Rows in quarantine.
        quality_score: Share of good rows, 0 to 1.
        error: Why it was held, failed or skipped; never row contents.
        data_version: Content version: equal for equal content.
        content: Whether the content version changes, which makes what is downstream stale. `same`:
            it stays, because the rows are those published before. `derived`: it stays if inputs and
            code version are those of before. `new`: it changes.
        seconds: Time from the start of the step to this record.
        inputs: By input, the content version that was read; NULL: unknown, so it is built again.
        checks: Every check with what was expected and found.
    """

    asset: str
    partition: date | None
    status: Status
    run_id: str
    snapshot_id: int | None = None
    code_version: str = ""
    rows_in: int = 0
    rows_out: int = 0
    rows_quarantined: int = 0
    quality_score: float = 1.0
    error: str | None = None
    data_version: str | None = None
    content: Literal["derived", "same", "new"] = "derived"
    seconds: float | None = None
    inputs: InputVersions | None = None
    checks: Sequence[Mapping[str, object]] = ()


@dataclass(frozen=True)
class PartitionState:
    """A row of the ledger: the last attempt, and the publication that readers see.

    The attributes from `snapshot_id` on describe the last publication; None before the first. The
    others describe the last attempt, as in PartitionRecord. `running_run_id` is a run that has
    begun the partition since.
    """

    asset: str
    partition: date | None
    status: Status
    run_id: str
    code_version: str
    rows_in: int
    rows_out: int
    rows_quarantined: int
    quality_score: Decimal
    error: str | None
    attempted_at: datetime
    attempted_inputs: InputVersions | None
    running_run_id: str | None
    snapshot_id: int | None
    published_rows: int | None
    published_run_id: str | None
    published_at: datetime | None
    published_code_version: str | None
    data_version: str | None
    inputs: InputVersions | None


@dataclass(frozen=True)
class Attempt:
    """One attempt at a partition, from the history."""

    asset: str
    partition: date | None
    status: Status
    run_id: str
    rows_in: int
    rows_out: int
    rows_quarantined: int
    error: str | None
    seconds: float | None
    ended_at: datetime


@dataclass(frozen=True)
class AssetSummary:
    """Number of an asset's partitions by outcome; `rows` are the rows that readers see."""

    asset: str
    is_partitioned: bool
    published: int
    empty: int
    held: int
    failed: int
    rows: int
    rows_quarantined: int
    last_run_id: str
    last_run_at: datetime
