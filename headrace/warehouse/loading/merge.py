"""MERGE of staged rows into a table with a primary key."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, LiteralString

from psycopg import sql

from headrace.warehouse.ddl import foreign_keys
from headrace.warehouse.identifiers import temporary_table_name
from headrace.warehouse.loading.staged_loads import StagedLoad
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import Reference, WarehouseTable

# MERGE tells which rows it changed, and what they were, since 18.
MERGE_SINCE = 180_000
# With the server's default of 4 MB, a join of 100,000 rows with a long history spilled the history.
_WORK_MEM = "64MB"


def restated_keys(table: str) -> sql.Identifier:
    """Relation of the keys under which attributes changed; there until the transaction ends.

    Its columns are those of the primary key, and `_is_restated`: false where other columns changed.
    """
    return sql.Identifier(temporary_table_name("differing", table))


class KeyedRows:
    """Changes one table within the transaction of a load.

    Attributes:
        changed_days: Rows written of each day; a table without a day column has none.
    """

    def __init__(self, session: Session, load: StagedLoad) -> None:
        table = load.table
        self.changed_days: Counter[date] = Counter()
        self._session = session
        self._days = {table.partition_value(day): day for day in load.days}
        self._table = table
        self._load = load
        self._staged = load.relation()
        self._parts = {
            "target": table.identifier,
            "staged": self._staged,
            "key": _listed(table.primary_key),
            "staged_key": _listed(table.primary_key, "s."),
            "columns": _listed(table.schema.names),
            "staged_columns": _listed(table.schema.names, "s."),
            "matches": _matches(table.primary_key, "t", "s"),
            "day": sql.Identifier(table.day_column) if table.day_column else sql.SQL("null"),
        }

    def find_differing(self) -> int:
        """Set aside the rows that are new or differ; of how many the attributes do.

        Readers look at the rows alone; who keeps results wants to know which of them rest on
        values that are no more, and after the change that cannot be asked.
        """
        names, values = self._table.attributes, self._values()
        restated = sql.SQL("t.ctid is not null and row({}) is distinct from row({})").format(
            _listed(names, "t."), _listed(names, "s.")
        )
        differs = sql.SQL("or row({}) is distinct from row({})").format(
            _listed(values, "t."), _listed(values, "s.")
        )
        # The one look at the published rows: what follows finds them by their place.
        self._execute(
            "create temporary table {differing} on commit drop as"
            " select {staged_columns}, t.ctid as _place, {restated} as _is_restated"
            " from {staged} as s left join {target} as t on {matches}"
            " where t.ctid is null {differs}",
            restated=restated if names else sql.SQL("false"),
            differs=differs if values else sql.SQL(""),
        )
        if not names:
            return 0
        return self._execute("select from {differing} where _is_restated")

    def make_equal(self) -> tuple[int, int, int]:
        """Write rows that differ: rows updated, inserted, and with changed attributes.

        Rows that went are left to `delete_gone`.
        """
        self._session.execute(sql.SQL("set local work_mem = {}").format(sql.Literal(_WORK_MEM)))
        if self._session.info.server_version >= MERGE_SINCE:
            return self._merge()
        restated = self.find_differing()
        setters = [sql.SQL("{0} = d.{0}").format(sql.Identifier(name)) for name in self._values()]
        updated = 0
        if setters:
            updated = self._execute(
                "update {target} as t set {setters} from {differing} as d where t.ctid = d._place",
                setters=sql.SQL(", ").join(setters),
            )
        # In order of the key: each page of its index is visited once.
        inserted = self._execute(
            "insert into {target} ({columns}) select {columns} from {differing}"
            " where _place is null order by {key}"
        )
        if self._table.day_column:
            counted = self._composed("select {day}, count(*) from {differing} group by 1")
            self._add_days(self._session.execute(counted).fetchall())
        return updated, inserted, restated

    def _merge(self) -> tuple[int, int, int]:
        """What `make_equal` does, in one statement and without setting rows aside."""
        names, values = self._table.attributes, self._values()
        restated = sql.SQL("row({}) is distinct from row({})").format(
            _listed(names, "old."), _listed(names, "new.")
        )
        self._execute(
            "create temporary table {differing} on commit drop as"
            " select {staged_key}, true as _is_restated from {staged} as s limit 0"
        )
        update = sql.SQL(
            "when matched and row({}) is distinct from row({}) then update set {}"
        ).format(
            _listed(values, "t."),
            _listed(values, "s."),
            sql.SQL(", ").join(sql.SQL("{0} = s.{0}").format(sql.Identifier(v)) for v in values),
        )
        # In order of the key: each page of its index is visited once.
        rows = self._session.execute(
            self._composed(
                "with changed as ("
                "merge into {target} as t"
                " using (select {columns} from {staged} as s order by {key}) as s on {matches}"
                " {update}"
                " when not matched then insert ({columns}) values ({staged_columns})"
                " returning merge_action() = 'UPDATE' as _was_there,"
                " merge_action() = 'UPDATE' and {restated} as _is_restated, {staged_key}"
                "), restated as ("
                "insert into {differing} select {key}, true from changed where _is_restated"
                ") select {day}, count(*), count(*) filter (where _was_there),"
                " count(*) filter (where _is_restated) from changed group by 1",
                update=update if values else sql.SQL(""),
                restated=restated if names else sql.SQL("false"),
            )
        ).fetchall()
        if self._table.day_column:
            self._add_days([row[:2] for row in rows])
        written, updated, changed = (sum(row[n] for row in rows) for n in (1, 2, 3))
        return updated, written - updated, changed

    def replace(self) -> tuple[int, int, int]:
        """Write every staged row anew: rows deleted, inserted, and with changed attributes.

        Rows that went are left to `delete_gone`.
        """
        restated = self.find_differing()
        deleted = self._execute(
            "delete from {target} as t where exists (select from {staged} as s where {matches})"
        )
        inserted = self._execute(
            "insert into {target} ({columns}) select {columns} from {staged} as s"
        )
        return deleted, inserted, restated

    def delete_gone(self) -> tuple[int, int]:
        """Delete rows that went; how many, and how many stay because rows still point to them.

        Facts of a day that is held keep their keys, and their members with them.
        """
        source: sql.Composable = self._table.identifier
        if self._load.gone is not None:
            source = self._load.gone_relation()
        elif self._table.day_column:
            source = self._composed(
                "(select {key} from {target} where {day} = any ({days}))",
                days=sql.Literal([*self._days]),
            )
        # Most rows of files that went came again, as they were or with an end to their validity.
        count = self._execute(
            "create temporary table {leaving} on commit drop as"
            " select {own_key} from {source} as t"
            " where not exists (select from {staged} as s where {matches})",
            own_key=_listed(self._table.primary_key, "t."),
            source=source,
        )
        if count == 0:
            return 0, 0
        self._execute("analyze {leaving}")
        if self._table.day_column:
            counted = self._composed("select {day}, count(*) from {leaving} group by 1")
            self._add_days(self._session.execute(counted).fetchall())
        matches = _matches(self._table.primary_key, "t", "l")
        deleted = self._execute(
            "delete from {target} as t using {leaving} as l where {matches_leaving} and {unused}",
            matches_leaving=matches,
            unused=self._unused(),
        )
        kept = self._execute(
            "select from {target} as t join {leaving} as l on {matches_leaving}",
            matches_leaving=matches,
        )
        return deleted, kept

    def _add_days(self, counted: Iterable[tuple[Any, ...]]) -> None:
        self.changed_days.update({self._days[value]: rows for value, rows in counted})

    def _values(self) -> list[str]:
        return [name for name in self._table.schema.names if name not in self._table.primary_key]

    def _unused(self) -> sql.Composable:
        """Condition: no row of any table points to row t."""
        if len(self._table.primary_key) != 1:
            return sql.SQL("true")
        conditions = [
            sql.SQL("not exists (select from {} as f where f.{} = t.{})").format(
                pointer.table,
                sql.Identifier(pointer.column),
                sql.Identifier(self._table.primary_key[0]),
            )
            for pointer in foreign_keys.pointers(self._session, self._table)
        ]
        return sql.SQL(" and ").join([sql.SQL("true"), *conditions])

    def _execute(self, statement: LiteralString, **parts: sql.Composable) -> int:
        return self._session.execute(self._composed(statement, **parts)).rowcount

    def _composed(self, statement: LiteralString, **parts: sql.Composable) -> sql.Composed:
        return sql.SQL(statement).format(
            **self._parts,
            differing=restated_keys(self._table.name),
            leaving=sql.Identifier(temporary_table_name("leaving", self._table.name)),
            **parts,
        )


def _matches(key: Sequence[str], one: str, other: str) -> sql.Composed:
    pairs = [
        sql.SQL("{} = {}").format(sql.Identifier(one, c), sql.Identifier(other, c)) for c in key
    ]
    return sql.SQL(" and ").join(pairs)


def _listed(columns: Sequence[str], prefix: str = "") -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(prefix) + sql.Identifier(name) for name in columns)


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
