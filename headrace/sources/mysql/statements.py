"""SQL that selects rows of a relation, composed from what is declared of an entity.

The server needs no tables of time zones: local times are computed here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from headrace.config.sources.table_source import IncreasingIdExtract, TableEntity
from headrace.sources.mysql.catalog import FoundType
from headrace.sources.tables.database import Days, Position, Selection

# A zone whose clock goes back repeats local times: a local time may lie an hour before an instant
# that came earlier.
_CLOCK_GOES_BACK = timedelta(hours=1)
# Rows of a TIMESTAMP are counted by quarters of an hour: no zone's midnight lies within one.
QUARTER = timedelta(minutes=15)
_ZERO = "'0000-00-00'"
# Days that Python, Arrow and the engines hold; in zones east and west of UTC too.
_FIRST, _LAST = "'0001-01-02'", "'9999-12-31'"
_FORMS = {
    "plain": "{}",
    "bytes": "concat('\\\\x', lower(hex({})))",
    "bits": "({} + 0)",
    "float": "({} + 0e0)",
    "instant": "concat({}, '+00')",
}


@dataclass(frozen=True)
class Statements:
    """The statements of one entity.

    Attributes:
        names: By declared column, its name in the relation.
        types: By declared column, its type there.
    """

    entity: TableEntity
    names: Mapping[str, str]
    types: Mapping[str, FoundType]

    @property
    def zone(self) -> ZoneInfo:
        """The zone of local times."""
        return ZoneInfo(self.entity.timezone or "UTC")

    @property
    def has_utc(self) -> bool:
        """Whether local times are UTC."""
        return (self.entity.timezone or "UTC") == "UTC"

    def rows(self, selection: Selection) -> str:
        """`select …`, each column in the form that says it whole."""
        keys = [self._column(name) for name in self.entity.key if not name.startswith("_")]
        order = f" order by {', '.join(keys)}" if selection.is_sorted and keys else ""
        columns = ", ".join(self._value(name) for name in selection.columns)
        where = self._where(selection)
        return f"select {columns} from {relation(self.entity)}{where}{order}"  # noqa: S608

    def pending(self, cursor: str, since: Position | None) -> str:
        """By day or quarter: the number of rows, least and greatest cursor, a digest of columns.

        Cursors alone would not do: a row may change twice within one second, or one day.
        """
        column = self._column(cursor)
        number, digest = f"timestampdiff(microsecond, '1970-01-01', {column})", ""
        if isinstance(self.entity.extract, IncreasingIdExtract):
            number = column  # Rows with an id do not change.
        else:
            values = [f"quote({self._value(column.name)})" for column in self.entity.columns]
            digest = f", sum(crc32(concat_ws(',', {', '.join(values)})))"
        return (
            f"select {self._group()}, count(*), cast(min({column}) as char),"  # noqa: S608
            f" cast(max({column}) as char),"
            f" left(md5(concat_ws(' ', count(*), sum({number}){digest})), 8)"
            f" from {relation(self.entity)}{self._where(Selection((), since=since))} group by 1"
        )

    def row_counts(self, selection: Selection) -> str:
        """By day or quarter: the number of rows."""
        return (
            f"select {self._group()}, count(*)"  # noqa: S608
            f" from {relation(self.entity)}{self._where(selection)} group by 1"
        )

    def day_of(self, group: object) -> date | None:
        """The day of a group of `pending`; None: its rows have no day."""
        if group is None:
            return None
        if self._kind(str(self.entity.extract.partition_by)) == "timestamptz" and not self.has_utc:
            instant = datetime.fromtimestamp(int(str(group)) * QUARTER.total_seconds(), UTC)
            return instant.astimezone(self.zone).date()
        return date.fromisoformat(str(group))

    def instant_of(self, cursor: str, text: str | None) -> datetime | None:
        """The instant of a cursor's text; of a local time that occurs twice, the earlier one.

        Raises:
            ValueError: It is a date that does not exist, such as 0000-00-00.
        """
        if text is None:
            return None
        found = datetime.fromisoformat(text)
        if self._kind(cursor) == "timestamptz" or self.has_utc:
            return found.replace(tzinfo=UTC)
        return found.replace(tzinfo=self.zone).astimezone(UTC) - _CLOCK_GOES_BACK

    def _group(self) -> str:
        name = str(self.entity.extract.partition_by)
        column = self._column(name)
        group = f"cast(date({column}) as char)"
        if self._kind(name) == "timestamptz" and not self.has_utc:
            group = f"floor(unix_timestamp({column}) / {int(QUARTER.total_seconds())})"
        return f"case when {self._readable(column)} then {group} end"

    def _kind(self, name: str) -> str:
        return self.types[name].type

    def _column(self, name: str) -> str:
        return f"t.{quoted(self.names[name])}"

    def _value(self, name: str) -> str:
        return _FORMS[self.types[name].form].format(self._column(name))

    def _where(self, selection: Selection) -> str:
        conditions = []
        cursor = getattr(self.entity.extract, "cursor", None)
        if selection.since is not None and cursor:
            conditions.append(self._since(cursor, selection.since))
        if selection.days is not None:
            conditions.append(self._within(selection.days, with_undated=selection.with_undated))
        return f" where {' and '.join(conditions)}" if conditions else ""

    def _since(self, name: str, since: Position) -> str:
        column = self._column(name)
        if isinstance(since, int):
            return f"({column} >= {since} or {column} is null)"
        bound = self._bound(self._kind(name), since)
        return f"({column} >= {bound} or {column} is null or {column} = {_ZERO})"

    def _bound(self, kind: str, since: datetime) -> str:
        """The least value that a column may have at an instant or after it."""
        if kind == "timestamptz":
            return _literal(since.astimezone(UTC))
        if not self.has_utc:
            since -= _CLOCK_GOES_BACK
        local = since.astimezone(self.zone)
        return f"'{local.date()}'" if kind == "date" else _literal(local)

    def _within(self, days: Sequence[Days], *, with_undated: bool) -> str:
        name = str(self.entity.extract.partition_by)
        column, kind = self._column(name), self._kind(name)
        readable = self._readable(column)
        ranges = [
            f"({column} >= {self._midnight(kind, start)} and {column} < {self._midnight(kind, end)}"
            f" and {readable})"
            for start, end in days
        ]
        if with_undated:
            ranges.append(f"({column} is null or not coalesce({readable}, false))")
        return f"({' or '.join(ranges or ['false'])})"

    def _midnight(self, kind: str, day: date) -> str:
        if kind != "timestamptz":
            return f"'{day}'"
        return _literal(datetime.combine(day, time(), self.zone).astimezone(UTC))

    def _readable(self, column: str) -> str:
        # A day such as 2017-02-00 or 2017-02-31 lies between others and is none: the server's own
        # check of it is that a date survives the way to a number of days and back.
        return (
            f"({column} >= {_FIRST} and {column} < {_LAST}"
            f" and from_days(to_days({column})) = date({column}))"
        )


def _literal(at: datetime) -> str:
    return f"'{at.replace(tzinfo=None).isoformat(' ', 'microseconds')}'"


def quoted(name: str) -> str:
    """A name as an identifier."""
    return "`" + name.replace("`", "``") + "`"


def relation(entity: TableEntity) -> str:
    """What follows `from`: the table or the query, called `t`."""
    extract = entity.extract
    if extract.query is not None:
        # A comment at the end of the query must not hide the bracket.
        return f"(\n{extract.query.strip().rstrip(';')}\n) as t"
    return ".".join(quoted(part) for part in str(extract.table).split(".")) + " as t"
