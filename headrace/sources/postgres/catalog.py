"""What is in a PostgreSQL database: relations, their columns and types, keys."""

import re
from collections.abc import Sequence
from typing import Any

from psycopg import sql

from headrace.sources.postgres.session import Session, map_errors
from headrace.sources.tables.relations import (
    NUMERIC,
    Filled,
    ForeignKey,
    FoundColumn,
    FoundRelation,
)

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


def _relation(session: Session, row: tuple[Any, ...]) -> FoundRelation:
    oid, name, schema, table, kind, rows, size, is_appended, comment = row
    which = {"relation": oid}
    columns = session.execute(_COLUMNS, which).fetchall()
    indexes = session.execute(_INDEXES, which).fetchall()
    keys = [(tuple(columns), primary) for columns, unique, primary in indexes if unique]
    references = session.execute(_REFERENCES, which).fetchall()
    triggers = [text for (text,) in session.execute(_TRIGGERS, which).fetchall()]
    return FoundRelation(
        name=name,
        kind=_KINDS[kind],
        rows=rows if rows >= 0 else None,
        columns=tuple(_column(column, triggers) for column in columns),
        key=keys[0][0] if keys else (),
        indexed=tuple(dict.fromkeys(i[0][0] for i in indexes if i[0])),
        comment=comment or "",
        place=(schema, table),
        is_primary=bool(keys) and keys[0][1],
        unique=tuple(key for key, _ in keys[1:]),
        references=tuple(ForeignKey(tuple(r[0]), (r[1], r[2]), tuple(r[3])) for r in references),
        size_bytes=size,
        is_appended=is_appended,
        has_pages=kind in ("r", "p", "m"),
    )


def _column(row: tuple[Any, ...], triggers: Sequence[str]) -> FoundColumn:
    name, oid, modifier, type_name, is_required, comment, identity, default = row
    filled: Filled = ""
    if identity or (default or "").startswith("nextval("):
        filled = "sequence"
    elif any(_sets(text, name) for text in triggers):
        filled = "update"
    elif _NOW.search(default or ""):
        filled = "insert"
    return FoundColumn(
        name,
        _type_of(oid, *_numeric(modifier)),
        type_name,
        not is_required,
        comment or "",
        filled,
    )


_NOW = re.compile(
    r"(?i)\b(?:now|(?:clock|statement|transaction)_timestamp)\(|\bcurrent_(?:time|da)"
)


def _sets(trigger: str, column: str) -> bool:
    """Whether a trigger before updates sets a column: it assigns it, or has its name as argument.

    The extension moddatetime takes the column as its argument.
    """
    name = re.escape(column)
    assigned = rf'(?i)\bnew\."?{name}"?\s*:?=(?!=)'
    return re.search(rf"{assigned}|\x1f{name}\x1f", trigger) is not None


def _numeric(modifier: int) -> tuple[int | None, int | None]:
    """Precision and scale that a type modifier of numeric says."""
    if modifier < 4:  # noqa: PLR2004
        return None, None
    precision, scale = (modifier - 4) >> 16 & 0xFFFF, (modifier - 4) & 0x7FF
    return precision, scale - 0x800 if scale & 0x400 else scale


_KINDS = {"r": "table", "p": "table", "v": "view", "m": "view", "f": "table"}
_RELATIONS = """
    select c.oid, format('%%I.%%I', n.nspname, c.relname), n.nspname::text, c.relname::text,
        c.relkind::text, c.reltuples::bigint,
        case
            when c.relkind in ('r', 'm') then pg_table_size(c.oid)
            when c.relkind = 'p'
                then (select sum(pg_table_size(p.relid))::bigint from pg_partition_tree(c.oid) as p)
        end,
        case
            when c.relkind = 'r' and pg_stat_get_tuples_inserted(c.oid) > 0
                then pg_stat_get_tuples_updated(c.oid) + pg_stat_get_tuples_deleted(c.oid) = 0
        end,
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
        format_type(a.atttypid, a.atttypmod), a.attnotnull, col_description(a.attrelid, a.attnum),
        a.attidentity <> '', pg_get_expr(d.adbin, d.adrelid)
    from pg_attribute as a
    inner join pg_type as t on a.atttypid = t.oid
    left join pg_attrdef as d on a.attrelid = d.adrelid and a.attnum = d.adnum
    where a.attrelid = %(relation)s and a.attnum > 0 and not a.attisdropped
    order by a.attnum
"""
# The primary key first, then unique indexes of columns that are never NULL, then others.
_INDEXES = """
    select array_agg(a.attname order by k.place),
        i.indisunique and i.indpred is null and bool_and(coalesce(a.attnotnull, false)),
        i.indisprimary
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
_REFERENCES = """
    select
        array_agg(a.attname order by k.place), n.nspname::text, f.relname::text,
        array_agg(b.attname order by k.place)
    from pg_constraint as c
    inner join pg_class as f on c.confrelid = f.oid
    inner join pg_namespace as n on f.relnamespace = n.oid
    cross join lateral unnest(c.conkey, c.confkey) with ordinality as k (own, other, place)
    inner join pg_attribute as a on c.conrelid = a.attrelid and k.own = a.attnum
    inner join pg_attribute as b on c.confrelid = b.attrelid and k.other = b.attnum
    where c.contype = 'f' and c.conrelid = %(relation)s and c.conparentid = 0
    group by c.oid, n.nspname, f.relname
    order by c.oid
"""
# The text of functions that run before the update of a row, and the arguments of their triggers.
_TRIGGERS = r"""
    select p.prosrc || E'\x1f' || replace(encode(t.tgargs, 'escape'), '\000', E'\x1f')
    from pg_trigger as t
    inner join pg_proc as p on t.tgfoid = p.oid
    where t.tgrelid = %(relation)s and not t.tgisinternal and t.tgenabled <> 'D'
        and t.tgtype & 19 = 19
"""
