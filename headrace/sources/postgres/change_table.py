"""A table of PostgreSQL and the change table that triggers fill, as their connector reads them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pyarrow as pa
from psycopg import sql

from headrace.config.sources.table_source import CHANGE_COLUMNS, ChangeTableExtract, TableEntity
from headrace.errors import SourceRejectedError
from headrace.lineage_schema import OPERATION, POSITION
from headrace.sources.postgres.database import PostgresRelation
from headrace.sources.postgres.session import Session, map_errors
from headrace.sources.postgres.statements import Statements
from headrace.sources.tables.change_log import shortened
from headrace.sources.tables.change_table import ChangeSelection
from headrace.sources.tables.database import Days, Pending, Selection
from headrace.sources.tables.fidelity import typed
from headrace.sources.tables.relations import TIMES

_CHANGE_ID = "_change_id"
_ADDED = (_CHANGE_ID, OPERATION)


def extract_of(entity: TableEntity) -> ChangeTableExtract:
    """The extract of an entity of `mode: change_table`."""
    if not isinstance(entity.extract, ChangeTableExtract):
        raise TypeError(f"{entity.name} has no change table")
    return entity.extract


def identifier(name: str) -> sql.Identifier:
    """A table's name, with its schema where it has one."""
    return sql.Identifier(*name.split("."))


@dataclass(frozen=True)
class PostgresChangeTable(PostgresRelation):
    """See ChangeDatabase."""

    @contextmanager
    def look_at_changes(self) -> Iterator["PostgresChangeSnapshot"]:
        """See ChangeDatabase."""
        extract = extract_of(self.entity)
        statements = self._statements
        if not isinstance(statements, ChangeStatements):
            raise TypeError("a change table has statements of its own")
        with self._session() as session, map_errors(extract.change_table):
            identity = _identity(session, extract)
            session.autocommit = False
            position = _position(session)
            yield PostgresChangeSnapshot(statements, session, identity, position)

    def read_changes(self, selection: ChangeSelection) -> Iterator[pa.RecordBatch]:
        """See ChangeDatabase."""
        declared = self._types(selection)
        whole = replace(selection, columns=(*selection.columns, *_ADDED))
        rows = 0
        with self._session() as session, self._mapped():
            for texts in self._texts(session, self._statements, whole):
                kept = self.entity.extract.partition_by
                batch = typed(texts.select([*declared]), declared, rows, kept)
                ids = texts.column(_CHANGE_ID).cast(pa.int64())
                if selection.seen is None:
                    # Of a key with `_source_position`, no row is a change of the same number.
                    ids = pa.array(np.negative(batch.column(POSITION).to_numpy()))
                batch = batch.set_column(batch.schema.get_field_index(POSITION), POSITION, ids)
                yield batch.append_column(OPERATION, texts.column(OPERATION))
                rows += batch.num_rows

    def _types(self, selection: Selection) -> dict[str, str]:
        """By column that is read, the type that it is captured as; of a change, its own."""
        entity = self.entity
        return {
            name: CHANGE_COLUMNS[name]
            if name in _ADDED
            else entity.captured_type(entity.column(name))
            for name in selection.columns
        }

    def _found(self, session: Session) -> Mapping[str, str]:
        return {**super()._found(session), **CHANGE_COLUMNS}

    def _compose(self, names: Mapping[str, str], found: Mapping[str, str]) -> Statements:
        types = {name: kind for name, kind in found.items() if kind in TIMES}
        return ChangeStatements(self.entity, {**names, **{name: name for name in _ADDED}}, types)


@dataclass(frozen=True)
class PostgresChangeSnapshot:
    """See ChangeSnapshot."""

    statements: "ChangeStatements"
    session: Session
    known_identity: str
    known_position: str

    def identity(self) -> str:
        """See ChangeSnapshot."""
        return self.known_identity

    def position(self) -> str:
        """See ChangeSnapshot."""
        return self.known_position

    def pending(
        self, seen: str | None, days: tuple[Days, ...] | None, *, with_undated: bool
    ) -> Mapping[date | None, Pending]:
        """See ChangeSnapshot."""
        selection = ChangeSelection((), days, with_undated, until=self.known_position, seen=seen)
        rows = self.session.execute(self.statements.counted(selection)).fetchall()
        return {day: Pending(count, None, f"{count}-{last}") for day, count, last in rows}


