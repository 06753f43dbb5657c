"""What is in a PostgreSQL database: relations, their columns and types, keys."""

from psycopg import sql

from headrace.sources.postgres.session import Session, map_errors
from headrace.sources.tables.relations import NUMERIC, FoundColumn, FoundRelation

# By type OID: the logical type of its values. A domain is read as its base type.
_LOGICAL = {
    16: "boolean",
    20: "bigint",
    21: "int",
    23: "int",
    700: "double",
    701: "double",
    1082: "date",
    1114: "timestamp",
    1184: "timestamptz",
}
_NUMERIC = 1700


def discover(session: Session, schema: str | None = None) -> list[FoundRelation]:
    """Tables, partitioned tables, views and foreign tables that the user may read, by name.

    Args:
        session: With the database.
        schema: Only those of one schema; None: all but PostgreSQL's own.
    """
    with map_errors("the catalog"):
        rows = session.execute(_RELATIONS, {"schema": schema}).fetchall()
        return [_relation(session, row) for row in rows]


def describe(session: Session, relation: sql.Composable, label: str) -> dict[str, str]:
    """Columns of a relation, as something that follows `from`, and their logical types."""
    statement = sql.SQL("select * from {} limit 0").format(relation)
    with map_errors(label), session.cursor() as cursor:
        cursor.execute(statement)
        return {
            column.name: _type_of(column.type_code, column.precision, column.scale)
            for column in cursor.description or ()
        }


def _type_of(oid: int, precision: int | None, scale: int | None) -> str:
    if oid == _NUMERIC:
        fits = precision is not None and scale is not None and 0 <= scale <= precision <= 38  # noqa: PLR2004
        return f"decimal({precision},{scale})" if fits else NUMERIC
    return _LOGICAL.get(oid, "string")


def _relation(session: Session, row: tuple[object, ...]) -> FoundRelation:
    oid, name, kind, rows, comment = row
    columns = session.execute(_COLUMNS, {"relation": oid}).fetchall()
    keys = session.execute(_INDEXES, {"relation": oid}).fetchall()
    estimate = int(str(rows))
    return FoundRelation(
        name=str(name),
        kind=_KINDS[str(kind)],
        rows=estimate if estimate >= 0 else None,
        columns=tuple(
            FoundColumn(c[0], _type_of(c[1], *_numeric(c[2])), c[3], not c[4], c[5] or "")
            for c in columns
        ),
        key=next((tuple(k[0]) for k in keys if k[1]), ()),
        indexed=tuple(dict.fromkeys(k[0][0] for k in keys if k[0])),
        comment=str(comment or ""),
    )


def _numeric(modifier: int) -> tuple[int | None, int | None]:
    """Precision and scale that a type modifier of numeric says."""
    if modifier < 4:  # noqa: PLR2004
        return None, None
    precision, scale = (modifier - 4) >> 16 & 0xFFFF, (modifier - 4) & 0x7FF
    return precision, scale - 0x800 if scale & 0x400 else scale


_KINDS = {"r": "table", "p": "table", "v": "view", "m": "view", "f": "table"}
_RELATIONS = """
    select c.oid, format('%%I.%%I', n.nspname, c.relname), c.relkind::text, c.reltuples::bigint,
        obj_description(c.oid, 'pg_class')
    from pg_class as c
    inner join pg_namespace as n on c.relnamespace = n.oid
    where c.relkind in ('r', 'p', 'v', 'm', 'f')
        and not c.relispartition
        and n.nspname not in ('pg_catalog', 'information_schema')
        and n.nspname not like 'pg\\_toast%%' and n.nspname not like 'pg\\_temp%%'
        and (%(schema)s::text is null or n.nspname = %(schema)s)
        and has_schema_privilege(n.oid, 'usage')
        and has_table_privilege(c.oid, 'select')
    order by 2
"""
_COLUMNS = """
    select a.attname, coalesce(nullif(t.typbasetype, 0), t.oid)::int,
        case when t.typbasetype = 0 then a.atttypmod else t.typtypmod end,
        format_type(a.atttypid, a.atttypmod), a.attnotnull, col_description(a.attrelid, a.attnum)
    from pg_attribute as a
    inner join pg_type as t on a.atttypid = t.oid
    where a.attrelid = %(relation)s and a.attnum > 0 and not a.attisdropped
    order by a.attnum
"""
# The primary key first, then unique indexes of columns that are never NULL, then others.
_INDEXES = """
    select array_agg(a.attname order by k.place),
        i.indisunique and i.indpred is null and bool_and(coalesce(a.attnotnull, false))
    from pg_index as i
    cross join lateral unnest(i.indkey::int2[]) with ordinality as k (number, place)
    left join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.number
    where i.indrelid = %(relation)s and i.indisvalid and k.place <= i.indnkeyatts
    group by i.indexrelid, i.indisunique, i.indpred, i.indisprimary
    having bool_and(a.attname is not null)
    order by i.indisprimary desc, 2 desc, count(*), i.indexrelid
"""
# Whether or not the user may read them; those that `table` may name without a schema also so.
RELATION_NAMES = """
    select names.name
    from pg_class as c
    inner join pg_namespace as n on c.relnamespace = n.oid
    cross join lateral (
        values (n.nspname || '.' || c.relname),
            (case when pg_table_is_visible(c.oid) then c.relname end)
    ) as names (name)
    where c.relkind in ('r', 'p', 'v', 'm', 'f')
        and n.nspname not in ('pg_catalog', 'information_schema')
        and n.nspname not like 'pg\\_toast%' and n.nspname not like 'pg\\_temp%'
        and names.name is not null
    order by 1
"""
