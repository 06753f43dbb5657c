"""The tables of the ledger: what they consist of, and making them when they are first needed.

Belongs here: the definitions of `platform.partition_ledger` and `platform.loaded_snapshot`.
Elsewhere: what is written into them and read from them (headrace.ledger).
"""

from headrace.warehouse.sessions import Session, advisory_key, ensure_namespace

NAMESPACE = "platform"

# One row an asset and partition; `partition` is null for an asset without partitions. A null is
# equal to no other, so the key is an index on an expression instead of a primary key.
TABLES = """
create table if not exists platform.partition_ledger (
    asset text not null,
    partition date,
    status text not null check (status in ('published', 'held', 'failed')),
    run_id text not null,
    code_version text not null,
    rows_in bigint not null,
    rows_out bigint not null,
    rows_quarantined bigint not null,
    quality_score numeric(7, 6) not null,
    error text,
    attempted_at timestamptz not null,
    snapshot_id bigint,
    published_rows bigint,
    published_run_id text,
    published_at timestamptz
);
create unique index if not exists partition_ledger_key
on platform.partition_ledger (asset, (coalesce(partition, date '0001-01-01')));
comment on table platform.partition_ledger is
'Last attempt of every partition; snapshot_id and published_* are of the state that readers see.';

create table if not exists platform.loaded_snapshot (
    relation text primary key,
    snapshot_id bigint not null,
    run_id text not null,
    loaded_at timestamptz not null
);
comment on table platform.loaded_snapshot is
'The snapshot of the lake that a table of the warehouse was last made equal to.';
"""


def ensure_tables(session: Session) -> None:
    """Make the tables, unless they are there; two sessions at once make them once."""
    found = session.execute("select to_regclass('platform.loaded_snapshot')").fetchone()
    if found is None or found[0] is None:
        with session.transaction():
            key = advisory_key("namespace", "ledger")
            session.execute("select pg_advisory_xact_lock(%s)", (key,))
            ensure_namespace(session, NAMESPACE)
            session.execute(TABLES)