@dataclass(frozen=True)
class ChangeStatements(Statements):
    """The statements of an entity with a change table."""

    def rows(self, selection: Selection) -> sql.Composed:
        """Changes in their order, or rows in the order of their keys."""
        names = [_CHANGE_ID]
        if selection.is_sorted:
            names = [name for name in self.entity.key if not name.startswith("_")]
        order = sql.SQL(", ").join(self._column(name) for name in names)
        select = sql.SQL("select {} from {}{}{}").format(
            sql.SQL(", ").join(self._column(name) for name in selection.columns),
            self._selected(selection),
            self._within_days(selection),
            sql.SQL(" order by {}").format(order) if names else sql.SQL(""),
        )
        return sql.SQL("copy ({}) to stdout").format(select)

    def counted(self, selection: ChangeSelection) -> sql.Composed:
        """By day, the number of changes or rows, and the last change's number."""
        by = self.entity.extract.partition_by
        return sql.SQL("select {}, count(*), max(t._change_id) from {}{} group by 1").format(
            sql.SQL("null::date") if by is None else self._day(by),
            self._selected(selection),
            self._within_days(selection),
        )

    def _selected(self, selection: Selection) -> sql.Composed:
        """The changes or rows of a selection, of all days, called `t`."""
        extract = extract_of(self.entity)
        table = identifier(str(extract.table))
        if not isinstance(selection, ChangeSelection) or selection.seen is None:
            return sql.SQL(
                "(select r.*, 0::bigint as _change_id, now() as _changed_at,"
                " null::text as _operation from {} as r) as t"
            ).format(table)
        return sql.SQL(
            "(select r.*, c.change_id as _change_id, c.changed_at as _changed_at,"
            " c.op as _operation from {changes} as c"
            " cross join lateral jsonb_populate_record(null::{table}, c.row) as r"
            " where c.txid >= pg_snapshot_xmin({seen}::pg_snapshot)"
            " and not pg_visible_in_snapshot(c.txid, {seen}::pg_snapshot)"
            " and pg_visible_in_snapshot(c.txid, {until}::pg_snapshot)) as t"
        ).format(
            changes=identifier(extract.change_table),
            table=table,
            seen=sql.Literal(selection.seen),
            until=sql.Literal(selection.until),
        )

    def _within_days(self, selection: Selection) -> sql.Composable:
        if selection.days is None:
            return sql.SQL("")
        within = self._within(selection.days, with_undated=selection.with_undated)
        return sql.SQL(" where {}").format(within)


# A server that was restored from a dump counts transactions anew; not every user may ask which one
# it is. A table or trigger that was made anew has missed changes.
_IDENTITY = """
    select
        to_regclass(%(changes)s)::oid, has_table_privilege(to_regclass(%(changes)s), 'select'),
        (
            select t.oid from pg_trigger as t
            where t.tgrelid = to_regclass(%(table)s)
                and t.tgfoid = to_regprocedure(%(function)s)
                and t.tgenabled in ('O', 'A') and t.tgtype & 1 = 1
        ),
        case when has_function_privilege('pg_control_system()', 'execute')
            then (select system_identifier from pg_control_system()) end
"""
_POSITION = """
    select case when pg_is_in_recovery()
        then format('%s:%s:', pg_snapshot_xmin(s.now), pg_snapshot_xmin(s.now))
        else s.now::text end
    from pg_current_snapshot() as s (now)
"""


def _identity(session: Session, extract: ChangeTableExtract) -> str:
    changes = identifier(extract.change_table).as_string()
    names = {
        "changes": changes,
        "function": f"{changes}()",
        "table": identifier(str(extract.table)).as_string(),
    }
    row = session.execute(_IDENTITY, names).fetchone()
    table, may_read, trigger, server = row or (None, None, None, None)
    install = "`headrace source triggers SOURCE` prints and installs it"
    if table is None:
        raise SourceRejectedError(
            f"{extract.table}: there is no change table {extract.change_table}", fix=install
        )
    if not may_read:
        raise SourceRejectedError(
            f"{extract.change_table}: the user may not read it",
            fix="grant select on it to the connection's user",
        )
    if trigger is None:
        raise SourceRejectedError(
            f"{extract.table}: no trigger that is enabled writes its changes to "
            f"{extract.change_table}",
            fix=install,
        )
    return f"{server or ''}/{table}/{trigger}"


def _position(session: Session) -> str:
    # A standby knows only up to which transaction all have ended.
    row = session.execute(_POSITION).fetchone()
    if row is None:
        raise AssertionError("a function gives a row")
    return shortened(str(row[0]))
