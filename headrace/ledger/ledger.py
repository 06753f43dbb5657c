"""The ledger: the outcome of every partition of every asset, and the history of attempts.

A row is written after the publication, or in its transaction if that is in Postgres too. A row is
no proof that the published data still exists: readers check that first.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime

from psycopg import sql
from psycopg.rows import class_row

from headrace.ledger import liveness
from headrace.ledger.records import AssetSummary, Attempt, PartitionRecord, PartitionState
from headrace.ledger.table_watermarks import TableWatermarks
from headrace.ledger.tables import ensure_tables
from headrace.warehouse.pool import Borrow
from headrace.warehouse.sessions import Session, map_errors

_UNNESTED = """
select
    asset, partition, status, run_id, snapshot_id, code_version, rows_in, rows_out,
    rows_quarantined, quality_score, error, data_version, content, seconds,
    inputs::jsonb as inputs, checks::jsonb as checks
from unnest(
    %s::text [], %s::date [], %s::text [], %s::text [], %s::bigint [], %s::text [],
    %s::bigint [], %s::bigint [], %s::bigint [], %s::numeric [], %s::text [], %s::text [],
    %s::text [], %s::double precision [], %s::text [], %s::text []
) as recorded (
    asset, partition, status, run_id, snapshot_id, code_version, rows_in, rows_out,
    rows_quarantined, quality_score, error, data_version, content, seconds, inputs, checks
)
"""
_RECORD = f"""
with new as materialized ({_UNNESTED}),

attempts as (
    insert into platform.partition_attempt (
        asset, partition, status, run_id, code_version, rows_in, rows_out, rows_quarantined,
        quality_score, error, checks, inputs, seconds, ended_at
    )
    select
        asset, partition, status, run_id, code_version, rows_in, rows_out, rows_quarantined,
        quality_score, error, checks, inputs, seconds, clock_timestamp()
    from new
)

insert into platform.partition_ledger (
    asset, partition, status, run_id, code_version, rows_in, rows_out, rows_quarantined,
    quality_score, error, attempted_at, attempted_inputs, snapshot_id, published_rows,
    published_run_id, published_at, published_code_version, data_version, inputs
)
select
    new.asset, new.partition, new.status, new.run_id, new.code_version, new.rows_in, new.rows_out,
    new.rows_quarantined, new.quality_score, new.error, statement_timestamp(), new.inputs,
    case when new.status = 'published' then new.snapshot_id end,
    case when new.status = 'published' then new.rows_out end,
    case when new.status = 'published' then new.run_id end,
    case when new.status = 'published' then statement_timestamp() end,
    case when new.status = 'published' then new.code_version end,
    case
        when
            new.status = 'published'
            and (
                new.content = 'same'
                or new.content = 'derived'
                and known.inputs = new.inputs
                and known.published_code_version = new.code_version
            )
            then coalesce(known.data_version, new.data_version)
        when new.status = 'published' then new.data_version
    end,
    case when new.status = 'published' then new.inputs end
from new
left join platform.partition_ledger as known
    on new.asset = known.asset
    and coalesce(new.partition, date '0001-01-01') = coalesce(known.partition, date '0001-01-01')
where new.status <> 'superseded' and (new.status <> 'skipped' or known.published_at is null)
-- All runs write rows in this order. Otherwise two runs with the same rows may deadlock.
order by new.asset, new.partition
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
attempted_inputs = excluded.attempted_inputs,
running_run_id = nullif(partition_ledger.running_run_id, excluded.run_id),
snapshot_id = case
    when excluded.status = 'published' then excluded.snapshot_id else partition_ledger.snapshot_id
end,
published_rows = coalesce(excluded.published_rows, partition_ledger.published_rows),
published_run_id = coalesce(excluded.published_run_id, partition_ledger.published_run_id),
published_at = coalesce(excluded.published_at, partition_ledger.published_at),
published_code_version = coalesce(
    excluded.published_code_version, partition_ledger.published_code_version
),
data_version = case
    when excluded.status = 'published' then excluded.data_version else partition_ledger.data_version
end,
inputs = case
    when excluded.status = 'published' then excluded.inputs else partition_ledger.inputs
end
"""  # noqa: S608  # of constants alone

# A partition without attempts gets a row, so that it counts as stale if this run dies.
_BEGIN = """
insert into platform.partition_ledger (
    asset, partition, status, run_id, code_version, rows_in, rows_out, rows_quarantined,
    quality_score, attempted_at, running_run_id
)
select %(asset)s, day, 'running', %(run_id)s, '', 0, 0, 0, 0, statement_timestamp(), %(run_id)s
from unnest(%(days)s::date []) as day
order by day
on conflict (asset, (coalesce(partition, date '0001-01-01'))) do update set
running_run_id = excluded.running_run_id
"""
_EXPECT = f"""{_BEGIN}
where partition_ledger.run_id <> excluded.run_id and partition_ledger.running_run_id is null
"""
_INTERRUPTED = """
insert into platform.partition_attempt (
    asset, partition, status, run_id, code_version, rows_in, rows_out, rows_quarantined,
    quality_score, ended_at
)
select asset, partition, 'interrupted', running_run_id, '', 0, 0, 0, 0, clock_timestamp()
from platform.partition_ledger
where asset = %s and partition = any(%s) and running_run_id = any(%s)
"""
# Days whose partition may be stale: all but those that were built from the current inputs and code.
_CANDIDATES = """
with own as (
    select partition, status, code_version, published_code_version, running_run_id, inputs
    from platform.partition_ledger
    where asset = %(asset)s and partition is not null
),

