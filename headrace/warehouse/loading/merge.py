"""Publishes a load in a table with a primary key: MERGE, or replacement of the staged rows.

A row is *restated* if its attributes change under an unchanged key.
"""

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

# With the server's default of 4 MB, a join of 100,000 rows with a long history spilled the history.
_WORK_MEM = "64MB"


def restated_keys(table: str) -> sql.Identifier:
    """Temporary table with the primary keys of restated rows; dropped at the commit."""
    return sql.Identifier(temporary_table_name("restated", table))


def days_of_restated_members(
    session: Session, fact: WarehouseTable, day_column: str, reference: Reference
) -> set[date]:
    """Days of a fact's rows that refer to restated members.

    Args:
        session: The session of the load, inside its transaction.
        fact: A published fact; the result is empty if its table does not exist.
        day_column: Its column with the day as yyyymmdd.
        reference: The foreign key, to a dimension that the load merges.
    """
    found = session.execute("select to_regclass(%s)", (fact.identifier.as_string(),)).fetchone()
    if found is None or found[0] is None:
        return set()
    query = sql.SQL(
        "select to_date({day}::text, 'YYYYMMDD') from {fact} where {column} in"
        " (select {key} from {restated}) group by {day}"
    ).format(
        day=sql.Identifier(day_column),
        fact=fact.identifier,
        column=sql.Identifier(reference.column),
        key=sql.Identifier(reference.key),
        restated=restated_keys(reference.table),
    )
    return {row[0] for row in session.execute(query)}


