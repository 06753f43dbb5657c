"""Tables with a key, made equal to what is staged: the whole table, or what came and what went.

Belongs here: rows updated, inserted and deleted by primary key; rows that must stay a while.
Elsewhere: tables cut by day (headrace.warehouse.days), the transaction (…changing).
"""

from collections.abc import Sequence

from psycopg import sql

from headrace.warehouse import foreign_keys
from headrace.warehouse.sessions import Session
from headrace.warehouse.staged import StagedLoad


def restated_keys(table: str) -> sql.Identifier:
    """Relation of the keys under which attributes changed; there until the transaction ends.

    Its columns are those of the primary key, and `_is_restated`: false where other columns changed.
    """
    return sql.Identifier(f"differing_{table}")


class KeyedRows:
    """Changes one table within the transaction of a load."""

    def __init__(self, session: Session, load: StagedLoad) -> None:
        table = load.table
        self._session = session
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
        }

    def find_differing(self) -> int:
        """Remember the keys of rows that will change; of how many the attributes do.

        Readers look at the rows alone; who keeps results wants to know which of them rest on
        values that are no more, and after the change that cannot be asked.
        """
        names, values = self._table.attributes, self._values()
        restated = sql.SQL("row({}) is distinct from row({})").format(
            _listed(names, "t."), _listed(names, "s.")
        )
        self._execute(
            "create temporary table {differing} on commit drop as"
            " select {staged_key}, {restated} as _is_restated"
            " from {target} as t join {staged} as s on {matches}"
            " where row({values}) is distinct from row({staged_values})",
            restated=restated if names else sql.SQL("false"),
            values=_listed(values, "t."),
            staged_values=_listed(values, "s."),
        )
        self._execute("analyze {differing}")
        row = self._session.execute(
            sql.SQL("select count(*) from {} where _is_restated").format(
                restated_keys(self._table.name)
            )
        ).fetchone()
        return row[0] if row else 0

    def update(self) -> tuple[int, int]:
        """Update rows that differ; how many, and of how many the attributes changed."""
        values = self._values()
        if not values:
            return 0, 0
        restated = self.find_differing()
        updated = self._execute(
            "update {target} as t set {setters} from {staged} as s, {differing} as d"
            " where {matches} and {matches_differing}",
            setters=sql.SQL(", ").join(
                sql.SQL("{0} = s.{0}").format(sql.Identifier(name)) for name in values
            ),
            matches_differing=_matches(self._table.primary_key, "s", "d"),
        )
        return updated, restated

    def replace(self) -> tuple[int, int, int]:
        """Write every staged row anew: rows deleted, inserted, and with changed attributes.

        Rows that went are left to `delete_gone`.
        """
        restated = self.find_differing() if self._values() else 0
        deleted = self._execute(
            "delete from {target} as t where exists (select from {staged} as s where {matches})"
        )
        inserted = self._execute(
            "insert into {target} ({columns}) select {columns} from {staged} as s"
        )
        return deleted, inserted, restated

    def insert(self) -> int:
        """Insert rows whose key is new."""
        return self._execute(
            "insert into {target} ({columns}) select {staged_columns} from {staged} as s"
            " where not exists (select from {target} as t where {matches})"
        )

    def delete_gone(self) -> tuple[int, int]:
        """Delete rows that went; how many, and how many stay because rows still point to them.

        Facts of a day that is held keep their keys, and their members with them.
        """
        candidates = "select {own_key} from {target} as t where not exists"
        if self._load.gone is not None:
            candidates = (
                "select {own_key} from {target} as t join {gone} as g on {went} where not exists"
            )
        count = self._execute(
            f"create temporary table {{leaving}} on commit drop as {candidates}"
            " (select from {staged} as s where {matches})",
            own_key=_listed(self._table.primary_key, "t."),
            gone=self._load.gone_relation(),
            went=_matches(self._table.primary_key, "t", "g"),
        )
        if count == 0:
            return 0, 0
        self._execute("analyze {leaving}")
        deleted = self._execute(
            "delete from {target} as t using {leaving} as l where {matches_leaving} and {unused}",
            matches_leaving=_matches(self._table.primary_key, "t", "l"),
            unused=self._unused(),
        )
        return deleted, count - deleted

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

    def _execute(self, statement: str, **parts: sql.Composable) -> int:
        composed = sql.SQL(statement).format(
            **self._parts,
            differing=restated_keys(self._table.name),
            leaving=sql.Identifier(f"leaving_{self._table.name}"),
            **parts,
        )
        return self._session.execute(composed).rowcount


def _matches(key: Sequence[str], one: str, other: str) -> sql.Composed:
    pairs = [
        sql.SQL("{} = {}").format(sql.Identifier(one, c), sql.Identifier(other, c)) for c in key
    ]
    return sql.SQL(" and ").join(pairs)


def _listed(columns: Sequence[str], prefix: str = "") -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(prefix) + sql.Identifier(name) for name in columns)
