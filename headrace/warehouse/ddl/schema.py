"""Maps columns and types to Postgres's, and plans the changes of a published table's columns."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from psycopg import sql

from headrace.errors import IncompatibleSchemaError, rebuild_command
from headrace.schema import Column, TableSchema, decimal_parts
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import WarehouseTable

# Postgres's types by their names in format_type.
_SIMPLE = {
    "string": "text",
    "boolean": "boolean",
    "int": "integer",
    "bigint": "bigint",
    "double": "double precision",
    "date": "date",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "list<string>": "text[]",
}
_LOGICAL = {kind: logical for logical, kind in _SIMPLE.items()}


@dataclass(frozen=True)
class PostgresColumn:
    """A column of Postgres's catalog; `type` is that of format_type."""

    name: str
    type: str
    not_null: bool = False


@dataclass(frozen=True)
class PublishedTable:
    """The published state of a table's definition.

    Attributes:
        columns: In order.
        partition_key: The result of pg_get_partkeydef; None for a table without partitions.
        month_tables: Names of its partitions.
        primary_key: Columns of its primary key.
    """

    columns: tuple[PostgresColumn, ...]
    partition_key: str | None
    month_tables: frozenset[str]
    primary_key: frozenset[str] = frozenset()

    @property
    def partition_column(self) -> str | None:
        """The partition column; None for a table without partitions."""
        if self.partition_key is None:
            return None
        # Postgres quotes a name if necessary: RANGE ("Day").
        return self.partition_key.removeprefix("RANGE (").removesuffix(")").strip('"')


@dataclass(frozen=True)
class SchemaChange:
    """The changes that a published table needs before a load.

    Attributes:
        columns: All columns after the change, in order: the existing ones, then the new ones.
        added: New columns, nullable, because existing rows have no value.
        widened: Columns that get a wider type.
        relaxed: Columns that lose NOT NULL.
    """

    columns: tuple[PostgresColumn, ...]
    added: tuple[PostgresColumn, ...] = ()
    widened: tuple[PostgresColumn, ...] = ()
    relaxed: tuple[str, ...] = ()

    @property
    def is_needed(self) -> bool:
        """Whether anything changes."""
        return bool(self.added or self.widened or self.relaxed)


def postgres_type(type_name: str) -> str:
    """The Postgres type of a logical type."""
    parts = decimal_parts(type_name)
    return f"numeric({parts[0]},{parts[1]})" if parts else _SIMPLE[type_name]


def schema_of(table: str, columns: Sequence[PostgresColumn]) -> TableSchema:
    """The logical schema of a table's columns.

    Raises:
        IncompatibleSchemaError: A type is not supported, such as json.
    """
    found = []
    for column in columns:
        logical = _logical_type(column.type)
        if not logical:
            raise IncompatibleSchemaError(
                f"{table}: column '{column.name}' has the type {column.type}",
                fix=f"select other columns, or make it one of {', '.join(_LOGICAL)}, numeric(p,s)",
            )
        found.append(Column(column.name, logical, not column.not_null))
    return TableSchema(tuple(found))


def declared_columns(table: WarehouseTable) -> tuple[PostgresColumn, ...]:
    """The columns of a new table."""
    required = {*table.primary_key, table.partition_column}
    return tuple(
        PostgresColumn(c.name, postgres_type(c.type), not c.nullable or c.name in required)
        for c in table.schema
    )


def look_up(session: Session, namespace: str, name: str) -> PublishedTable | None:
    """The published state of a table; None if it does not exist."""
    row = session.execute(
        """
        select
            pg_get_partkeydef(c.oid),
            array(
                select array[
                    a.attname::text,
                    format_type(a.atttypid, a.atttypmod),
                    a.attnotnull::text,
                    (a.attnum = any(k.indkey) is true)::text
                ]
                from pg_attribute as a
                left join pg_index as k on k.indrelid = a.attrelid and k.indisprimary
                where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                order by a.attnum
            ),
            array(
                select p.relname::text
                from pg_inherits as i
                join pg_class as p on p.oid = i.inhrelid
                where i.inhparent = c.oid
            )
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = %s and c.relname = %s and c.relkind in ('r', 'p')
        """,
        (namespace, name),
    ).fetchone()
    if row is None:
        return None
    columns = tuple(PostgresColumn(n, kind, not_null == "true") for n, kind, not_null, _ in row[1])
    key = frozenset(column[0] for column in row[1] if column[3] == "true")
    return PublishedTable(columns, row[0], frozenset(row[2]), key)