read as (
    select partition, asset, data_version
    from platform.partition_ledger
    where asset = any(%(inputs)s) and partition is not null and published_at is not null
)

select distinct coalesce(own.partition, read.partition)
from own
full join read on own.partition = read.partition
where
    own.partition is null
    or own.status <> 'published'
    or own.running_run_id is not null
    or own.published_code_version is distinct from %(code_version)s
    or own.inputs is null
    or (read.asset is not null and read.data_version is distinct from own.inputs ->> read.asset)
"""
_END = """
update platform.partition_ledger set running_run_id = null
where running_run_id = %s and asset = %s and partition = any(%s)
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


_RECORD_COLUMNS = tuple(one.name for one in fields(PartitionRecord))
_JSON_COLUMNS = ("inputs", "checks")


@dataclass(frozen=True)
class Ledger:
    """Reads and writes the ledger of one warehouse; creates its tables on first use."""

    connect: Borrow

    @property
    def watermarks(self) -> TableWatermarks:
        """The versions of whole tables that assets have read."""
        return TableWatermarks(self.connect)

    def record(self, *attempts: Iterable[PartitionRecord]) -> None:
        """Record attempts in one transaction.

        Args:
            attempts: Groups of records, written in order. Of two records of one partition in a
                group, only the later one is written. If a partition is published in one group and
                failed in a later one, its last attempt has failed, and its publication stays.
        """
        with (
            map_errors("writing the ledger"),
            self.connect() as session,
            session.transaction(),
        ):
            for records in attempts:
                self.record_in(session, records)

    def record_in(self, session: Session, records: Iterable[PartitionRecord]) -> None:
        """Record one group of attempts in the transaction of `session`."""
        last = {(r.asset, r.partition): r for r in records}
        if not last:
            return
        ensure_tables(session)
        session.execute(_RECORD, [_column([*last.values()], name) for name in _RECORD_COLUMNS])

    def begin(self, asset: str, days: Collection[date], run_id: str) -> None:
        """Record that a run starts to build `days`, which are stale if it dies before `record`.

        For each partition that a dead run started, the history gets an `interrupted` attempt.
        """
        with (
            map_errors("writing the ledger"),
            self.connect() as session,
            session.transaction(),
        ):
            ensure_tables(session)
            dead = self._dead(session, asset) - {run_id}
            if dead:
                session.execute(_INTERRUPTED, (asset, [*days], [*dead]))
            session.execute(_BEGIN, {"asset": asset, "run_id": run_id, "days": sorted(days)})

    def expect(self, asset: str, days: Collection[date], run_id: str) -> None:
        """Record that a run will build `days` later; days that it has attempted are unchanged."""
        with map_errors("writing the ledger"), self.connect() as session:
            ensure_tables(session)
            values = {"asset": asset, "run_id": run_id, "days": sorted(days)}
            session.execute(_EXPECT, values)

    def end(self, asset: str, days: Collection[date], run_id: str) -> None:
        """Record that a run has finished `days` that it began, without an attempt to record."""
        with map_errors("writing the ledger"), self.connect() as session:
            session.execute(_END, (run_id, asset, [*days]))

    def dead_runs(self) -> frozenset[str]:
        """Runs that began partitions, did not record them, and are not alive."""
        with map_errors("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            return self._dead(session, None)

    def alive(self, run_ids: Collection[str]) -> frozenset[str]:
        """The runs among `run_ids` that are alive."""
        with map_errors("reading the ledger"), self.connect() as session:
            return liveness.alive(session, run_ids)

    def readable(self, asset: str, days: Collection[date]) -> frozenset[date]:
        """The days among `days` that may be read: those whose last attempt was published."""
        states = self.states(asset, days)
        return frozenset(day for day in days if day in states and states[day].status == "published")

    def states(
        self, asset: str, days: Collection[date] | None = None
    ) -> Mapping[date | None, PartitionState]:
        """The state of each of `days`, or of all; days without attempts are missing.

        An asset without partitions has one state under None, which only a call without days
        returns.
        """
        chosen = None if days is None else list(days)
        found = self._states(
            "where asset = %s and (%s::date [] is null or partition = any(%s))",
            (asset, chosen, chosen),
        )
        return {state.partition: state for state in found}

    def possibly_stale_days(
        self, asset: str, inputs: Collection[str], code_version: str
    ) -> set[date]:
        """The days whose partition may be stale, for `headrace.ledger.staleness`."""
        values = {"asset": asset, "inputs": [*inputs], "code_version": code_version}
        with map_errors("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            return {row[0] for row in session.execute(_CANDIDATES, values)}

    def published_range(self) -> tuple[date, date] | None:
        """First and last day that any asset has published; None before the first publication."""
        with map_errors("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            row = session.execute(
                "select min(partition), max(partition) from platform.partition_ledger"
                " where published_at is not null"
            ).fetchone()
            return None if row is None or row[0] is None else (row[0], row[1])

    def delete_before(self, asset: str, before: date) -> None:
        """Delete the states of days before `before`, whose data was dropped."""
        with map_errors("writing the ledger"), self.connect() as session:
            ensure_tables(session)
            session.execute(
                "delete from platform.partition_ledger where asset = %s and partition < %s",
                (asset, before),
            )

    def recorded_snapshots(self, asset: str, snapshot_ids: Collection[int]) -> frozenset[int]:
        """The snapshots among `snapshot_ids` that are recorded for partitions of an asset."""
        with map_errors("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            found = session.execute(
                "select distinct snapshot_id from platform.partition_ledger"
                " where asset = %s and snapshot_id = any(%s)",
                (asset, [*snapshot_ids]),
            )
            return frozenset(row[0] for row in found)

    def attempts(
        self, *, run_id: str | None = None, asset: str | None = None, partition: date | None = None
    ) -> list[Attempt]:
        """The attempts of a run, of an asset or of one of its partitions, oldest first."""
        where = (
            "where (%s::text is null or run_id = %s) and (%s::text is null or asset = %s)"
            " and (%s::date is null or partition = %s)"
        )
        names = sql.SQL(", ").join(sql.Identifier(f.name) for f in fields(Attempt))
        query = sql.SQL("select {} from platform.partition_attempt {} order by ended_at, asset")
        values = (run_id, run_id, asset, asset, partition, partition)
        with map_errors("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            with session.cursor(row_factory=class_row(Attempt)) as cursor:
                return cursor.execute(query.format(names, sql.SQL(where)), values).fetchall()

    def last_attempts_of_run(self, run_id: str) -> list[Attempt]:
        """A run's last attempt at each of its partitions, by asset and day; retries come later."""
        last = {(a.asset, a.partition): a for a in self.attempts(run_id=run_id)}
        return [last[key] for key in sorted(last, key=lambda k: (k[0], k[1] or date.min))]

    def held_or_failed_of_run(self, run_id: str) -> list[Attempt]:
        """The partitions that a run held or failed, by asset and day."""
        return [a for a in self.last_attempts_of_run(run_id) if a.status in ("held", "failed")]

    def skipped_of_run(self, run_id: str) -> list[Attempt]:
        """The partitions whose inputs were not published, by asset and day."""
        return [a for a in self.last_attempts_of_run(run_id) if a.status == "skipped"]

    def not_published(self) -> list[PartitionState]:
        """Every partition whose last attempt was held or failed, by asset and day."""
        return self._states("where status in ('held', 'failed')", ())

    def published_count_of_run(self, run_id: str) -> int:
        """Number of partitions that a run published."""
        return sum(attempt.status == "published" for attempt in self.last_attempts_of_run(run_id))

    def delete_attempts_before(self, before: datetime) -> int:
        """Delete attempts that ended before a time; returns their number."""
        with map_errors("writing the ledger"), self.connect() as session:
            ensure_tables(session)
            return session.execute(
                "delete from platform.partition_attempt where ended_at < %s", (before,)
            ).rowcount

    def set_data_version_in(
        self, session: Session, asset: str, days: Collection[date], version: str
    ) -> None:
        """Set the content version of published days, in the transaction that changes their rows."""
        session.execute(
            "update platform.partition_ledger set data_version = %s"
            " where asset = %s and partition = any(%s) and published_at is not null",
            (version, asset, [*days]),
        )

    def summary(self) -> list[AssetSummary]:
        """One row an asset, by name."""
        with map_errors("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            with session.cursor(row_factory=class_row(AssetSummary)) as cursor:
                return cursor.execute(_SUMMARY).fetchall()

    def _dead(self, session: Session, asset: str | None) -> frozenset[str]:
        found = session.execute(
            "select distinct running_run_id from platform.partition_ledger"
            " where running_run_id is not null and (%s::text is null or asset = %s)",
            (asset, asset),
        )
        running = {row[0] for row in found}
        return frozenset(running - liveness.alive(session, running))

    def _states(self, where: str, values: tuple[object, ...]) -> list[PartitionState]:
        query = sql.SQL("select {} from platform.partition_ledger {} order by asset, partition")
        names = sql.SQL(", ").join(sql.Identifier(f.name) for f in fields(PartitionState))
        with map_errors("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            with session.cursor(row_factory=class_row(PartitionState)) as cursor:
                return cursor.execute(query.format(names, sql.SQL(where)), values).fetchall()


def _column(records: Sequence[PartitionRecord], name: str) -> list[object]:
    """One attribute of all records, as a parameter of the statement."""
    values = [getattr(record, name) for record in records]
    if name not in _JSON_COLUMNS:
        return values
    return [None if value is None else json.dumps(value) for value in values]
