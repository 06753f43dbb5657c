"""The ledger: what became of every partition of every asset, and whether it may be read.

A row is a claim. It is written after the publication, or with it where that is in Postgres too;
whoever reads it looks whether the published thing is there.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from psycopg import sql
from psycopg.rows import class_row

from headrace.ledger import liveness
from headrace.ledger.build_plan import Inputs
from headrace.ledger.tables import ensure_tables
from headrace.warehouse.pool import Borrow
from headrace.warehouse.sessions import Session, map_errors

# `skipped`: an input was not published; `superseded`: a newer run published it meanwhile;
# `running` and `interrupted`: a run began with it and has not ended, or died.
Status = Literal["published", "held", "failed", "skipped", "superseded", "running", "interrupted"]
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
-- In one order: two runs that write the same rows would else wait for each other.
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

# A partition that nobody tried before gets a row, so that it is found if this run dies.
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
# Days on which a partition may be stale: all but those that were built from what is there now.
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
        error: Why it was held, failed or skipped; never row contents.
        data_version: Stands for the content that was published: equal content, equal version.
        content: `same`: what was published before; its version stays, and nothing that was built
            from it becomes stale. `derived`: a function of inputs and code; the same if these are.
            `new`: another content than before.
        seconds: From the beginning of the step to this record.
        inputs: By input, the data version that was read; None: unknown, so that it is tried again.
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
    inputs: Inputs | None = None
    checks: Sequence[Mapping[str, object]] = ()


_WRITTEN = tuple(one.name for one in fields(PartitionRecord))
_AS_JSON = ("inputs", "checks")


@dataclass(frozen=True)
class PartitionState:
    """A row of the ledger: the last attempt, and the publication that readers see.

    `snapshot_id` and what follows it are those of the last attempt that was published; None if
    none ever was. The others are of the last attempt, as in PartitionRecord; `running_run_id` is
    the run that began with it since.
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
    attempted_inputs: Inputs | None
    running_run_id: str | None
    snapshot_id: int | None
    published_rows: int | None
    published_run_id: str | None
    published_at: datetime | None
    published_code_version: str | None
    data_version: str | None
    inputs: Inputs | None


