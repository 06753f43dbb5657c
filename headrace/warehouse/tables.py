"""The declaration of a warehouse table: columns, keys, partitions, and how a load writes it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Literal

from psycopg import sql

from headrace.date_keys import date_key
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
    """A foreign key: `column` holds the primary key `key` of a table in the same namespace."""

    column: str
    table: str
    key: str


@dataclass(frozen=True)
class WarehouseTable:
    """One table, and how a load changes it.

    Attributes:
        namespace: Postgres's schema.
        name: At most 50 characters.
        schema: Columns; those that are not nullable are created NOT NULL.
        primary_key: Must contain `partition_column`, if there is one.
        indexes: Each a tuple of columns.
        references: Foreign keys; declared when the referenced tables exist.
        attributes: Columns that readers look up by this table's key: when one changes under an
            unchanged key, results computed from rows that point to it become stale.
        partition_column: For `partition_replace`: the day of a row, as `date` or as yyyymmdd.
        mode: `partition_replace` replaces the days of the load in a table partitioned by month;
            `upsert` merges by primary key, so that the table, or with a `day_column` the days of
            the load, equals the load; `truncate_and_load` replaces all rows.
        day_column: For `upsert`: the day of a row, as above, and part of the primary key; a load
            then leaves the rows of other days unchanged. Without it, a load has the whole table.
        rebuild: The load has all rows, and a new table replaces the published one, whose columns
            and types may differ.
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
        """Validate the declaration.

        Raises:
            ConfigError: The declaration is inconsistent.
            UnknownColumnError: A key or an index names a column that does not exist.
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
        """Name for messages, locks and logs: namespace.name."""
        return f"{self.namespace}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        """Name for SQL statements."""
        return sql.Identifier(self.namespace, self.name)

    @property
    def column_of_days(self) -> str | None:
        """The column by which a load replaces days; None if a load has the whole table."""
        return self.partition_column or self.day_column

    def partition_value(self, day: date) -> date | int:
        """The value of the column of days in rows of `day`."""
        if self.column_of_days and self.schema.column(self.column_of_days).type != "date":
            return date_key(day)
        return day

    def month_table(self, month: date) -> str:
        """Name of the partition for `month` (its first day)."""
        return month_table_name(self.name, month)

    def _check_limits(self) -> None:
        if taken := sorted(SYSTEM_COLUMNS & {*self.schema.names}):
            raise ConfigError(
                f"{self.label}: column {taken[0]}: the name is taken by a Postgres system column",
                fix="give the column another name",
            )
        if long := [n for n in self.schema.names if len(n.encode()) > LONGEST_NAME_BYTES]:
            raise ConfigError(
                f"{self.label}: column {long[0]}: the name is too long",
                fix=f"use up to {LONGEST_NAME_BYTES} bytes: Postgres would truncate it",
            )
        if len(self.schema.names) > MOST_COLUMNS:
            raise ConfigError(
                f"{self.label}: {len(self.schema.names)} columns",
                fix=f"use at most {MOST_COLUMNS} columns, the limit of Postgres",
            )
        for columns in (self.primary_key, *self.indexes):
            if len(columns) > MOST_KEY_COLUMNS:
                raise ConfigError(
                    f"{self.label}: a key or an index of {len(columns)} columns",
                    fix=f"use at most {MOST_KEY_COLUMNS} columns, the limit of Postgres's indexes",
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
                    fix="add it: a key is unique within its partition only",
                )
        if self.mode == "upsert" and not self.primary_key:
            raise ConfigError(
                f"{self.label}: upsert without a primary key",
                fix="name the primary key, or use truncate_and_load",
            )


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
