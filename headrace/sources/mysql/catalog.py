"""What is in a database of MySQL or MariaDB: relations, their columns and types, keys."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pymysql.constants import FIELD_TYPE, FLAG

from headrace.sources.mysql.session import Session, fetch, map_errors
from headrace.sources.tables.relations import (
    BIGINT_UNSIGNED,
    NUMERIC,
    TINYINT,
    Filled,
    ForeignKey,
    FoundColumn,
    FoundRelation,
)

# How a value is selected, so that its text form says it whole: a float has six digits otherwise.
Form = Literal["plain", "bytes", "bits", "float", "instant"]

_BINARY = 63  # The number of the character set of bytes.
_INTEGERS = {
    FIELD_TYPE.TINY: "int",
    FIELD_TYPE.SHORT: "int",
    FIELD_TYPE.INT24: "int",
    FIELD_TYPE.YEAR: "int",
    FIELD_TYPE.LONG: "int",
    FIELD_TYPE.LONGLONG: "bigint",
}
_UNSIGNED = {FIELD_TYPE.LONG: "bigint", FIELD_TYPE.LONGLONG: BIGINT_UNSIGNED}
_OTHERS: dict[int, tuple[str, Form]] = {
    FIELD_TYPE.FLOAT: ("double", "float"),
    FIELD_TYPE.DOUBLE: ("double", "plain"),
    FIELD_TYPE.DATE: ("date", "plain"),
    FIELD_TYPE.NEWDATE: ("date", "plain"),
    FIELD_TYPE.DATETIME: ("timestamp", "plain"),
    FIELD_TYPE.TIMESTAMP: ("timestamptz", "instant"),
    FIELD_TYPE.GEOMETRY: ("string", "bytes"),
}
_TEXTS = (
    FIELD_TYPE.VARCHAR,
    FIELD_TYPE.VAR_STRING,
    FIELD_TYPE.STRING,
    FIELD_TYPE.TINY_BLOB,
    FIELD_TYPE.MEDIUM_BLOB,
    FIELD_TYPE.LONG_BLOB,
    FIELD_TYPE.BLOB,
    242,  # vector
)
_DIGITS_OF_DECIMAL, _BITS_OF_INT, _BITS_OF_BIGINT = 38, 31, 63


@dataclass(frozen=True)
class FoundType:
    """The type of a column of a result.

    Attributes:
        type: See FoundColumn.
        form: How it is selected.
    """

    type: str
    form: Form = "plain"


def discover(session: Session, schema: str | None = None) -> list[FoundRelation]:
    """Tables and views that the user may read, by name.

    Args:
        session: With the server.
        schema: Only those of one database; None: all but the server's own.
    """
    with map_errors("the catalog"):
        rows = fetch(session, _RELATIONS, {"schema": schema})
        found = [_relation(session, row) for row in rows]
    return [relation for relation in found if relation.columns]


def describe(session: Session, relation: str, label: str) -> dict[str, FoundType]:
    """Columns of a relation, as something that follows `from`, and their types."""
    with map_errors(label), session.cursor() as cursor:
        cursor.execute(f"select * from {relation} limit 0")  # noqa: S608
        fields = cursor._result.fields  # noqa: SLF001
    return {field.name: _type_of(field) for field in fields}


def _type_of(field: Any) -> FoundType:
    code, is_unsigned = field.type_code, bool(field.flags & FLAG.UNSIGNED)
    if code == FIELD_TYPE.TINY and field.length == 1 and not is_unsigned:
        return FoundType(TINYINT)
    if code in _INTEGERS:
        return FoundType(_UNSIGNED.get(code, "int") if is_unsigned else _INTEGERS[code])
    if code in (FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL):
        # The length counts a sign and a point.
        digits = field.length - (0 if is_unsigned else 1) - (1 if field.scale else 0)
        return FoundType(_decimal(digits, field.scale))
    if code == FIELD_TYPE.BIT:
        return FoundType(_bits(field.length), "bits")
    if code in _OTHERS:
        return FoundType(*_OTHERS[code])
    # JSON of MySQL says that it is bytes, and is text.
    is_bytes = code in _TEXTS and field.charsetnr == _BINARY
    return FoundType("string", "bytes" if is_bytes else "plain")


def _decimal(digits: int, scale: int) -> str:
    return f"decimal({digits},{scale})" if 0 < digits <= _DIGITS_OF_DECIMAL else NUMERIC


def _bits(count: int) -> str:
    if count == 1:
        return TINYINT
    if count <= _BITS_OF_INT:
        return "int"
    return "bigint" if count <= _BITS_OF_BIGINT else BIGINT_UNSIGNED


def _relation(session: Session, row: tuple[Any, ...]) -> FoundRelation:
    schema, name, kind, rows, size, comment = row
    place = {"schema": schema, "name": name}
    columns = fetch(session, _COLUMNS, place)
    indexes = fetch(session, _INDEXES, place)
    keys = [(tuple(i[0].split("\n")), bool(i[2])) for i in indexes if i[1]]
    triggers = [text for (text,) in fetch(session, _TRIGGERS, place)]
    is_view = kind == "VIEW"
    return FoundRelation(
        name=f"{schema}.{name}",
        kind="view" if is_view else "table",
        rows=None if rows is None or is_view else int(rows),
        columns=tuple(_column(column, triggers) for column in columns),
        key=keys[0][0] if keys else (),
        indexed=tuple(dict.fromkeys(i[0].split("\n")[0] for i in indexes)),
        # What is said of a view is "VIEW".
        comment="" if is_view else str(comment or ""),
        place=(schema, name),
        is_primary=bool(keys) and keys[0][1],
        unique=tuple(key for key, _ in keys[1:]),
        references=tuple(
            ForeignKey(tuple(own.split("\n")), (there, table), tuple(other.split("\n")))
            for own, there, table, other in fetch(session, _REFERENCES, place)
        ),
        size_bytes=None if size is None or is_view else int(size),
    )


def _column(row: tuple[Any, ...], triggers: Sequence[str]) -> FoundColumn:
    name, kind, whole, precision, scale, nullable, comment, extra, default = row
    extra = extra.lower()
    assigned = re.compile(rf"(?i)\bnew\.`?{re.escape(name)}`?\s*:?=")
    filled: Filled = ""
    if "auto_increment" in extra:
        filled = "sequence"
    elif "on update" in extra or any(map(assigned.search, triggers)):
        filled = "update"
    elif "current_timestamp" in str(default).lower():
        filled = "insert"
    return FoundColumn(
        name,
        _declared(kind, whole, precision, scale),
        whole,
        nullable == "YES",
        comment or "",
        filled,
    )


_NAMES = {
    "tinyint": "int",
    "smallint": "int",
    "mediumint": "int",
    "int": "int",
    "year": "int",
    "bigint": "bigint",
    "float": "double",
    "double": "double",
    "date": "date",
    "datetime": "timestamp",
    "timestamp": "timestamptz",
}


def _declared(name: str, whole: str, precision: int | None, scale: int | None) -> str:
    """The type of a column of a table."""
    if name == "decimal":
        return _decimal(precision or 0, scale or 0)
    if name == "bit":
        return _bits(precision or 1)
    if name == "tinyint" and whole.startswith("tinyint(1)") and "unsigned" not in whole:
        return TINYINT
    if name in {"int", "bigint"} and "unsigned" in whole:
        return "bigint" if name == "int" else BIGINT_UNSIGNED
    return _NAMES.get(name, "string")


_RELATIONS = """
    select t.table_schema, t.table_name, t.table_type, t.table_rows, t.data_length,
        t.table_comment
    from information_schema.tables as t
    where t.table_type in ('BASE TABLE', 'VIEW', 'SYSTEM VERSIONED')
        and t.table_schema not in ('mysql', 'information_schema', 'performance_schema', 'sys')
        and (%(schema)s is null or t.table_schema = %(schema)s)
    order by 1, 2
