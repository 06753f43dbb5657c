"""Triggers that write the changes of a table of PostgreSQL to its change table.

Nothing that is altered in the table makes a write of it fail: a row is stored as JSON, whatever
columns it has (decisions/0049).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from headrace.config.sources.table_source import TableEntity
from headrace.errors import SourceRejectedError, SourceUnavailableError
from headrace.sources.connections import Connection
from headrace.sources.postgres.change_table import extract_of, identifier
from headrace.sources.postgres.session import Session, connect, map_errors

_TRIGGER, _TRUNCATE_TRIGGER = "headrace_changes", "headrace_truncate"
_OLDEST_SERVER = 140_000
# Installing waits for writers of the table, and others wait behind it.
_LOCK_TIMEOUT = "5s"


@dataclass(frozen=True)
class Triggers:
    """What one table needs.

    Attributes:
        entity: What is declared of the table.
        reader: The role that reads the change table; None: its owner does.
    """

    entity: TableEntity
    reader: str | None = None

    @property
    def table(self) -> str:
        """The table."""
        return str(extract_of(self.entity).table)

    @property
    def changes(self) -> str:
        """The change table."""
        return extract_of(self.entity).change_table

    def script(self) -> str:
        """A script for psql that installs them."""
        statements = "\n".join(f"{one.as_string()};" for one in self.statements())
        return f"begin;\nset local lock_timeout = '{_LOCK_TIMEOUT}';\n{statements}\ncommit;\n"

    def statements(self) -> Iterator[sql.Composed]:
        """The statements, for one transaction. Where everything is there, they change nothing."""
        schema = self.changes.partition(".")[0]
        names = {
            "schema": sql.Identifier(schema),
            "changes": identifier(self.changes),
            "table": identifier(self.table),
            "by_transaction": sql.Identifier(f"{self.changes.partition('.')[2][:58]}_txid"),
            "trigger": sql.Identifier(_TRIGGER),
            "truncate_trigger": sql.Identifier(_TRUNCATE_TRIGGER),
        }
        for text in (_SCHEMA, _CHANGES, _INDEX):
            yield sql.SQL(text).format(**names)
        yield sql.SQL(_FUNCTION).format(**names, body=self._body())
        for text in (_REVOKED, _ROW_TRIGGER, _TRUNCATES):
            yield sql.SQL(text).format(**names)
        if self.reader is not None:
            reader = sql.Identifier(self.reader)
            for text in _GRANTS:
                yield sql.SQL(text).format(**names, reader=reader)

    def _body(self) -> sql.Composable:
        body = sql.SQL(_BODY).format(
            changes=identifier(self.changes),
            table=identifier(self.table),
            split=sql.SQL(" or ").join(
                sql.SQL("was -> {name} is distinct from is_now -> {name}").format(
                    name=sql.Literal(name)
                )
                for name in self._identifying()
            ),
        )
        # The text of a function ends at its mark, which no name of a table may hold.
        mark = "headrace"
        while f"${mark}$" in body.as_string():
            mark += "_"
        return sql.SQL("${mark}$\n{body}\n${mark}$").format(mark=sql.SQL(mark), body=body)

    def _identifying(self) -> Sequence[str]:
        """Columns by which raw finds a row again: an update of one is a delete and an insert."""
        entity = self.entity
        names = [name for name in entity.key if not name.startswith("_")]
        names += [entity.extract.partition_by] if entity.extract.partition_by else []
        found = [source for name in names for source in entity.column(name).source_names]
        return [name for name in dict.fromkeys(found) if not name.startswith("_")] or [""]


def install(triggers: Triggers, connection: Connection) -> None:
    """Install them, all or nothing.

    Args:
        triggers: Of one table.
        connection: Its user may create triggers on the table.

    Raises:
        SourceUnavailableError: Writers hold the table for longer than a few seconds.
        SourceRejectedError: The user lacks a privilege, or there is no such table.
    """
    session = connect(connection)
    try:
        with map_errors(triggers.table):
            _require_version(session)
            session.read_only = False
            session.execute("set default_transaction_read_only = off")
            with session.transaction():
                session.execute(
                    sql.SQL("set local lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT))
                )
                for statement in triggers.statements():
                    session.execute(statement)
    except SourceUnavailableError as error:
        raise SourceUnavailableError(
            f"{error}, or transactions hold the table for longer than {_LOCK_TIMEOUT}",
            fix="run it again at a quiet time",
        ) from None
    finally:
        session.close()


def _require_version(session: Session) -> None:
    if session.info.server_version < _OLDEST_SERVER:
        raise SourceRejectedError(
            "the server is older than PostgreSQL 14",
            fix="read the table with mode: watermark or full",
        )


_SCHEMA = "create schema if not exists {schema}"
_CHANGES = """create table if not exists {changes} (
    change_id bigint generated always as identity primary key,
    op text not null check (op in ('insert', 'update', 'delete')),
    changed_at timestamptz not null default clock_timestamp(),
    txid xid8 not null default pg_current_xact_id(),
    row jsonb not null
)"""
_INDEX = "create index if not exists {by_transaction} on {changes} (txid)"
# Settings of the writer's session must not change how a value is written as text. Writers need no
# privilege on the change table.
_FUNCTION = """create or replace function {changes}() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601'
set extra_float_digits = 1
set bytea_output = 'hex'
as {body}"""
_BODY = """declare
    was jsonb := case when tg_op in ('UPDATE', 'DELETE') then to_jsonb(old) end;
    is_now jsonb := case when tg_op in ('INSERT', 'UPDATE') then to_jsonb(new) end;
begin
    if tg_op = 'TRUNCATE' then
        insert into {changes} (op, row) select 'delete', to_jsonb(t) from {table} as t;
    elsif tg_op = 'UPDATE' and not ({split}) then
        insert into {changes} (op, row) values ('update', is_now);
    else
        if was is not null then
            insert into {changes} (op, row) values ('delete', was);
        end if;
        if is_now is not null then
            insert into {changes} (op, row) values ('insert', is_now);
        end if;
    end if;
    return null;
end"""
# Who may execute it could have a trigger of another table write to the change table.
_REVOKED = "revoke execute on function {changes}() from public"
_ROW_TRIGGER = """create or replace trigger {trigger} after insert or update or delete on {table}
for each row execute function {changes}()"""
_TRUNCATES = """create or replace trigger {truncate_trigger} before truncate on {table}
for each statement execute function {changes}()"""
_GRANTS = ("grant usage on schema {schema} to {reader}", "grant select on {changes} to {reader}")