@dataclass(frozen=True)
class Attempt:
    """One attempt at a partition, as the history has it."""

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
            map_errors("writing the ledger"),
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
        session.execute(_RECORD, [_column([*last.values()], name) for name in _WRITTEN])

    def begin(self, asset: str, days: Collection[date], run_id: str) -> None:
        """Note that a run begins with `days`: if it dies before it records them, they are stale.

        What an earlier run began and did not end, because it died, enters the history.
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
        """As `begin`, of days that the run comes to later; those that it was at already stay."""
        with map_errors("writing the ledger"), self.connect() as session:
            ensure_tables(session)
            values = {"asset": asset, "run_id": run_id, "days": sorted(days)}
            session.execute(_EXPECT, values)

    def end(self, asset: str, days: Collection[date], run_id: str) -> None:
        """Note that a run is done with `days` that it began and has not recorded."""
        with map_errors("writing the ledger"), self.connect() as session:
            session.execute(_END, (run_id, asset, [*days]))

    def dead_runs(self) -> frozenset[str]:
        """Runs that began with partitions, did not record them, and are no more."""
        with map_errors("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            return self._dead(session, None)

    def alive(self, run_ids: Collection[str]) -> frozenset[str]:
        """Those of some runs that a process works on."""
        with map_errors("reading the ledger"), self.connect() as session:
            return liveness.alive(session, run_ids)

    def _dead(self, session: Session, asset: str | None) -> frozenset[str]:
        found = session.execute(
            "select distinct running_run_id from platform.partition_ledger"
            " where running_run_id is not null and (%s::text is null or asset = %s)",
            (asset, asset),
        )
        running = {row[0] for row in found}
        return frozenset(running - liveness.alive(session, running))

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

    def candidate_partitions(
        self, asset: str, inputs: Collection[str], code_version: str
    ) -> set[date]:
        """The days on which a partition may be stale (headrace.ledger.staleness); no other is."""
        values = {"asset": asset, "inputs": [*inputs], "code_version": code_version}
        with map_errors("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            return {row[0] for row in session.execute(_CANDIDATES, values)}

    def published_range(self) -> tuple[date, date] | None:
        """First and last day that any asset has published; None while none has."""
        with map_errors("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            row = session.execute(
                "select min(partition), max(partition) from platform.partition_ledger"
                " where published_at is not null"
            ).fetchone()
            return None if row is None or row[0] is None else (row[0], row[1])

    def forget(self, asset: str, before: date) -> None:
        """Delete the rows of an asset's days before `before`: their data was dropped."""
        with map_errors("writing the ledger"), self.connect() as session:
            ensure_tables(session)
            session.execute(
                "delete from platform.partition_ledger where asset = %s and partition < %s",
                (asset, before),
            )

    def recorded_snapshots(self, asset: str, snapshot_ids: Collection[int]) -> frozenset[int]:
        """Those of `snapshot_ids` that publish a partition of an asset, by what is written here."""
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
        """The history, oldest first: of a run, of an asset, or of one of its partitions."""
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

    def last_of_run(self, run_id: str) -> list[Attempt]:
        """The last attempt of a run at each of its partitions, by asset and day.

        A step that is tried again attempts its partitions again.
        """
        last = {(a.asset, a.partition): a for a in self.attempts(run_id=run_id)}
        return [last[key] for key in sorted(last, key=lambda k: (k[0], k[1] or date.min))]

    def bad_of_run(self, run_id: str) -> list[Attempt]:
        """What a run tried and did not publish, by asset and day; nor did a newer run for it."""
        return [a for a in self.last_of_run(run_id) if a.status in ("held", "failed")]

    def skipped_of_run(self, run_id: str) -> list[Attempt]:
        """What a run could not build because an input was not published, by asset and day."""
        return [a for a in self.last_of_run(run_id) if a.status == "skipped"]

    def not_published(self) -> list[PartitionState]:
        """Every partition whose last attempt was held or failed, by asset and day."""
        return self._states("where status in ('held', 'failed')", ())

    def published_of_run(self, run_id: str) -> int:
        """How many partitions a run published."""
        return sum(attempt.status == "published" for attempt in self.last_of_run(run_id))

    def forget_attempts(self, before: datetime) -> int:
        """Delete the history of before a time; returns the number of rows."""
        with map_errors("writing the ledger"), self.connect() as session:
            ensure_tables(session)
            return session.execute(
                "delete from platform.partition_attempt where ended_at < %s", (before,)
            ).rowcount

    def table_versions(self, assets: Collection[str]) -> dict[str, str]:
        """By asset, what stands for the content of all its published partitions."""
        with map_errors("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            found = session.execute(
                "select asset, md5(string_agg(concat(partition, ' ', data_version), ','"
                " order by partition)) from platform.partition_ledger"
                " where asset = any(%s) and data_version is not null group by asset",
                ([*assets],),
            )
            return dict.fromkeys(assets, "") | {row[0]: row[1] for row in found}

    def followed(self, asset: str) -> dict[str, str]:
        """By whole table that an asset follows: the content that it has followed."""
        with map_errors("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            found = session.execute(
                "select input, data_version from platform.table_input where asset = %s", (asset,)
            )
            return {row[0]: row[1] for row in found}

    def record_followed(self, asset: str, inputs: Inputs) -> None:
        """Note the content of the whole tables that an asset has followed."""
        with map_errors("writing the ledger"), self.connect() as session:
            ensure_tables(session)
            session.execute(
                "insert into platform.table_input"
                " select %s, input, data_version from unnest(%s::text [], %s::text [])"
                " as read (input, data_version)"
                " on conflict (asset, input) do update set data_version = excluded.data_version",
                (asset, list(inputs), list(inputs.values())),
            )

    def renew_in(self, session: Session, asset: str, days: Collection[date], version: str) -> None:
        """Give published days another content, in the transaction of `session` that changes it."""
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

    def loaded_snapshot(self, relation: str) -> int | None:
        """The lake's snapshot that a table of the warehouse holds; None if unknown.

        Args:
            relation: As namespace/name or namespace.name. A table that is gone holds nothing.
        """
        with map_errors("reading the ledger"), self.connect() as session:
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
        with map_errors("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            with session.cursor(row_factory=class_row(PartitionState)) as cursor:
                return cursor.execute(query.format(names, sql.SQL(where)), values).fetchall()


def _is_open(state: PartitionState) -> bool:
    return state.status == "published"


def _column(records: Sequence[PartitionRecord], name: str) -> list[object]:
    """One attribute of all records, in the form in which the statement takes it."""
    values = [getattr(record, name) for record in records]
    if name not in _AS_JSON:
        return values
    return [None if value is None else json.dumps(value) for value in values]


def _dotted(relation: str) -> str:
    return relation.replace("/", ".")
