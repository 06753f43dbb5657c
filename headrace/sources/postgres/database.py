"""A relation of PostgreSQL as the connector of tables reads it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
from psycopg import sql

from headrace.config.sources.table_source import IncreasingIdExtract
from headrace.sources.postgres.catalog import RELATION_NAMES, describe
from headrace.sources.postgres.copy_process import copied_by_psql, psql_command
from headrace.sources.postgres.copy_text import copied, parsed
from headrace.sources.postgres.session import Session, connect, map_errors, settings_of
from headrace.sources.postgres.statements import ID, Statements, relation
from headrace.sources.tables.database import HeldSnapshot, Horizon, Position, Selection
from headrace.sources.tables.database_relation import DatabaseRelation, RelationSnapshot
from headrace.sources.tables.relations import TIMES
from headrace.sources.tables.watermark import BEFORE_ALL


@dataclass(frozen=True)
class PostgresRelation(DatabaseRelation[Session, str, Statements]):
    """See Database."""

    def _session(self) -> AbstractContextManager[Session]:
        return closing(connect(self.connection))

    def _mapped(self) -> AbstractContextManager[None]:
        return map_errors(self.label)

    def _found(self, session: Session) -> Mapping[str, str]:
        return describe(session, relation(self.entity), self.label)

    def _relations(self, session: Session) -> list[tuple[Any, ...]]:
        return session.execute(RELATION_NAMES).fetchall()

    def _logical(self, kind: str) -> str:
        return kind

    def _compose(self, names: Mapping[str, str], found: Mapping[str, str]) -> Statements:
        extract = self.entity.extract
        types = {name: kind for name, kind in found.items() if kind in TIMES}
        if isinstance(extract, IncreasingIdExtract):
            types[extract.cursor] = ID
        return Statements(self.entity, names, types)

    def _look(self, session: Session) -> "PostgresSnapshot":
        horizon = _horizon(session)
        session.autocommit = False
        return PostgresSnapshot(self.entity, horizon, self._statements, session, self.label)

    def hold(self) -> HeldSnapshot:
        """See Database."""
        session = connect(self.connection)
        try:
            with map_errors(self.label):
                session.autocommit = False
                row = session.execute("select pg_export_snapshot()").fetchone()
        except BaseException:
            session.close()
            raise
        return HeldSnapshot(row[0] if row else None, session.close)

    def _texts(
        self, session: Session, statements: Statements, selection: Selection
    ) -> Iterator[pa.RecordBatch]:
        types, statement = self._types(selection), statements.rows(selection)
        settings = settings_of(self.connection)
        command = (
            psql_command(session, statement, settings, selection.snapshot)
            if selection.is_large
            else None
        )
        if command is not None:
            password = session.info.password
            session.close()
            for text in copied_by_psql(command, password, self.batch_bytes):
                yield parsed(text, types)
            return
        if selection.snapshot is not None:
            session.autocommit = False
            session.execute(
                sql.SQL("set transaction snapshot {}").format(sql.Literal(selection.snapshot))
            )
        for text in copied(session, statement, self.batch_bytes):
            yield parsed(text, types)


@dataclass(frozen=True)
class PostgresSnapshot(RelationSnapshot):
    """See Snapshot."""

    statements: Statements
    session: Session
    label: str

    def later(self) -> datetime:
        """See Snapshot."""
        with map_errors(self.label):
            row = self.session.execute("select clock_timestamp()").fetchone()
        if row is None:
            raise AssertionError("a select without from gives a row")
        found: datetime = row[0]
        return found

    def _groups(self, cursor: str, since: Position | None) -> Iterable[Sequence[Any]]:
        with map_errors(self.label):
            return self.session.execute(self.statements.pending(cursor, since)).fetchall()

    def is_indexed(self, column: str) -> bool:
        """See Snapshot."""
        table = self.entity.extract.table
        if table is None:
            return False
        names = sql.SQL(".").join(sql.Identifier(part) for part in table.split("."))
        values = {"table": names.as_string(self.session), "column": self.statements.names[column]}
        with map_errors(self.label):
            return self.session.execute(_INDEXED, values).fetchone() is not None

    def _counts(self, selection: Selection) -> Iterable[Sequence[Any]]:
        with map_errors(self.label):
            return self.session.execute(self.statements.row_counts(selection)).fetchall()

    def _day_of(self, group: date | None) -> date | None:
        return group

    def _instant(self, cursor: str, text: str | None) -> datetime | None:  # noqa: ARG002
        return _instant(text)


_INDEXED = """
    select from pg_index as i
    inner join pg_attribute as a on i.indrelid = a.attrelid and i.indkey[0] = a.attnum
    where i.indrelid = to_regclass(%(table)s) and a.attname = %(column)s
        and i.indisvalid and i.indpred is null
    limit 1
"""
# Vacuum and replication write no rows of tables. A prepared transaction is in no session.
_HORIZON = """
    select
        clock_timestamp(),
        (
            select min(a.xact_start) from pg_stat_activity as a
            where a.datname = current_database() and a.pid <> pg_backend_pid()
                and a.backend_type not in ('autovacuum worker', 'walsender')
        ),
        pg_has_role(current_user, 'pg_read_all_stats', 'usage') and not pg_is_in_recovery(),
        exists (select from pg_prepared_xacts as p where p.database = current_database()),
        case when pg_is_in_recovery() then pg_last_xact_replay_timestamp() end
"""


def _horizon(session: Session) -> Horizon:
    # Before the snapshot: whatever has ended by now is seen by it.
    row = session.execute(_HORIZON).fetchone()
    if row is None:
        raise AssertionError("a select without from gives a row")
    now, oldest, sees_all, is_held, replayed = row
    return Horizon(
        replayed or now, oldest, sees_all, is_held, "grant it the role pg_read_all_stats"
    )


def _instant(text: str | None) -> datetime | None:
    """An instant as PostgreSQL writes it in UTC; those beyond Python's years are clamped."""
    if text is None or text == "infinity":
        return None
    if text == "-infinity" or text.endswith(" BC"):
        return BEFORE_ALL
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None  # After year 9999: later than any watermark.
