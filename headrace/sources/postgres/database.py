"""A relation of PostgreSQL as the connector of tables reads it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property

import pyarrow as pa
import pyarrow.csv as pa_csv
from psycopg import sql

from headrace.config.loader import Project
from headrace.config.table_source import (
    CursorExtract,
    DatabaseSource,
    IncreasingIdExtract,
    TableEntity,
    WatermarkExtract,
)
from headrace.sources.connections import Connection, connection_of, retried
from headrace.sources.postgres.catalog import describe
from headrace.sources.postgres.session import Session, connect, map_errors
from headrace.sources.postgres.statements import ID, Statements, relation
from headrace.sources.tables.connector import TableConnector
from headrace.sources.tables.database import Horizon, Pending, Position, Selection
from headrace.sources.tables.fidelity import typed
from headrace.sources.tables.relations import TIMES, require_id, require_times, source_names
from headrace.sources.tables.watermark import BEFORE_ALL

# Text of a batch; its Arrow form takes about as much again.
_BATCH_BYTES = 4 * 2**20


def postgres_connector(project: Project, name: str) -> TableConnector:
    """The connector of the entity `name` (`source.entity`) of a project."""
    source, entity = project.entities()[name]
    if not isinstance(source, DatabaseSource) or not isinstance(entity, TableEntity):
        raise TypeError(f"{name} is no table of a database")
    database = PostgresRelation(entity, connection_of(project, source.connection))
    return TableConnector("postgres", entity, database)


@dataclass(frozen=True)
class PostgresRelation:
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
    def look(self) -> Iterator["PostgresSnapshot"]:
        """See Database."""
        session = connect(self.connection)
        try:
            with map_errors(self.label):
                horizon = _horizon(session)
                session.autocommit = False
                yield PostgresSnapshot(self._statements, session, horizon, self.label)
        finally:
            session.close()

    def read(self, selection: Selection) -> Iterator[pa.RecordBatch]:
        """See Database."""
        types = {
            name: self.entity.captured_type(self.entity.column(name)) for name in selection.columns
        }
        statement = self._statements.rows(selection)
        session = connect(self.connection)
        position = 0
        try:
            with map_errors(self.label):
                for text in _copied(session, statement, self.batch_bytes):
                    batch = typed(_parsed(text, selection.columns), types, position)
                    position += batch.num_rows
                    yield batch
        finally:
            session.close()

    @cached_property
    def _statements(self) -> Statements:
        return retried(self._describe)

    def _describe(self) -> Statements:
        entity, session = self.entity, connect(self.connection)
        try:
            found = describe(session, relation(entity), self.label)
        finally:
            session.close()
        names = source_names(entity, found, self.label)
        extract = entity.extract
        times = [extract.partition_by] if extract.partition_by else []
        times += [extract.cursor] if isinstance(extract, WatermarkExtract) else []
        require_times(entity, times, found)
        types = {name: found[there] for name, there in names.items() if found[there] in TIMES}
        if isinstance(extract, IncreasingIdExtract):
            require_id(entity, extract.cursor, found)
            types[extract.cursor] = ID
        return Statements(entity, names, types)


@dataclass(frozen=True)
class PostgresSnapshot:
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
            row = self.session.execute("select clock_timestamp()").fetchone()
        if row is None:
            raise AssertionError("a select without from gives a row")
        found: datetime = row[0]
        return found

    def pending(self, since: Position | None) -> Mapping[date | None, Pending]:
        """See Snapshot."""
        extract = self.statements.entity.extract
        if not isinstance(extract, CursorExtract):
            raise TypeError("only a cursor tells pending rows")
        is_id = isinstance(extract, IncreasingIdExtract)
        with map_errors(self.label):
            rows = self.session.execute(self.statements.pending(extract.cursor, since)).fetchall()
        found: dict[date | None, Pending] = {}
        for day, count, first, last, digest in rows:
            if is_id:
                ids = [None if text is None else int(text) for text in (first, last)]
                found[day] = Pending(count, ids[0], digest, ids[1])
            else:
                found[day] = Pending(count, _instant(first), digest)
        return found


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


def _copied(session: Session, statement: sql.Composed, size: int) -> Iterator[bytes]:
    """The output of COPY in pieces of whole rows."""
    parts: list[bytes | bytearray | memoryview] = []
    waiting = 0
    with session.cursor() as cursor, cursor.copy(statement) as copy:
        for row in copy:
            parts.append(row)
            waiting += len(row)
            if waiting >= size:
                yield b"".join(parts)
                parts, waiting = [], 0
    if parts:
        yield b"".join(parts)


def _parsed(text: bytes, columns: tuple[str, ...]) -> pa.RecordBatch:
    read = pa_csv.read_csv(
        pa.py_buffer(text),
        read_options=pa_csv.ReadOptions(column_names=list(columns), block_size=len(text) + 1),
        # A row of one column that is NULL is an empty line.
        parse_options=pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    (batch,) = read.combine_chunks().to_batches() or [_no_rows(columns)]
    return batch


def _no_rows(columns: tuple[str, ...]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({name: pa.nulls(0, pa.string()) for name in columns})


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
