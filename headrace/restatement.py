"""Days that changed after they were published: what has to follow, found without being asked.

Belongs here: which days of the warehouse and of the marts are out of date, and the table
`platform.changed_day` that tells.
Elsewhere: the ledger (headrace.ledger), loading the days (platform_assets).

A late version of a dimension gives published facts other keys. The lake publishes their days anew;
the warehouse's ledger row still names the snapshot that it loaded, and so is known to be behind.
It stays so while its audit fails.
Every load of the star gets a number; a mart's ledger row names the load that it was built from.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date

from psycopg import sql

from headrace.ledger.tables import ensure_tables
from headrace.warehouse.kept import Borrow
from headrace.warehouse.keyed_rows import restated_keys
from headrace.warehouse.sessions import Session, advisory_key, translated
from headrace.warehouse.tables import Reference, WarehouseTable

_TABLES = """
create table if not exists platform.changed_day (
    relation text not null,
    partition date not null,
    load bigint not null,
    primary key (relation, partition)
);
comment on table platform.changed_day is
'Number of the load that last changed a fact''s day, or a member that its rows point to.';
create sequence if not exists platform.load_number;
"""

_BEHIND = """
select w.partition
from platform.partition_ledger as w
join platform.partition_ledger as c on c.partition = w.partition
where w.asset = %s and c.asset = %s and w.published_at is not null and c.status = 'published'
    and (w.status <> 'published' or w.snapshot_id is distinct from c.snapshot_id)
order by 1
"""

_MARTS_BEHIND = """
select distinct m.partition
from platform.partition_ledger as m
join platform.changed_day as c on c.partition = m.partition
where m.asset = any(%s) and c.relation = any(%s)
    and (m.status <> 'published' or c.load > coalesce(m.snapshot_id, 0))
order by 1
"""


@dataclass(frozen=True)
class Restatements:
    """What is out of date in one warehouse; the tables are made when first needed."""

    connect: Borrow

    def days_behind(self, loaded: str, source: str) -> list[date]:
        """Days of an asset that hold another publication of its source than there is now.

        A day whose last attempt was held or failed is behind, too, if readers see an older state
        of it: every load tries it again until it passes. One that was never published is not.

        Args:
            loaded: The asset that was loaded, such as `warehouse/fact_sales`.
            source: The asset that it is loaded from, such as `curated/fact_sales`.
        """
        with translated("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            return [row[0] for row in session.execute(_BEHIND, (loaded, source)).fetchall()]

    def marts_behind(self, marts: Sequence[str], facts: Sequence[str]) -> list[date]:
        """Days on which one of the marts is older than what it was built from, or is not published.

        A day that was held or failed is tried again until it passes.

        Args:
            marts: Assets.
            facts: Tables, as namespace.name.
        """
        with translated("reading the ledger"), self.connect() as session:
            _ensure(session)
            found = session.execute(_MARTS_BEHIND, ([*marts], [*facts])).fetchall()
            return [row[0] for row in found]

    def last_load(self) -> int:
        """Number of the last load that changed a day; what is built from now on has seen it."""
        with translated("reading the ledger"), self.connect() as session:
            _ensure(session)
            row = session.execute("select max(load) from platform.changed_day").fetchone()
            return int(row[0]) if row and row[0] is not None else 0


def record_changed_in(session: Session, table: WarehouseTable, days: Collection[date]) -> None:
    """Note, in the transaction of a load, the days that it changed; loads come one by one."""
    if not days:
        return
    _ensure(session)
    session.execute(
        "insert into platform.changed_day"
        " select %s, unnest(%s::date []), n from nextval('platform.load_number') as n"
        " on conflict (relation, partition) do update set load = excluded.load",
        (table.label, sorted(days)),
    )


def days_of_restated_members(
    session: Session, fact: WarehouseTable, day_column: str, reference: Reference
) -> set[date]:
    """Days of the facts that point to rows whose attributes the load changed, in its transaction.

    Args:
        session: That of the load.
        fact: A published fact; one that is not there has no days.
        day_column: Its column with the day as yyyymmdd.
        reference: The foreign key; its dimension had such rows.
    """
    there = session.execute("select to_regclass(%s)", (fact.identifier.as_string(),)).fetchone()
    if there is None or there[0] is None:
        return set()
    query = sql.SQL(
        "select to_date({day}::text, 'YYYYMMDD') from {fact} where {column} in"
        " (select {key} from {restated} where _is_restated) group by {day}"
    ).format(
        day=sql.Identifier(day_column),
        fact=fact.identifier,
        column=sql.Identifier(reference.column),
        key=sql.Identifier(reference.key),
        restated=restated_keys(reference.table),
    )
    return {row[0] for row in session.execute(query)}


def _ensure(session: Session) -> None:
    ensure_tables(session)
    found = session.execute("select to_regclass('platform.load_number')").fetchone()
    if found is None or found[0] is None:
        with session.transaction():
            key = advisory_key("namespace", "ledger")
            session.execute("select pg_advisory_xact_lock(%s)", (key,))
            session.execute(_TABLES)
