"""dbt models of a star: a staging model for each table, sources with tests, and daily marts."""

from collections.abc import Iterator, Mapping, Sequence

from headrace.assess.source_yaml import flow
from headrace.config.loader import Project
from headrace.config.star.models import FactConfig
from headrace.schema import TableSchema, decimal_parts
from headrace.star.calendar import calendar_schema
from headrace.star.facts import DATE_KEY, fact_schema
from headrace.star.scd2.dimensions import dimension_schema

_SOURCES, _MARTS = "staging/_warehouse__sources.yml", "marts/_daily_marts.yml"
_MOST_DIGITS, _MORE_DIGITS = 38, 6
# PostgreSQL reads these as a column's name only between quotes.
_RESERVED = (
    " all analyse analyze and any array as asc asymmetric authorization binary both case cast check"
    " collate collation column concurrently constraint create cross current_catalog current_date"
    " current_role current_schema current_time current_timestamp current_user default deferrable"
    " desc distinct do else end except false fetch for foreign freeze from full grant group having"
    " ilike in initially inner intersect into is isnull join lateral leading left like limit"
    " localtime localtimestamp natural not notnull null offset on only or order outer overlaps"
    " placing primary references returning right select session_user similar some symmetric"
    " system_user table tablesample then to trailing true union unique user using variadic verbose"
    " when where window with "
)


def mart_models(project: Project) -> dict[str, str]:
    """By path below the dbt project's `models`, the text of each file."""
    star, entities = project.star, project.entities()
    dimensions = {dimension.name: dimension for dimension in star.dimensions}
    tables: dict[str, TableSchema] = {star.calendar.name: calendar_schema(star.calendar)}
    keys = {star.calendar.name: star.calendar.key_column}
    descriptions = {star.calendar.name: star.calendar.description}
    for dimension in star.dimensions:
        schema = dimension_schema(dimension, project.dimension_entity(dimension))
        tables[dimension.name], keys[dimension.name] = schema, dimension.key_column
        descriptions[dimension.name] = dimension.description or "One version of one member."
    for fact in star.facts:
        tables[fact.name] = fact_schema(fact, entities[fact.entity][1], dimensions)
        descriptions[fact.name] = fact.description or "One row of the fact."
    facts = [fact for fact in star.facts if not fact.is_snapshot]
    found = {f"staging/{_staged(name)}.sql": _staging(name, tables[name]) for name in tables}
    found[_SOURCES] = "\n".join(_sources(tables, keys, descriptions)) + "\n"
    for fact in facts:
        found[f"marts/{_mart(fact)}.sql"] = _daily(fact, tables[fact.name])
    if facts:
        found[_MARTS] = "\n".join(_marts(facts, tables)) + "\n"
    return found


def _staged(table: str) -> str:
    return f"stg_warehouse__{table.removeprefix('dim_').removeprefix('fact_')}"


def _mart(fact: FactConfig) -> str:
    return f"mart_daily_{fact.name.removeprefix('fact_')}"


def _quoted(name: str) -> str:
    return f'"{name}"' if f" {name} " in _RESERVED else name


def _staging(table: str, schema: TableSchema) -> str:
    columns = ",\n".join(f"    {_quoted(name)}" for name in schema.names)
    return f"select\n{columns}\nfrom {{{{ source('warehouse', '{table}') }}}}\n"


def _sources(
    tables: Mapping[str, TableSchema], keys: Mapping[str, str], descriptions: Mapping[str, str]
) -> Iterator[str]:
    yield from ("version: 2", "sources:", "  - name: warehouse", "    schema: warehouse")
    yield "    tables:"
    for table, schema in tables.items():
        yield f"      - name: {table}"
        yield f"        description: {flow(descriptions[table])}"
        yield "        columns:"
        for column in schema.columns:
            options: dict[str, object] = {"name": column.name}
            if column.description:
                options["description"] = column.description
            if column.name == keys.get(table):
                options["data_tests"] = [{"is_key": {"name": f"{table}_key"}}]
            yield f"          - {flow(options)}"


def _daily(fact: FactConfig, schema: TableSchema) -> str:
    measures = "".join(
        f",\n    sum({_quoted(name)})::{_sum_type(schema, name)} as {_quoted(name)}"
        for name in fact.measures
    )
    return (
        "{{ config(meta={'window': {'column': 'date'}}) }}\n\n"
        "select\n"
        f"    to_date({DATE_KEY}::text, 'YYYYMMDD') as date,\n"
        f"    count(*) as {_count(fact)}{measures}\n"
        f"from {{{{ ref('{_staged(fact.name)}') }}}}\n"
        f"where {{{{ in_build('{DATE_KEY}', is_key=true) }}}}\n"
        f"group by {DATE_KEY}\n"
    )


def _marts(facts: Sequence[FactConfig], tables: Mapping[str, TableSchema]) -> Iterator[str]:
    yield from ("version: 2", "models:")
    for fact in facts:
        schema, what = tables[fact.name], fact.name
        columns: list[dict[str, object]] = [
            {"name": "date", "description": "The day.", "data_type": "date"},
            {"name": _count(fact), "description": f"Rows of {what}.", "data_type": "bigint"},
        ]
        columns += [
            {"name": name, "description": f"Sum of {name}.", "data_type": _sum_type(schema, name)}
            for name in fact.measures
        ]
        yield f"  - name: {_mart(fact)}"
        yield f"    description: {flow(f'Measures of {what} by day. A day without rows has none.')}"
        yield "    columns:"
        yield from (f"      - {flow(column)}" for column in columns)
        yield "    data_tests:"
        yield f"      - is_key: {flow({'arguments': {'columns': ['date']}})}"


def _count(fact: FactConfig) -> str:
    return "row_count" if "row_count" not in fact.measures else "rows_of_fact"


def _sum_type(schema: TableSchema, name: str) -> str:
    """PostgreSQL's type of a sum; wide enough for a million rows of the largest value."""
    kind = schema.column(name).type
    if parts := decimal_parts(kind):
        return f"numeric({min(parts[0] + _MORE_DIGITS, _MOST_DIGITS)},{parts[1]})"
    return "bigint" if kind in ("int", "bigint") else "double precision"
