"""What a load has staged: its tables, to be judged, published or discarded.

Belongs here: the staged load as a value, and its rows as relations.
Elsewhere: staging (headrace.warehouse.staging), publishing (…publishing).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import psycopg
from psycopg import sql

from headrace.warehouse.leftovers import STAGING, drop_staged
from headrace.warehouse.schema import PostgresColumn
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import WarehouseTable


@dataclass(frozen=True)
class StagedPart:
    """One staging table.

    Attributes:
        name: In the namespace `staging`.
        month: First day of the month whose rows it has; None for a table without partitions.
        rows: Rows in it.
        is_partition: Whether it can become the month's partition as it is.
        renames: Names of its indexes, now and then.
    """

    name: str
    month: date | None
    rows: int
    is_partition: bool = False
    renames: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class StagedLoad:
    """Rows that wait to be judged and published, or discarded.

    Attributes:
        table: Where they go.
        days: The days they replace; a day without rows becomes empty.
        columns: Columns of the staging tables: the published table's, then new ones.
        parts: The staging tables.
        rows_by_day: Rows of each day that has any; empty for a table without partitions.
        seconds: Time spent: `copy` and `index` summed over both sessions, `stage` by the clock.
        owner: The session that keeps the staging tables from being taken for leftovers.
        gone: Keys of rows that went, where `parts` are changes; None where they are all rows.
    """

    table: WarehouseTable
    days: frozenset[date]
    columns: tuple[PostgresColumn, ...]
    parts: tuple[StagedPart, ...]
    rows_by_day: Mapping[date, int] = field(repr=False)
    seconds: Mapping[str, float]
    owner: Session = field(repr=False, compare=False)
    gone: StagedPart | None = None

    @property
    def rows(self) -> int:
        """Rows in all parts."""
        return sum(part.rows for part in self.parts)

    def relation(self, parts: Sequence[StagedPart] | None = None) -> sql.Composed:
        """Staged rows, as a table expression for an audit's `from`: of all parts, or of some."""
        names = sql.SQL(", ").join(sql.Identifier(c.name) for c in self.columns)
        selects = [
            sql.SQL("select {} from {}").format(names, sql.Identifier(STAGING, part.name))
            for part in (self.parts if parts is None else parts)
        ]
        if not selects:
            nulls = [
                sql.SQL("null::{} as {}").format(sql.SQL(c.type), sql.Identifier(c.name))
                for c in self.columns
            ]
            selects = [sql.SQL("select {} limit 0").format(sql.SQL(", ").join(nulls))]
        return sql.SQL("({})").format(sql.SQL(" union all ").join(selects))

    def gone_relation(self) -> sql.Composable:
        """The keys that went, as a table for `from`."""
        return sql.Identifier(STAGING, self.gone.name if self.gone else "")

    @property
    def table_names(self) -> tuple[str, ...]:
        """Its staging tables."""
        gone = (self.gone,) if self.gone else ()
        return tuple(part.name for part in (*self.parts, *gone))

    def discard(self) -> None:
        """Drop the staging tables that are left, and close the session that owned them."""
        if self.owner.closed:
            return
        try:
            drop_staged(self.owner, self.table_names)
        except psycopg.Error:
            # The owner is lost: the tables are leftovers now, and the next load drops them.
            pass
        finally:
            self.owner.close()
