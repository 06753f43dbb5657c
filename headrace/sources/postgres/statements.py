"""SQL that selects rows of a relation, composed from what is declared of an entity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from psycopg import sql

from headrace.config.sources.table_source import TableEntity
from headrace.sources.tables.database import Days, Position, Selection

# A zone whose clock goes back repeats local times: a local time may lie an hour before an instant
# that came earlier.
_CLOCK_GOES_BACK = timedelta(hours=1)
_UTC = "UTC"
# In `Statements.types`: the cursor is an increasing id.
ID = "id"


@dataclass(frozen=True)
class Statements:
    """The statements of one entity.

    Attributes:
        names: By declared column, its name in the relation.
        types: By declared column that says a time, its type there: date, timestamp, timestamptz;
            of an increasing id `ID`.
    """

    entity: TableEntity
    names: Mapping[str, str]
    types: Mapping[str, str]

    @property
    def zone(self) -> str:
        """The zone of local times."""
        return self.entity.timezone or _UTC

    def rows(self, selection: Selection) -> sql.Composed:
        """`copy (select …) to stdout`, in text format."""
        order: sql.Composable = sql.SQL("")
        if selection.is_sorted:
            keys = [self._column(name) for name in self.entity.key if not name.startswith("_")]
            order = sql.SQL(" order by {}").format(sql.SQL(", ").join(keys)) if keys else order
        select = sql.SQL("select {} from {}{}{}").format(
            sql.SQL(", ").join(self._column(name) for name in selection.columns),
            relation(self.entity),
            self._where(selection),
            order,
        )
        return sql.SQL("copy ({}) to stdout").format(select)

    def pending(self, cursor: str, since: Position | None) -> sql.Composed:
        """By day: the number of rows, their least and greatest cursor, a digest of their columns.

        Cursors alone would not do: a row may change twice within one second, or one day.
        """
        column, kind = self._column(cursor), self.types[cursor]
        position = column if kind == ID else self._instant(column, kind)
        number = sql.SQL("{}" if kind == ID else "extract(epoch from {})").format(position)
        values = sql.SQL(", ").join(self._column(column.name) for column in self.entity.columns)
        where = self._where(Selection((), since=since))
        return sql.SQL(
            "select {day}, count(*), min({position})::text, max({position})::text,"
            " left(md5(concat_ws(' ', count(*), sum({number}),"
            " sum(hashtextextended(row({values})::text, 0)) filter (where {hashed}))), 8)"
            " from {relation}{where} group by 1"
        ).format(
            day=self._day(str(self.entity.extract.partition_by)),
            position=position,
            number=number,
            values=values,
            # Rows with an id do not change.
            hashed=sql.SQL("{} is null").format(column) if kind == ID else sql.SQL("true"),
            relation=relation(self.entity),
            where=where,
        )

    def row_counts(self, selection: Selection) -> sql.Composed:
        """By day: the number of rows."""
        return sql.SQL("select {}, count(*) from {}{} group by 1").format(
            self._day(str(self.entity.extract.partition_by)),
            relation(self.entity),
            self._where(selection),
        )

    def _column(self, name: str) -> sql.Composable:
        return sql.SQL("t.{}").format(sql.Identifier(self.names[name]))

    def _where(self, selection: Selection) -> sql.Composable:
        conditions: list[sql.Composable] = []
        cursor = getattr(self.entity.extract, "cursor", None)
        if selection.since is not None and cursor:
            conditions.append(self._since(cursor, selection.since))
        if selection.days is not None:
            conditions.append(self._within(selection.days, with_undated=selection.with_undated))
        if not conditions:
            return sql.SQL("")
        return sql.SQL(" where {}").format(sql.SQL(" and ").join(conditions))

    def _since(self, name: str, since: Position) -> sql.Composable:
        column, kind = self._column(name), self.types[name]
        return sql.SQL("({column} >= {bound} or {column} is null)").format(
            column=column, bound=self._bound(kind, since)
        )

    def _bound(self, kind: str, since: Position) -> sql.Composable:
        """The least value that a column may have at an instant or after it."""
        if isinstance(since, int):
            return sql.Literal(since)
        if kind == "timestamptz":
            return sql.SQL("{}::timestamptz").format(sql.Literal(since.isoformat()))
        if self.zone != _UTC:
            since -= _CLOCK_GOES_BACK
        local = sql.SQL("{}::timestamptz at time zone {}").format(
            sql.Literal(since.isoformat()), sql.Literal(self.zone)
        )
        return sql.SQL("({})::{}").format(local, sql.SQL("date" if kind == "date" else "timestamp"))

    def _within(self, days: Sequence[Days], *, with_undated: bool) -> sql.Composable:
        name = str(self.entity.extract.partition_by)
        column, kind = self._column(name), self.types[name]
        ranges: list[sql.Composable] = [
            sql.SQL("({column} >= {start} and {column} < {end})").format(
                column=column, start=self._midnight(kind, start), end=self._midnight(kind, end)
            )
            for start, end in days
        ]
        if with_undated:
            undated = sql.SQL("({column} is null or not ({readable}))")
            ranges.append(undated.format(column=column, readable=self._readable(column, kind)))
        return sql.SQL("({})").format(sql.SQL(" or ").join(ranges or [sql.SQL("false")]))

    def _midnight(self, kind: str, day: object) -> sql.Composable:
        text = sql.Literal(f"{day}")
        if kind == "timestamptz":
            return sql.SQL("({}::timestamp at time zone {})").format(text, sql.Literal(self.zone))
        return sql.SQL("{}::{}").format(text, sql.SQL("date" if kind == "date" else "timestamp"))

    def _day(self, name: str) -> sql.Composable:
        """The local day of a column, as a date; NULL where it has none that Arrow holds."""
        column, kind = self._column(name), self.types[name]
        local = column
        if kind == "timestamptz":
            local = sql.SQL("({} at time zone {})").format(column, sql.Literal(self.zone))
        return sql.SQL("case when {readable} then {local}::date end").format(
            readable=self._readable(column, kind), local=local
        )

    def _readable(self, column: sql.Composable, kind: str) -> sql.Composable:
        bounds = [sql.SQL("{}::{}").format(sql.Literal(text), sql.SQL(kind)) for text in _BOUNDS]
        return sql.SQL("{column} >= {first} and {column} < {last}").format(
            column=column, first=bounds[0], last=bounds[1]
        )

    def _instant(self, column: sql.Composable, kind: str) -> sql.Composable:
        """A time as an instant; of a local time that occurs twice, the earlier one."""
        if kind == "timestamptz":
            return column
        back = sql.Literal("1 hour" if self.zone != _UTC else "0")
        return sql.SQL("({}::timestamp at time zone {} - {}::interval)").format(
            column, sql.Literal(self.zone), back
        )


# Days that Python, Arrow and the engines hold; in zones east and west of UTC too.
_BOUNDS = ("0001-01-02", "9999-12-31")


def relation(entity: TableEntity) -> sql.Composable:
    """What follows `from`: the table or the query, called `t`."""
    extract = entity.extract
    if extract.query is not None:
        text = extract.query.strip().rstrip(";")
        # A comment at the end of the query must not hide the bracket.
        return sql.SQL("(\n{}\n) as t").format(sql.SQL(text))
    return sql.SQL("{} as t").format(sql.Identifier(*str(extract.table).split(".")))