def plan_change(table: WarehouseTable, published: PublishedTable | None) -> SchemaChange:
    """Plan how to change `published` into `table`.

    A column that `table` lacks stays and loses NOT NULL: it is null in new rows.

    Raises:
        IncompatibleSchemaError: A type would lose published values, or the partitions differ.
    """
    declared = declared_columns(table)
    if published is None:
        return SchemaChange(declared)
    _check_partitions(table, published)
    new = {column.name: column for column in declared}
    after, widened, relaxed = [], [], []
    for column in published.columns:
        declared_column = new.pop(column.name, None)
        if declared_column is None:
            _check_left_out(table, column, published)
            after.append(replace(column, not_null=False))
            relaxed += [column.name] if column.not_null else []
            continue
        kind = _wider_type(table, column, declared_column)
        not_null = column.not_null and declared_column.not_null
        after.append(PostgresColumn(column.name, kind, not_null))
        if kind != column.type:
            widened.append(after[-1])
        if column.not_null and not not_null:
            relaxed.append(column.name)
    added = tuple(PostgresColumn(column.name, column.type) for column in new.values())
    return SchemaChange((*after, *added), added, tuple(widened), tuple(relaxed))


def definition(column: PostgresColumn) -> sql.Composed:
    """A column definition for CREATE TABLE or ADD COLUMN."""
    not_null = sql.SQL(" not null" if column.not_null else "")
    return sql.SQL("{} {}{}").format(sql.Identifier(column.name), sql.SQL(column.type), not_null)


def apply_change(session: Session, table: WarehouseTable, change: SchemaChange) -> None:
    """Alter the published table. Only a wider type, such as bigint, rewrites the table."""
    name = sql.Identifier
    actions = [
        *(sql.SQL("add column {}").format(definition(c)) for c in change.added),
        *(
            sql.SQL("alter column {} type {}").format(name(c.name), sql.SQL(c.type))
            for c in change.widened
        ),
        *(sql.SQL("alter column {} drop not null").format(name(c)) for c in change.relaxed),
    ]
    if actions:
        session.execute(
            sql.SQL("alter table {} {}").format(table.identifier, sql.SQL(", ").join(actions))
        )


def _check_partitions(table: WarehouseTable, published: PublishedTable) -> None:
    if published.partition_column != table.partition_column:
        raise IncompatibleSchemaError(
            f"{table.label} is published as partitioned by {published.partition_key or 'nothing'} "
            f"and cannot become partitioned by {table.partition_column or 'nothing'}",
            fix=f"rebuild the table: {rebuild_command(table.label)}",
        )


def _check_left_out(
    table: WarehouseTable, column: PostgresColumn, published: PublishedTable
) -> None:
    if column.name in published.primary_key:
        raise IncompatibleSchemaError(
            f"{table.label}: column '{column.name}' ({column.type}) is part of the published "
            "primary key and missing from the load",
            fix=f"load '{column.name}' too, or rebuild the table: {rebuild_command(table.label)}",
        )


def _wider_type(table: WarehouseTable, published: PostgresColumn, new: PostgresColumn) -> str:
    """The wider type of the two, which holds the values of both."""
    if _holds(published.type, new.type):
        return published.type
    if _holds(new.type, published.type) and published.name != table.partition_column:
        return new.type
    before, after = (_logical_type(kind) or kind for kind in (published.type, new.type))
    raise IncompatibleSchemaError(
        f"{table.label}: column '{published.name}' is published as {before} "
        f"and cannot become {after}",
        fix=f"declare '{published.name}' as {before}, or rebuild the table: "
        f"{rebuild_command(table.label)}",
    )


def _logical_type(postgres: str) -> str:
    """The logical type of a Postgres type; empty if there is none."""
    name = postgres.replace("numeric(", "decimal(")
    return name if decimal_parts(name) else _LOGICAL.get(postgres, "")


def _holds(wide: str, narrow: str) -> bool:
    """Whether every value of `narrow` is a value of `wide`, exactly."""
    if wide == narrow or (wide, narrow) == ("bigint", "integer"):
        return True
    parts = [decimal_parts(kind.replace("numeric(", "decimal(")) for kind in (wide, narrow)]
    if parts[0] and parts[1]:
        return parts[0][1] == parts[1][1] and parts[0][0] >= parts[1][0]
    return False