"""
_COLUMNS = """
    select c.column_name, c.data_type, c.column_type, c.numeric_precision, c.numeric_scale,
        c.is_nullable, c.column_comment, c.extra, c.column_default
    from information_schema.columns as c
    where c.table_schema = %(schema)s and c.table_name = %(name)s
        and find_in_set('select', replace(c.privileges, ' ', ''))
    order by c.ordinal_position
"""
# The primary key first, then unique indexes of columns that are never NULL, then others. No name
# has a line break.
_INDEXES = """
    select group_concat(s.column_name order by s.seq_in_index separator '\\n'),
        max(s.non_unique) = 0 and sum(s.nullable = 'YES') = 0, s.index_name = 'PRIMARY'
    from information_schema.statistics as s
    where s.table_schema = %(schema)s and s.table_name = %(name)s
    group by s.index_name
    having count(s.column_name) = count(*) and count(s.sub_part) = 0
    order by s.index_name = 'PRIMARY' desc, 2 desc, count(*), s.index_name
"""
# Those on which the user has a privilege; of the URL's database also without its name.
RELATION_NAMES = """
    select concat(t.table_schema, '.', t.table_name)
    from information_schema.tables as t
    where t.table_schema not in ('mysql', 'information_schema', 'performance_schema', 'sys')
    union
    select t.table_name
    from information_schema.tables as t
    where t.table_schema = database()
    order by 1
"""
_REFERENCES = """
    select
        group_concat(k.column_name order by k.ordinal_position separator '\\n'),
        k.referenced_table_schema, k.referenced_table_name,
        group_concat(k.referenced_column_name order by k.ordinal_position separator '\\n')
    from information_schema.key_column_usage as k
    where k.table_schema = %(schema)s and k.table_name = %(name)s
        and k.referenced_table_name is not null
    group by k.constraint_name, k.referenced_table_schema, k.referenced_table_name
    order by k.constraint_name
"""
# Whoever lacks the privilege TRIGGER sees none.
_TRIGGERS = """
    select t.action_statement from information_schema.triggers as t
    where t.event_object_schema = %(schema)s and t.event_object_table = %(name)s
        and t.event_manipulation = 'UPDATE' and t.action_timing = 'BEFORE'
"""
