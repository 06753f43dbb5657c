"""DDL of the ledger's tables, which are created on first use."""

from headrace.warehouse.sessions import Session, advisory_key, ensure_namespace

NAMESPACE = "platform"

# One row an asset and partition; `partition` is NULL for an asset without partitions. The unique
# key is an index on an expression, because a primary key admits no NULL.
TABLES = """
create table if not exists platform.partition_ledger (
    asset text not null,
    partition date,
    status text not null,
    run_id text not null,
    code_version text not null,
    rows_in bigint not null,
    rows_out bigint not null,
    rows_quarantined bigint not null,
    quality_score numeric(7, 6) not null,
    error text,
    attempted_at timestamptz not null,
    attempted_inputs jsonb,
    running_run_id text,
    snapshot_id bigint,
    published_rows bigint,
    published_run_id text,
    published_at timestamptz,
    published_code_version text,
    data_version text,
    inputs jsonb
);
create unique index if not exists partition_ledger_key
on platform.partition_ledger (asset, (coalesce(partition, date '0001-01-01')));
comment on table platform.partition_ledger is
'Last attempt at every partition; from snapshot_id on: the publication that readers see.';

create table if not exists platform.partition_attempt (
    asset text not null,
    partition date,
    status text not null,
    run_id text not null,
    code_version text not null,
    rows_in bigint not null,
    rows_out bigint not null,
    rows_quarantined bigint not null,
    quality_score numeric(7, 6) not null,
    error text,
    checks jsonb,
    inputs jsonb,
    seconds double precision,
    ended_at timestamptz not null
);
create index if not exists partition_attempt_run on platform.partition_attempt (run_id);
create index if not exists partition_attempt_partition
on platform.partition_attempt (asset, partition, ended_at);
comment on table platform.partition_attempt is
'Every attempt at a partition, for maintenance.keep_attempts_days days.';

create table if not exists platform.table_input (
    asset text not null,
    input text not null,
    data_version text not null,
    primary key (asset, input)
);
comment on table platform.table_input is
'Content version of each whole table that an asset depends on, as the asset last read it.';

create table if not exists platform.loaded_snapshot (
    relation text primary key,
    snapshot_id bigint not null,
    run_id text not null,
    loaded_at timestamptz not null
);
comment on table platform.loaded_snapshot is
'The lake snapshot that a table of the warehouse was last loaded from.';
"""

# For ledgers that were created without these columns. Without versions, a partition is stale.
_UPGRADE = """
alter table platform.partition_ledger
drop constraint if exists partition_ledger_status_check,
add column if not exists attempted_inputs jsonb,
add column if not exists running_run_id text,
add column if not exists published_code_version text,
add column if not exists data_version text,
add column if not exists inputs jsonb;
drop table if exists platform.changed_day;
"""


def ensure_tables(session: Session) -> None:
    """Create the tables if they do not exist; safe for concurrent sessions."""
    found = session.execute("select to_regclass('platform.table_input')").fetchone()
    if found and found[0] is not None:
        return
    with session.transaction():
        key = advisory_key("namespace", "ledger")
        session.execute("select pg_advisory_xact_lock(%s)", (key,))
        # If another session has created them, they are in use, and ALTER would wait for locks.
        if not _exist(session):
            ensure_namespace(session, NAMESPACE)
            session.execute(TABLES)
            session.execute(_UPGRADE)


def _exist(session: Session) -> bool:
    # From pg_class, because to_regclass may use a catalog cache from before the lock.
    found = session.execute(
        "select 1 from pg_class where relname = 'table_input'"
        " and relnamespace = (select oid from pg_namespace where nspname = 'platform')"
    )
    return found.fetchone() is not None
