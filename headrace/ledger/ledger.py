"""The ledger: what became of every partition of every asset, and whether it may be read.

Belongs here: reading and writing `platform.partition_ledger` and `platform.loaded_snapshot`.
Elsewhere: making these tables (headrace.ledger.tables), deciding what becomes of a partition
(headrace.quality), Dagster's events (platform_assets.recorder).

A row is a claim. It is written after the publication, or with it where that is in Postgres too;
whoever reads it looks whether the published thing is there.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from psycopg import sql
from psycopg.rows import class_row

from headrace.ledger.tables import ensure_tables
from headrace.warehouse.kept import Borrow
from headrace.warehouse.sessions import Session, translated

Status = Literal["published", "held", "failed"]

_RECORD = """
insert into platform.partition_ledger (
    asset, partition, status, run_id, code_version, rows_in, rows_out, rows_quarantined,
    quality_score, error, attempted_at, snapshot_id, published_rows, published_run_id, published_at
)
select
    asset, partition, status, run_id, code_version, rows_in, rows_out, rows_quarantined,
    quality_score, error, statement_timestamp(),
    case when status = 'published' then snapshot_id end,
    case when status = 'published' then rows_out end,
    case when status = 'published' then run_id end,
    case when status = 'published' then statement_timestamp() end
from unnest(
    %s::text [], %s::date [], %s::text [], %s::text [], %s::bigint [], %s::text [],
    %s::bigint [], %s::bigint [], %s::bigint [], %s::numeric [], %s::text []
) as new (
    asset, partition, status, run_id, snapshot_id, code_version,
    rows_in, rows_out, rows_quarantined, quality_score, error
)
on conflict (asset, (coalesce(partition, date '0001-01-01'))) do update set
status = excluded.status,
run_id = excluded.run_id,
code_version = excluded.code_version,
rows_in = excluded.rows_in,
rows_out = excluded.rows_out,
rows_quarantined = excluded.rows_quarantined,
quality_score = excluded.quality_score,
error = excluded.error,
attempted_at = excluded.attempted_at,
snapshot_id = case
    when excluded.status = 'published' then excluded.snapshot_id else partition_ledger.snapshot_id
end,
published_rows = coalesce(excluded.published_rows, partition_ledger.published_rows),
published_run_id = coalesce(excluded.published_run_id, partition_ledger.published_run_id),
published_at = coalesce(excluded.published_at, partition_ledger.published_at)
"""

_SUMMARY = """
select
    asset,
    bool_or(partition is not null) as is_partitioned,
    count(*) filter (where status = 'published' and rows_out > 0) as published,
    count(*) filter (where status = 'published' and rows_out = 0) as empty,
    count(*) filter (where status = 'held') as held,
    count(*) filter (where status = 'failed') as failed,
    coalesce(sum(published_rows), 0)::bigint as rows,
    sum(rows_quarantined)::bigint as rows_quarantined,
    (array_agg(run_id order by attempted_at desc))[1] as last_run_id,
    max(attempted_at) as last_run_at
from platform.partition_ledger
group by asset
order by asset
"""


@dataclass(frozen=True)
class PartitionRecord:
    """What became of one attempt at a partition.

    Attributes:
        asset: Name of the asset, such as `processed/retail_transactions`.
        partition: The day; None for an asset without partitions.
        status: `published` with `rows_out` 0 means: known to be empty.
        run_id: Who tried.
        snapshot_id: The lake's snapshot that publishes it; of the warehouse, the one it was loaded
            from; of a mart, the number of the warehouse's load that it was built from.
        code_version: Of the code that made the rows.
        rows_in: Rows read.
        rows_out: Rows published, or that would have been.
        rows_quarantined: Rows set aside with their reasons.
        quality_score: Share of good rows, 0 to 1.
        error: Why it was held or failed; never row contents.
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


_WRITTEN = tuple(field.name for field in fields(PartitionRecord))


@dataclass(frozen=True)
class PartitionState:
    """A row of the ledger: the last attempt, and the publication that readers see.

    `snapshot_id` and the `published_*` are those of the last attempt that was published; None if
    none ever was. The others are of the last attempt, as in PartitionRecord.
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
    snapshot_id: int | None
    published_rows: int | None
    published_run_id: str | None
    published_at: datetime | None


@dataclass(frozen=True)
class AssetSummary:
    """An asset's partitions by state; `rows` are those that readers see."""

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


