"""The shop's database: all changes of households, on the embedded Postgres.

`python -m demo.shop STATEMENT` runs a statement as the shop would, and prints its rows.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from demo.journey import Delivery
from headrace.config.loader import home_folder
from headrace.embedded_postgres import server
from headrace.embedded_postgres.server import DATABASES, EmbeddedPostgres
from headrace.errors import ConfigError
from headrace.project.home import Home

DATABASE, READER = "demo_shop", "demo_reader"

_TABLE = "household_changes"
_OURS = "Headrace's demo: the shop"
_ATTRIBUTES = (
    "age",
    "income",
    "home_ownership",
    "marital_status",
    "household_size",
    "household_comp",
    "kids_count",
)
_KEY = ("household_id", "changed_at", "recorded_on")
_COLUMNS = (*_KEY, *_ATTRIBUTES, "operation")
# `recorded_on` is the day on which the shop learned of a change, which may be days after it.
_CREATE = """
create table if not exists household_changes (
    household_id bigint not null,
    age text,
    income text,
    home_ownership text,
    marital_status text,
    household_size text,
    household_comp text,
    kids_count text,
    operation text not null check (operation in ('I', 'U', 'D')),
    changed_at timestamp not null,
    recorded_on date not null,
    updated_at timestamptz not null default now(),
    primary key (household_id, changed_at, recorded_on)
);
create index if not exists household_changes_updated on household_changes (updated_at);
create or replace function touch() returns trigger language plpgsql as $$
begin
    new.updated_at = now();
    return new;
end $$;
create or replace trigger touched before update on household_changes
    for each row execute function touch();
create temporary table staged (like household_changes including defaults) on commit drop
"""
_READER = """
do $$ begin
    if not exists (select from pg_roles where rolname = 'demo_reader') then
        create role demo_reader login;
    end if;
end $$;
grant select on household_changes to demo_reader;
grant pg_read_all_stats to demo_reader
"""


@dataclass(frozen=True)
class StagedTable:
    """A table with the demo's rows.

    Attributes:
        rows: All rows.
        written: How many this staging wrote.
    """

    rows: int
    written: int


def start(home: Path) -> EmbeddedPostgres:
    """The home's Postgres, with an empty database for the shop unless it has one."""
    return server.start(Home(home).postgres, databases=(*DATABASES, DATABASE))


def reader_url(home: Path) -> str:
    """URL by which the platform reads the shop's database; starts the server if necessary."""
    return start(home).uri(DATABASE).replace("postgres@", f"{READER}@", 1)


def staged_before(postgres: EmbeddedPostgres, recipe: str) -> StagedTable | None:
    """The table as the last staging left it, if that was by this recipe."""
    with _session(postgres) as session:
        row = session.execute(
            "select obj_description(to_regclass(%s), 'pg_class')", (_TABLE,)
        ).fetchone()
        return _counted(session, 0) if row is not None and row[0] == recipe else None


def stage(postgres: EmbeddedPostgres, recipe: str, deliveries: Sequence[Delivery]) -> StagedTable:
    """Write the changes of households, in one transaction; equal rows keep their `updated_at`.

    Raises:
        ConfigError: The database is not the demo's.
    """
    table, staged = sql.Identifier(_TABLE), sql.Identifier("staged")
    columns = sql.SQL(", ").join(map(sql.Identifier, _COLUMNS))
    others = sql.SQL(", ").join(map(sql.Identifier, (*_ATTRIBUTES, "operation")))
    given = sql.SQL(", ").join(sql.Identifier("excluded", name) for name in _COLUMNS[len(_KEY) :])
    mine = sql.SQL(", ").join(sql.Identifier("t", name) for name in _COLUMNS[len(_KEY) :])
    with _session(postgres) as session:
        session.execute(_CREATE)
        copy = sql.SQL("copy {} ({}) from stdin").format(staged, columns)
        with session.cursor().copy(copy) as rows:
            for one in deliveries:
                for row in one.table.to_pylist():
                    rows.write_row([{**row, "recorded_on": one.day}[name] for name in _COLUMNS])
        session.execute(
            sql.SQL(
                "delete from {} as t where not exists (select from {} as s where "
                "(s.household_id, s.changed_at, s.recorded_on) = "
                "(t.household_id, t.changed_at, t.recorded_on))"
            ).format(table, staged)
        )
        written = session.execute(
            sql.SQL(
                "insert into {table} as t ({columns}) select {columns} from {staged} "
                "on conflict (household_id, changed_at, recorded_on) do update "
                "set ({others}) = row({given}) where ({mine}) is distinct from ({given})"
            ).format(
                table=table, columns=columns, staged=staged, others=others, given=given, mine=mine
            )
        ).rowcount
        session.execute(_READER)
        comment = sql.SQL("comment on table {} is {}").format(table, sql.Literal(recipe))
        session.execute(comment)
        return _counted(session, written)


def _session(postgres: EmbeddedPostgres) -> psycopg.Connection:
    """A session with the shop's database; it commits at the end of its block.

    Raises:
        ConfigError: The database is not the demo's: it has tables, and lacks the demo's comment.
    """
    session = psycopg.connect(postgres.uri(DATABASE))
    row = session.execute(
        "select shobj_description(d.oid, 'pg_database'),"
        " exists (select from pg_stat_user_tables)"
        " from pg_database as d where d.datname = current_database()"
    ).fetchone()
    comment, has_tables = row or (None, False)
    if comment != _OURS:
        if comment is not None or has_tables:
            session.close()
            raise ConfigError(
                f"the database {DATABASE} of {postgres.data_directory} is not the demo's",
                fix="rename it, or set HEADRACE_HOME to another folder",
            )
        session.execute(
            sql.SQL("comment on database {} is {}").format(
                sql.Identifier(DATABASE), sql.Literal(_OURS)
            )
        )
    return session


def _counted(session: psycopg.Connection, written: int) -> StagedTable:
    row = session.execute(
        sql.SQL("select count(*) from {}").format(sql.Identifier(_TABLE))
    ).fetchone()
    return StagedTable(row[0] if row else 0, written)


def main() -> None:
    """Run the statement and print its rows, or how many it changed."""
    with _session(start(home_folder())) as session:
        cursor = session.execute(sys.argv[1].encode())
        lines = (
            [repr(row) for row in cursor] if cursor.description else [cursor.statusmessage or ""]
        )
    sys.stdout.write("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