class TableMerge:
    """Changes the rows of one table within the transaction of a load.

    Attributes:
        changed_days: Rows written, by day; empty for a table without a day column.
    """

    def __init__(self, session: Session, load: StagedLoad) -> None:
        table = load.table
        self.changed_days: Counter[date] = Counter()
        self._session = session
        self._days = {table.partition_value(day): day for day in load.days}
        self._table = table
        self._load = load
        self._parts = {
            "target": table.identifier,
            "staged": load.relation(),
            "restated": restated_keys(table.name),
            "absent": sql.Identifier(temporary_table_name("absent", table.name)),
            "key": _listed(table.primary_key),
            "staged_key": _listed(table.primary_key, "s."),
            "columns": _listed(table.schema.names),
            "staged_columns": _listed(table.schema.names, "s."),
            "matches": _matches(table.primary_key, "t", "s"),
            "day": sql.Identifier(table.day_column) if table.day_column else sql.SQL("null"),
        }

    def merge(self) -> tuple[int, int, int]:
        """Write the rows that differ; `delete_absent` deletes those that are not staged.

        Returns:
            Rows updated, inserted and restated.
        """
        self._session.execute(sql.SQL("set local work_mem = {}").format(sql.Literal(_WORK_MEM)))
        self._create_restated("select {staged_key} from {staged} as s limit 0")
        # Sorted by the key, so that the merge visits each page of its index once.
        rows = self._session.execute(
            self._composed(
                "with changed as ("
                "merge into {target} as t"
                " using (select {columns} from {staged} as s order by {key}) as s on {matches}"
                " {update}"
                " when not matched then insert ({columns}) values ({staged_columns})"
                " returning merge_action() = 'UPDATE' as _is_update,"
                " merge_action() = 'UPDATE' and {is_restated} as _is_restated, {staged_key}"
                "), restated as ("
                "insert into {restated} select {key} from changed where _is_restated"
                ") select {day}, count(*), count(*) filter (where _is_update),"
                " count(*) filter (where _is_restated) from changed group by 1",
                update=self._update_clause(),
                is_restated=self._is_restated("old.", "new."),
            )
        ).fetchall()
        if self._table.day_column:
            self._add_days([row[:2] for row in rows])
        written, updated, restated = (sum(row[n] for row in rows) for n in (1, 2, 3))
        return updated, written - updated, restated

    def replace(self) -> tuple[int, int, int]:
        """Delete and insert every staged row; `delete_absent` deletes those that are not staged.

        Returns:
            Rows deleted, inserted and restated.
        """
        restated = self._create_restated(
            "select {staged_key} from {staged} as s join {target} as t on {matches}"
            " where {is_restated}",
            is_restated=self._is_restated("t.", "s."),
        )
        deleted = self._execute(
            "delete from {target} as t where exists (select from {staged} as s where {matches})"
        )
        inserted = self._execute(
            "insert into {target} ({columns}) select {columns} from {staged} as s"
        )
        return deleted, inserted, restated

    def delete_absent(self) -> tuple[int, int]:
        """Delete the rows that the load lacks: of the table, of its days, or of its deletes.

        A row to which a foreign key refers stays, because facts of a held day may refer to it.

        Returns:
            Rows deleted, and rows that stay because of a foreign key.
        """
        source: sql.Composable = self._table.identifier
        if self._load.deletes is not None:
            source = self._load.deletes_relation()
        elif self._table.day_column:
            source = self._composed(
                "(select {key} from {target} where {day} = any ({days}))",
                days=sql.Literal([*self._days]),
            )
        # Most keys of `deletes` are staged again, unchanged or with an end of validity.
        count = self._execute(
            "create temporary table {absent} on commit drop as"
            " select {own_key} from {source} as t"
            " where not exists (select from {staged} as s where {matches})",
            own_key=_listed(self._table.primary_key, "t."),
            source=source,
        )
        if count == 0:
            return 0, 0
        self._execute("analyze {absent}")
        if self._table.day_column:
            counted = self._composed("select {day}, count(*) from {absent} group by 1")
            self._add_days(self._session.execute(counted).fetchall())
        is_absent = _matches(self._table.primary_key, "t", "a")
        deleted = self._execute(
            "delete from {target} as t using {absent} as a where {is_absent} and {unreferenced}",
            is_absent=is_absent,
            unreferenced=self._unreferenced(),
        )
        referenced = self._execute(
            "select from {target} as t join {absent} as a on {is_absent}", is_absent=is_absent
        )
        return deleted, referenced

    def _create_restated(self, query: LiteralString, **parts: sql.Composable) -> int:
        created = sql.SQL("create temporary table {restated} on commit drop as ").format(
            **self._parts
        )
        return self._session.execute(created + self._composed(query, **parts)).rowcount

    def _update_clause(self) -> sql.Composable:
        values = [n for n in self._table.schema.names if n not in self._table.primary_key]
        if not values:
            return sql.SQL("")
        return sql.SQL(
            "when matched and row({}) is distinct from row({}) then update set {}"
        ).format(
            _listed(values, "t."),
            _listed(values, "s."),
            sql.SQL(", ").join(sql.SQL("{0} = s.{0}").format(sql.Identifier(v)) for v in values),
        )

    def _is_restated(self, before: LiteralString, after: LiteralString) -> sql.Composable:
        """Condition: an attribute of the row changed."""
        names = self._table.attributes
        if not names:
            return sql.SQL("false")
        return sql.SQL("row({}) is distinct from row({})").format(
            _listed(names, before), _listed(names, after)
        )

    def _unreferenced(self) -> sql.Composable:
        """Condition: no row of any table refers to row t."""
        if len(self._table.primary_key) != 1:
            return sql.SQL("true")
        conditions = [
            sql.SQL("not exists (select from {} as f where f.{} = t.{})").format(
                referencing.table,
                sql.Identifier(referencing.column),
                sql.Identifier(self._table.primary_key[0]),
            )
            for referencing in foreign_keys.referencing_columns(self._session, self._table)
        ]
        return sql.SQL(" and ").join([sql.SQL("true"), *conditions])

    def _add_days(self, counted: Iterable[tuple[Any, ...]]) -> None:
        self.changed_days.update({self._days[value]: rows for value, rows in counted})

    def _execute(self, statement: LiteralString, **parts: sql.Composable) -> int:
        return self._session.execute(self._composed(statement, **parts)).rowcount

    def _composed(self, statement: LiteralString, **parts: sql.Composable) -> sql.Composed:
        return sql.SQL(statement).format(**self._parts, **parts)


def _matches(key: Sequence[str], one: str, other: str) -> sql.Composed:
    pairs = [
        sql.SQL("{} = {}").format(sql.Identifier(one, c), sql.Identifier(other, c)) for c in key
    ]
    return sql.SQL(" and ").join(pairs)


def _listed(columns: Sequence[str], prefix: LiteralString = "") -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(prefix) + sql.Identifier(name) for name in columns)