@dataclass(frozen=True)
class Ledger:
    """Reads and writes the ledger of one warehouse; its tables are made when first needed."""

    connect: Borrow

    def record(self, *attempts: Iterable[PartitionRecord]) -> None:
        """Write attempts down, all or none; of two for one partition the later one counts.

        Those of each argument come after those of the one before: one that failed then leaves
        what an earlier one published.
        """
        with (
            translated("writing the ledger"),
            self.connect() as session,
            session.transaction(),
        ):
            for records in attempts:
                self.record_in(session, records)

    def record_in(self, session: Session, records: Iterable[PartitionRecord]) -> None:
        """As `record`, in the transaction of `session`."""
        last = {(r.asset, r.partition): r for r in records}
        if not last:
            return
        ensure_tables(session)
        # In one order: two runs that write the same rows would else wait for each other.
        ordered = sorted(last.values(), key=lambda r: (r.asset, r.partition or date.min))
        session.execute(_RECORD, [[getattr(r, name) for r in ordered] for name in _WRITTEN])

    def publishable(self, asset: str, days: Collection[date]) -> frozenset[date]:
        """Those of `days` that may be read: their last attempt was published."""
        states = self.states(asset, days)
        return frozenset(day for day in days if day in states and _is_open(states[day]))

    def states(
        self, asset: str, days: Collection[date] | None = None
    ) -> Mapping[date | None, PartitionState]:
        """The last state of each of `days`, or of all; a day that nobody tried is missing.

        An asset without partitions has one state, under None, that only a call without days gives.
        """
        chosen = None if days is None else list(days)
        found = self._states(
            "where asset = %s and (%s::date [] is null or partition = any(%s))",
            (asset, chosen, chosen),
        )
        return {state.partition: state for state in found}

    def forget(self, asset: str, before: date) -> None:
        """Delete the rows of an asset's days before `before`: their data was dropped."""
        with translated("writing the ledger"), self.connect() as session:
            ensure_tables(session)
            session.execute(
                "delete from platform.partition_ledger where asset = %s and partition < %s",
                (asset, before),
            )

    def recorded_snapshots(self, asset: str, snapshot_ids: Collection[int]) -> frozenset[int]:
        """Those of `snapshot_ids` that publish a partition of an asset, by what is written here."""
        with translated("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            found = session.execute(
                "select distinct snapshot_id from platform.partition_ledger"
                " where asset = %s and snapshot_id = any(%s)",
                (asset, [*snapshot_ids]),
            )
            return frozenset(row[0] for row in found)

    def bad_of_run(self, run_id: str) -> list[PartitionState]:
        """What a run tried last and did not publish, by asset and day."""
        return self._states("where run_id = %s and status <> 'published'", (run_id,))

    def not_published(self) -> list[PartitionState]:
        """Every partition whose last attempt was held or failed, by asset and day."""
        return self._states("where status <> 'published'", ())

    def published_of_run(self, run_id: str) -> int:
        """How many partitions a run published that nobody tried again since."""
        return len(self._states("where run_id = %s and status = 'published'", (run_id,)))

    def summary(self) -> list[AssetSummary]:
        """One row an asset, by name."""
        with translated("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            with session.cursor(row_factory=class_row(AssetSummary)) as cursor:
                return cursor.execute(_SUMMARY).fetchall()

    def loaded_snapshot(self, relation: str) -> int | None:
        """The lake's snapshot that a table of the warehouse holds; None if unknown.

        Args:
            relation: As namespace/name or namespace.name. A table that is gone holds nothing.
        """
        with translated("reading the ledger"), self.connect() as session:
            return self.loaded_snapshot_in(session, relation)

    def loaded_snapshot_in(self, session: Session, relation: str) -> int | None:
        """As `loaded_snapshot`, as the transaction of `session` sees it."""
        ensure_tables(session)
        namespace, _, name = _dotted(relation).partition(".")
        row = session.execute(
            "select snapshot_id from platform.loaded_snapshot"
            " where relation = %s and to_regclass(format('%%I.%%I', %s::text, %s::text))"
            " is not null",
            (_dotted(relation), namespace, name),
        ).fetchone()
        return None if row is None else int(row[0])

    def record_loaded_in(
        self, session: Session, relation: str, snapshot_id: int, run_id: str
    ) -> None:
        """Note in the transaction of `session` which snapshot a table is made equal to in it."""
        ensure_tables(session)
        session.execute(
            "insert into platform.loaded_snapshot values (%s, %s, %s, statement_timestamp())"
            " on conflict (relation) do update set snapshot_id = excluded.snapshot_id,"
            " run_id = excluded.run_id, loaded_at = excluded.loaded_at",
            (_dotted(relation), snapshot_id, run_id),
        )

    def _states(self, where: str, values: tuple[object, ...]) -> list[PartitionState]:
        query = sql.SQL("select {} from platform.partition_ledger {} order by asset, partition")
        names = sql.SQL(", ").join(sql.Identifier(f.name) for f in fields(PartitionState))
        with translated("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            with session.cursor(row_factory=class_row(PartitionState)) as cursor:
                return cursor.execute(query.format(names, sql.SQL(where)), values).fetchall()


def _is_open(state: PartitionState) -> bool:
    return state.status == "published"


def _dotted(relation: str) -> str:
    return relation.replace("/", ".")
