"""A relation of MySQL or MariaDB as the connector of tables reads it."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pymysql

from headrace.config.loader import Project
from headrace.errors import SourceUnavailableError
from headrace.sources.corrupt_rows import without_nuls
from headrace.sources.mysql.catalog import RELATION_NAMES, FoundType, describe
from headrace.sources.mysql.session import Session, begin, close, connect, fetch, map_errors
from headrace.sources.mysql.statements import Statements, relation
from headrace.sources.mysql.text_rows import read_text
from headrace.sources.tables.connector import TableConnector
from headrace.sources.tables.database import Horizon, Position, Selection
from headrace.sources.tables.database_relation import (
    DatabaseRelation,
    RelationSnapshot,
    declared_table,
)
from headrace.sources.tables.watermark import BEFORE_ALL

_NO_PRIVILEGE = 1227
_REMEDY = "grant it PROCESS, and read the primary server instead of a replica"
# InnoDB keeps what innodb_trx says while it is read again within 0.1 s.
_PAUSE_SECONDS = 0.12
_LOOKS = 25
_QUARTER_OF_AN_HOUR = 900
_CLOCK_GOES_BACK = timedelta(hours=1)


def mysql_connector(project: Project, name: str) -> TableConnector:
    """The connector of the entity `name` (`source.entity`) of a project."""
    entity, connection = declared_table(project, name)
    return TableConnector("mysql", entity, MysqlRelation(entity, connection))


@dataclass(frozen=True)
class MysqlRelation(DatabaseRelation[Session, FoundType, Statements]):
    """See Database."""

    def read(self, selection: Selection) -> Iterator[pa.RecordBatch]:
        """See Database."""
        for batch in super().read(selection):
            yield without_nuls(batch, ",")

    @contextmanager
    def _session(self) -> Iterator[Session]:
        session = connect(self.connection)
        try:
            yield session
        finally:
            close(session)

    def _mapped(self) -> AbstractContextManager[None]:
        return map_errors(self.label)

    def _found(self, session: Session) -> Mapping[str, FoundType]:
        return describe(session, relation(self.entity), self.label)

    def _relations(self, session: Session) -> Iterable[tuple[Any, ...]]:
        return fetch(session, RELATION_NAMES)

    def _logical(self, kind: FoundType) -> str:
        return kind.type

    def _compose(self, names: Mapping[str, str], found: Mapping[str, FoundType]) -> Statements:
        return Statements(self.entity, names, found)

    def _look(self, session: Session) -> "MysqlSnapshot":
        horizon = _horizon(session)
        begin(session)
        return MysqlSnapshot(self.entity, horizon, self._statements, session, self.label)

    def _texts(
        self, session: Session, statements: Statements, selection: Selection
    ) -> Iterator[pa.RecordBatch]:
        begin(session)
        for texts in read_text(session, statements.rows(selection), self.batch_bytes):
            yield pa.RecordBatch.from_arrays(texts, [*selection.columns])


@dataclass(frozen=True)
class MysqlSnapshot(RelationSnapshot):
    """See Snapshot."""

    statements: Statements
    session: Session
    label: str

    def later(self) -> datetime:
        """See Snapshot."""
        with map_errors(self.label):
            ((now,),) = fetch(self.session, "select utc_timestamp(6)")
        found: datetime = now.replace(tzinfo=UTC)
        return found

    def _groups(self, cursor: str, since: Position | None) -> Iterable[Sequence[Any]]:
        with map_errors(self.label):
            return fetch(self.session, self.statements.pending(cursor, since))

    def is_indexed(self, column: str) -> bool:
        """See Snapshot."""
        schema, _, table = (self.entity.extract.table or "").rpartition(".")
        values = {
            "schema": schema or None,
            "table": table,
            "column": self.statements.names[column],
        }
        with map_errors(self.label):
            return bool(fetch(self.session, _INDEXED, values))

    def _counts(self, selection: Selection) -> Iterable[Sequence[Any]]:
        with map_errors(self.label):
            return fetch(self.session, self.statements.row_counts(selection))

    def _day_of(self, group: Any) -> date | None:
        return self.statements.day_of(group)

    def _instant(self, cursor: str, text: str | None) -> datetime | None:
        try:
            return self.statements.instant_of(cursor, text)
        except (ValueError, OverflowError):
            return BEFORE_ALL  # A date that does not exist.


_INDEXED = """
    select 1 from information_schema.statistics as s
    where s.table_schema = coalesce(%(schema)s, database()) and s.table_name = %(table)s
        and s.column_name = %(column)s and s.seq_in_index = 1
    limit 1
