"""A relation of MySQL or MariaDB as the connector of tables reads it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any

import pyarrow as pa
import pymysql

from headrace.config.loader import Project
from headrace.config.table_source import (
    CursorExtract,
    DatabaseSource,
    IncreasingIdExtract,
    TableEntity,
    WatermarkExtract,
)
from headrace.errors import SourceUnavailableError
from headrace.sources.connections import Connection, connection_of, retried
from headrace.sources.corrupt_rows import without_nuls
from headrace.sources.mysql.catalog import describe
from headrace.sources.mysql.session import Session, begin, close, connect, fetch, map_errors
from headrace.sources.mysql.statements import Statements, relation
from headrace.sources.mysql.text_rows import read_text
from headrace.sources.tables.connector import TableConnector
from headrace.sources.tables.database import Horizon, Pending, Position, Selection
from headrace.sources.tables.fidelity import typed
from headrace.sources.tables.relations import require_id, require_times, source_names
from headrace.sources.tables.watermark import BEFORE_ALL, united

# Text of a batch; its Arrow form takes about as much again.
_BATCH_BYTES = 4 * 2**20
_NO_PRIVILEGE = 1227
_REMEDY = "grant it PROCESS, and read the primary server instead of a replica"
# InnoDB keeps what innodb_trx says while it is read again within 0.1 s.
_PAUSE_SECONDS = 0.12
_LOOKS = 25
_QUARTER_OF_AN_HOUR = 900
_CLOCK_GOES_BACK = timedelta(hours=1)


def mysql_connector(project: Project, name: str) -> TableConnector:
    """The connector of the entity `name` (`source.entity`) of a project."""
    source, entity = project.entities()[name]
    if not isinstance(source, DatabaseSource) or not isinstance(entity, TableEntity):
        raise TypeError(f"{name} is no table of a database")
    database = MysqlRelation(entity, connection_of(project, source.connection))
    return TableConnector("mysql", entity, database)


@dataclass(frozen=True)
class MysqlRelation:
    """See Database."""

    entity: TableEntity
    connection: Connection
    batch_bytes: int = field(default=_BATCH_BYTES, compare=False)

    @property
    def label(self) -> str:
        """See Database."""
        return self.entity.extract.table or f"the query of {self.entity.name}"

    def check(self) -> None:
        """See Database."""
        self.__dict__.pop("_statements", None)  # The table may have changed since the last time.
        _ = self._statements

    @contextmanager
    def look(self) -> Iterator["MysqlSnapshot"]:
        """See Database."""
        session = connect(self.connection)
        try:
            with map_errors(self.label):
                horizon = _horizon(session)
                begin(session)
                yield MysqlSnapshot(self._statements, session, horizon, self.label)
        finally:
            close(session)

    def read(self, selection: Selection) -> Iterator[pa.RecordBatch]:
        """See Database."""
        names = selection.columns
        types = {name: self.entity.captured_type(self.entity.column(name)) for name in names}
        statement = self._statements.rows(selection)
        session = connect(self.connection)
        position = 0
        try:
            with map_errors(self.label):
                begin(session)
                for texts in read_text(session, statement, self.batch_bytes):
                    batch = typed(pa.RecordBatch.from_arrays(texts, [*names]), types, position)
                    position += batch.num_rows
                    yield without_nuls(batch, ",")
        finally:
            close(session)

    @cached_property
    def _statements(self) -> Statements:
        return retried(self._describe)

    def _describe(self) -> Statements:
        entity, session = self.entity, connect(self.connection)
        try:
            found = describe(session, relation(entity), self.label)
        finally:
            close(session)
        types = {name: column.type for name, column in found.items()}
        names = source_names(entity, types, self.label)
        extract = entity.extract
        times = [extract.partition_by] if extract.partition_by else []
        times += [extract.cursor] if isinstance(extract, WatermarkExtract) else []
        require_times(entity, times, types)
        if isinstance(extract, IncreasingIdExtract):
            require_id(entity, extract.cursor, types)
        return Statements(entity, names, {name: found[there] for name, there in names.items()})


@dataclass(frozen=True)
class MysqlSnapshot:
    """See Snapshot."""

    statements: Statements
    session: Session
    known: Horizon
    label: str

    def horizon(self) -> Horizon:
        """See Snapshot."""
        return self.known

    def later(self) -> datetime:
        """See Snapshot."""
        with map_errors(self.label):
            ((now,),) = fetch(self.session, "select utc_timestamp(6)")
        found: datetime = now.replace(tzinfo=UTC)
        return found

    def pending(self, since: Position | None) -> Mapping[date | None, Pending]:
        """See Snapshot."""
        extract = self.statements.entity.extract
        if not isinstance(extract, CursorExtract):
            raise TypeError("only a cursor tells pending rows")
        is_id = isinstance(extract, IncreasingIdExtract)
        with map_errors(self.label):
            rows = fetch(self.session, self.statements.pending(extract.cursor, since))
        parts: dict[date | None, list[Pending]] = {}
        for group, count, first, last, digest in rows:
            if is_id:
                ids = [None if text is None else int(text) for text in (first, last)]
                known = Pending(count, ids[0], digest, ids[1])
            else:
                known = Pending(count, self._instant(extract.cursor, first), digest)
            parts.setdefault(self.statements.day_of(group), []).append(known)
        return {day: united(some) for day, some in parts.items()}

    def _instant(self, cursor: str, text: str | None) -> datetime | None:
        try:
            return self.statements.instant_of(cursor, text)
        except (ValueError, OverflowError):
            return BEFORE_ALL  # A date that does not exist.


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
