"""A table of the warehouse: what it is called, how it is keyed, cut into months and replaced."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Literal

from psycopg import sql

from headrace.errors import ConfigError, UnknownColumnError
from headrace.schema import TableSchema
from headrace.warehouse.identifiers import (
    LONGEST_NAME_BYTES,
    LONGEST_TABLE_NAME,
    MOST_COLUMNS,
    MOST_KEY_COLUMNS,
    SYSTEM_COLUMNS,
    month_table_name,
)

Mode = Literal["partition_replace", "upsert", "truncate_and_load"]

_PARTITION_TYPES = ("date", "int", "bigint")


@dataclass(frozen=True)
class Reference:
    """A foreign key: `column` holds the primary key, `key`, of a table of the same namespace."""

    column: str
    table: str
    key: str


@dataclass(frozen=True)
class WarehouseTable:
    """One table and how a load changes it.

    Attributes:
        namespace: Postgres's schema.
        name: At most 50 characters.
        schema: Columns. One that is not nullable is NOT NULL in a table made by us.
        primary_key: Unique and not null; holds `partition_column` where there is one.
        indexes: Each a tuple of columns.
        references: Foreign keys, declared to Postgres as far as their tables are there.
        attributes: Columns that readers find by this table's key: where one of them changes under
            a key that stays, what was computed from the rows that point to it is out of date.
        partition_column: For `partition_replace`: the day of a row, as `date` or as yyyymmdd.
        mode: `partition_replace` replaces the days of the load, in a table cut into months;
            `upsert` makes the table equal to what is loaded, or with a `day_column` the days of
            the load, writing only rows that differ by key; `truncate_and_load` replaces all.
        day_column: For `upsert`: the day of a row, as above and part of the key; a load then
            leaves the rows of other days alone. Without it, it brings the whole table.
        rebuild: The load brings all rows, and a new table takes the published one's place, whatever
            columns and types that has.
    """

    namespace: str
    name: str
    schema: TableSchema
    primary_key: tuple[str, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    references: tuple[Reference, ...] = ()
    attributes: tuple[str, ...] = ()
    partition_column: str | None = None
    mode: Mode = "partition_replace"
    day_column: str | None = None
    rebuild: bool = False

    def __post_init__(self) -> None:
        """See that the declaration makes sense.

        Raises:
            ConfigError: It does not; the message says why.
            UnknownColumnError: A key or an index names a column that is not there.
        """
        named = {*self.primary_key, *(c for columns in self.indexes for c in columns)}
        named |= {*self.attributes, *(reference.column for reference in self.references)}
        if self.column_of_days is not None:
            named.add(self.column_of_days)
        if unknown := named - {*self.schema.names}:
            raise UnknownColumnError(
                f"{self.label} has no column {', '.join(sorted(unknown))}",
                fix=f"use columns of {', '.join(self.schema.names)}",
            )
        if len(self.name.encode()) > LONGEST_TABLE_NAME:
            raise ConfigError(f"{self.label}: the name is too long", fix="use up to 50 characters")
        self._check_limits()
        self._check_mode()

    @property
    def label(self) -> str:
        """Name for people, locks and logs: namespace.name."""
        return f"{self.namespace}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        """Name for statements."""
        return sql.Identifier(self.namespace, self.name)

    @property
    def column_of_days(self) -> str | None:
        """The column by which a load replaces days; None where it brings the whole table."""
        return self.partition_column or self.day_column

    def partition_value(self, day: date) -> date | int:
        """What the column of days holds for rows of `day`."""
        if self.column_of_days and self.schema.column(self.column_of_days).type != "date":
            return yyyymmdd(day)
        return day

    def month_table(self, month: date) -> str:
        """Name of the partition that holds `month` (its first day)."""
        return month_table_name(self.name, month)

    def _check_limits(self) -> None:
        if taken := sorted(SYSTEM_COLUMNS & {*self.schema.names}):
            raise ConfigError(
                f"{self.label}: Postgres has columns {', '.join(taken)} of its own",
                fix="give these columns other names",
            )
        if long := [n for n in self.schema.names if len(n.encode()) > LONGEST_NAME_BYTES]:
            raise ConfigError(
                f"{self.label}: column {long[0]}: the name is too long",
                fix=f"use up to {LONGEST_NAME_BYTES} bytes: Postgres would cut it silently",
            )
        if len(self.schema.names) > MOST_COLUMNS:
            raise ConfigError(
                f"{self.label}: {len(self.schema.names)} columns",
                fix=f"leave some out: Postgres takes up to {MOST_COLUMNS}",
            )
        for columns in (self.primary_key, *self.indexes):
            if len(columns) > MOST_KEY_COLUMNS:
                raise ConfigError(
                    f"{self.label}: a key or an index of {len(columns)} columns",
                    fix=f"name up to {MOST_KEY_COLUMNS}: more have no room in Postgres's indexes",
                )

    def _check_mode(self) -> None:
        if (self.mode == "partition_replace") != (self.partition_column is not None):
            raise ConfigError(
                f"{self.label}: mode {self.mode} with partition column {self.partition_column}",
                fix="name a partition column for partition_replace, and for no other mode",
            )
        if self.day_column is not None and self.mode != "upsert":
            raise ConfigError(
                f"{self.label}: mode {self.mode} with day column {self.day_column}",
                fix="name a day column for upsert only",
            )
        if self.column_of_days is not None:
            kind = self.schema.column(self.column_of_days).type
            if kind not in _PARTITION_TYPES:
                raise ConfigError(
                    f"{self.label}: partition column {self.column_of_days} is {kind}",
                    fix="use a date, or an int such as 20170131",
                )
            if self.primary_key and self.column_of_days not in self.primary_key:
                raise ConfigError(
                    f"{self.label}: the primary key lacks {self.column_of_days}",
                    fix="add it: a key is unique within its day only",
                )
        if self.mode == "upsert" and not self.primary_key:
            raise ConfigError(
                f"{self.label}: upsert without a primary key",
                fix="name the primary key, or use truncate_and_load",
            )


def yyyymmdd(day: date) -> int:
    """`day` as a number that people can read, such as 20170131."""
    return day.year * 10_000 + day.month * 100 + day.day


def month_of(day: date) -> date:
    """First day of the month of `day`."""
    return day.replace(day=1)


def next_month(month: date) -> date:
    """First day of the month after `month`."""
    december = 12
    if month.month == december:
        return date(month.year + 1, 1, 1)
    return date(month.year, month.month + 1, 1)


def by_month(days: Iterable[date]) -> dict[date, frozenset[date]]:
    """The days of each month, months in order."""
    months: dict[date, set[date]] = {}
    for day in sorted(days):
        months.setdefault(month_of(day), set()).add(day)
    return {month: frozenset(found) for month, found in months.items()}