"""
# `now()` is the time of a statement's begin, and its transaction begins later: a statement may wait
# for a lock of its table in between. So statements that run count too. Threads of replication
# write rows of which another server's clock says the time.
_STATEMENTS = """
    select
        utc_timestamp(6), @@system_time_zone,
        max(if(p.user = 'system user' or p.id = connection_id(), null, greatest(p.time, 0))),
        coalesce(sum(p.user = 'system user'), 0)
    from information_schema.processlist as p
    where p.command not in ('Sleep', 'Daemon', 'Binlog Dump', 'Binlog Dump GTID')
        or (p.user = 'system user' and p.command = 'Sleep')
"""
# A transaction without a thread is prepared (XA), or is rolled back by the server.
_TRANSACTIONS = """
    select
        max(if(t.trx_mysql_thread_id = connection_id(), t.trx_started, null)),
        min(
            if(
                t.trx_mysql_thread_id = connection_id() or t.trx_is_read_only
                or t.trx_autocommit_non_locking, null, t.trx_started
            )
        ),
        coalesce(sum(t.trx_mysql_thread_id = 0), 0)
    from information_schema.innodb_trx as t
"""


def _horizon(session: Session) -> Horizon:
    # Before the snapshot: whatever has ended by now is seen by it. Statements before transactions:
    # one that has ended in between is among the transactions.
    ((now, zone, seconds, replicating),) = fetch(session, _STATEMENTS)
    now = now.replace(tzinfo=UTC)
    try:
        own, oldest, lost = _transactions(session)
    except pymysql.MySQLError as error:
        if error.args[0] != _NO_PRIVILEGE:
            raise
        return Horizon(now, sees_all=False, remedy=_REMEDY)
    starts = []
    if seconds is not None:
        starts.append(now - timedelta(seconds=int(seconds) + 1))
    if oldest is not None:
        starts.append(_utc(oldest, own, now, str(zone)))
    return Horizon(
        now,
        min(starts, default=None),
        sees_all=not replicating,
        is_held=bool(lost),
        remedy=_REMEDY,
    )


def _transactions(session: Session) -> tuple[datetime, datetime | None, int]:
    """Begin of an own transaction, and of the oldest other one; how many have no thread."""
    begin(session)
    try:
        for _ in range(_LOOKS):
            ((own, oldest, lost),) = fetch(session, _TRANSACTIONS)
            # Without its own one, the list is older than the list of statements.
            if own is not None:
                return own, oldest, lost
            time.sleep(_PAUSE_SECONDS)
    finally:
        session.rollback()
    raise SourceUnavailableError(
        "information_schema.innodb_trx is not renewed",
        fix="read it less often elsewhere: InnoDB renews it if it was not read for 0.1 s",
    )


def _utc(started: Any, own: datetime, now: datetime, zone: str) -> datetime:
    """A begin of a transaction, which is in the time of the server's machine, as an instant.

    The own transaction began just now, which says what that time is. If the machine's clock may
    have gone back since, the begin may lie an hour before.
    """
    ahead = (own.replace(tzinfo=UTC) - now).total_seconds()
    ahead = round(ahead / _QUARTER_OF_AN_HOUR) * _QUARTER_OF_AN_HOUR
    began: datetime = started.replace(tzinfo=UTC) - timedelta(seconds=ahead)
    return began if zone == "UTC" else began - _CLOCK_GOES_BACK
