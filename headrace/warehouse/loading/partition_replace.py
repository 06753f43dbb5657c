"""Partition overwrite of days in a month table; writes only the rows that differ."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from psycopg import sql

from headrace.warehouse.loading.staged_loads import STAGING, StagedLoad, StagingTable
from headrace.warehouse.sessions import Session

# Enough to group the rows of a month; with the server's default of 4 MB they would spill.
_WORK_MEM = "64MB"


@dataclass(frozen=True)
class DayRows:
    """Rows inserted and deleted in one day."""

    inserted: int = 0
    deleted: int = 0


def replace_days(
    session: Session,
    load: StagedLoad,
    month_table: str,
    days: Collection[date],
    part: StagingTable | None,
) -> dict[date, DayRows]:
    """Make the rows of some days of a month equal to the staged rows.

    Only rows that differ are written: replacing a year of equal rows took four times as long as
    comparing them.

    Args:
        session: The session of the load, inside its transaction.
        load: The load.
        month_table: Name of the month's partition.
        days: Days of the month.
        part: The staged rows of the month; None deletes the rows of the days.

    Returns:
        The rows of the days that differed.
    """
    statements = _MonthStatements(session, load, month_table, days)
    if part is None:
        return statements.delete([*statements.days])
    published = statements.published()
    differing = statements.compare(part, published) if published else {}
    emptied = [value for value, staged_rows in differing.items() if not staged_rows]
    changed = [value for value, staged_rows in differing.items() if staged_rows]
    new = [value for value in statements.days if value not in published]
    return {
        **(statements.delete(emptied) if emptied else {}),
        **(statements.insert(part, new) if new else {}),
        **(statements.write_difference(part, changed) if changed else {}),
    }


class _MonthStatements:
    """Statements for one month; `values` are days as values of the partition column."""

    def __init__(
        self, session: Session, load: StagedLoad, month_table: str, days: Collection[date]
    ) -> None:
        table = load.table
        self.days: Mapping[date | int, date] = {
            table.partition_value(each): each for each in sorted(days)
        }
        self._session = session
        self._month = sql.Identifier(table.namespace, month_table)
        self._day = sql.Identifier(table.partition_column or "")
        self._names = [column.name for column in load.columns]
        self._rows_by_day = load.rows_by_day

    def published(self) -> list[date | int]:
        """The days that have published rows."""
        statement = sql.SQL(
            "select _value from unnest({days}) as _days (_value)"
            " where exists (select from {relation} where {day} = _value)"
        )
        days = sql.Literal([*self.days])
        found = self._session.execute(self._format(statement, self._month, days=days)).fetchall()
        return [value for (value,) in found]

    def compare(self, part: StagingTable, values: Sequence[date | int]) -> dict[date | int, int]:
        """Number of staged rows of each day whose staged and published rows differ as multisets."""
        # hash_record_extended is linear in the hashes of its columns: without the outer hash, the
        # sum would not change when two rows swap a value.
        fingerprints = sql.SQL(
            "select {day} as day, count(*) as rows,"
            " sum(hashint8extended(hash_record_extended(row({columns}), 0), 0)) as hash"
            " from {relation} where {day} = any(%(days)s) group by 1"
        )
        query = sql.SQL(
            "with published as ({}), staged as ({})"
            " select day, coalesce(staged.rows, 0) from published left join staged using (day)"
            " where (published.rows, published.hash) is distinct from (staged.rows, staged.hash)"
            " order by day"
        ).format(self._format(fingerprints, self._month), self._format(fingerprints, _staged(part)))
        return dict(self._session.execute(query, {"days": [*values]}).fetchall())

    def delete(self, values: Sequence[date | int]) -> dict[date, DayRows]:
        """Delete the rows of days."""
        statement = sql.SQL(
            "with deleted as (delete from {relation} where {day} = any(%s) returning {day} as day)"
            " select day, count(*) from deleted group by day"
        )
        found = self._session.execute(self._format(statement, self._month), (values,)).fetchall()
        return {self.days[value]: DayRows(deleted=rows) for value, rows in found}

    def insert(self, part: StagingTable, values: Sequence[date | int]) -> dict[date, DayRows]:
        """Insert the staged rows of days without published rows."""
        # If no day has published rows, the insert needs no condition.
        some = sql.SQL(" where {day} = any({days})" if len(values) < len(self.days) else "")
        statement = sql.SQL("insert into {relation} ({columns}) select {columns} from {staged}")
        days = sql.Literal(list(values))
        where = some.format(day=self._day, days=days)
        query = self._format(statement, self._month, staged=_staged(part)) + where
        self._session.execute(query)
        filled = {self.days[value]: self._rows_by_day.get(self.days[value], 0) for value in values}
        return {day: DayRows(inserted=rows) for day, rows in filled.items() if rows}

    def write_difference(
        self, part: StagingTable, values: Sequence[date | int]
    ) -> dict[date, DayRows]:
        """Delete rows that are not staged, insert rows that are not published; duplicates count."""
        days = sql.Literal(list(values))
        self._create_difference(part, days)
        counts = sql.SQL(
            "select {day}, coalesce(sum(_copies) filter (where _copies > 0), 0)::bigint,"
            " coalesce(-sum(_copies) filter (where _copies < 0), 0)::bigint"
            " from difference group by {day}"
        )
        counted = self._session.execute(self._format(counts, self._month)).fetchall()
        self._delete_surplus(days)
        insert = sql.SQL(
            "insert into {relation} ({columns}) select {columns}"
            " from difference, generate_series(1, _copies) where _copies > 0"
        )
        self._session.execute(self._format(insert, self._month))
        self._session.execute("drop table difference")
        return {self.days[value]: DayRows(new, old) for value, new, old in counted}

    def _create_difference(self, part: StagingTable, days: sql.Literal) -> None:
        """Temporary table of the rows that differ; `_copies` is staged less published copies."""
        self._session.execute(sql.SQL("set local work_mem = {}").format(sql.Literal(_WORK_MEM)))
        difference = sql.SQL(
            "create temporary table difference on commit drop as"
            " select row_number() over () as _number, sum(_copies)::bigint as _copies,"
            " hash_record_extended(row({columns}), 0) as _hash, {columns}"
            " from ((select {columns}, 1 as _copies from {staged} where {day} = any({days}))"
            " union all (select {columns}, -1 from {relation} where {day} = any({days}))) as found"
            " group by {columns} having sum(_copies) <> 0"
        )
        query = self._format(difference, self._month, staged=_staged(part), days=days)
        self._session.execute(query)
        self._session.execute("analyze difference")

    def _delete_surplus(self, days: sql.Literal) -> None:
        """Delete published copies that are not staged; of equal rows, any."""
        delete = sql.SQL(
            "delete from {relation} where ctid = any(array("
            " select place from ("
            " select p.ctid as place, d._copies,"
            " row_number() over (partition by d._number) as copy"
            " from (select ctid, {columns}, hash_record_extended(row({columns}), 0) as _hash"
            " from {relation} where {day} = any({days})) as p"
            " join difference as d on d._hash = p._hash"
            " and row({of_p}) is not distinct from row({of_d}) where d._copies < 0"
            " ) as numbered where copy <= -_copies))"
        )
        self._session.execute(self._format(delete, self._month, days=days))

    def _format(
        self, statement: sql.SQL, relation: sql.Identifier, **parts: sql.Composable
    ) -> sql.Composed:
        names = self._names
        return statement.format(
            relation=relation,
            day=self._day,
            columns=sql.SQL(", ").join(map(sql.Identifier, names)),
            of_p=sql.SQL(", ").join(sql.Identifier("p", name) for name in names),
            of_d=sql.SQL(", ").join(sql.Identifier("d", name) for name in names),
            **parts,
        )


def _staged(part: StagingTable) -> sql.Identifier:
    return sql.Identifier(STAGING, part.name)
