"""Outriggers in the warehouse: a view of each dimension that names others, with their keys.

Belongs here: the views' queries and what their columns mean.
Elsewhere: declaring outriggers (headrace.config.outriggers), making views
(headrace.warehouse.views).

A key that is found when it is read cannot be out of date: the view depends on the two dimensions as
they are, and they depend on no order of runs.
"""

from psycopg import sql

from headrace.config.loading import Project
from headrace.config.outriggers import Outrigger, outrigger_key
from headrace.config.star import DimensionConfig
from headrace.layers.warehouse import NAMESPACE, dimension_table
from headrace.star.dimensions import UNKNOWN_KEY
from headrace.warehouse.comments import Described
from headrace.warehouse.views import NAMESPACE as VIEWS
from headrace.warehouse.views import ViewFile


def outrigger_views(project: Project) -> tuple[ViewFile, ...]:
    """One view for each dimension that names others: its columns, then a key to each of them."""
    return tuple(_view(project, dim) for dim in project.star.dimensions if dim.outriggers)


def described(project: Project) -> tuple[Described, ...]:
    """What the keys of those views mean."""
    return tuple(
        Described(
            VIEWS,
            dim.name,
            {
                outrigger_key(o, project.star.dimension(o.dimension)): _meaning(project, o)
                for o in dim.outriggers
            },
        )
        for dim in project.star.dimensions
        if dim.outriggers
    )


def _view(project: Project, dim: DimensionConfig) -> ViewFile:
    names = dimension_table(project, dim).schema.names
    columns = [sql.Identifier("d", name).as_string() for name in names]
    joins = []
    for number, outrigger in enumerate(dim.outriggers, 1):
        target = project.star.dimension(outrigger.dimension)
        columns.append(_key(f"o{number}", outrigger, target))
        joins.append(_join(f"o{number}", outrigger, target))
    table = sql.Identifier(NAMESPACE, dim.name).as_string()
    query = "\n".join([f"select {', '.join(columns)}", f"from {table} as d", *joins])
    named = ", ".join(outrigger.dimension for outrigger in dim.outriggers)
    return ViewFile(dim.name, f"{dim.description} With keys to {named}.".strip(), query)


def _key(alias: str, outrigger: Outrigger, target: DimensionConfig) -> str:
    found = sql.Identifier(alias, target.key_column)
    if target.has_unknown_member:
        found_or_unknown = sql.SQL("coalesce({}, {})").format(found, sql.Literal(UNKNOWN_KEY))
    else:
        found_or_unknown = sql.SQL("{}").format(found)
    name = sql.Identifier(outrigger_key(outrigger, target))
    return sql.SQL("{} as {}").format(found_or_unknown, name).as_string()


def _join(alias: str, outrigger: Outrigger, target: DimensionConfig) -> str:
    # The unknown member has a natural key too, which a source may use for a member of its own.
    conditions = [
        sql.SQL("{}").format(sql.Identifier(alias, "is_current")),
        sql.SQL("{} <> {}").format(
            sql.Identifier(alias, target.key_column), sql.Literal(UNKNOWN_KEY)
        ),
        *(
            sql.SQL("{} = {}").format(sql.Identifier(alias, theirs), sql.Identifier("d", ours))
            for theirs, ours in outrigger.natural_key.items()
        ),
    ]
    join = sql.SQL("left join {} as {} on {}").format(
        sql.Identifier(NAMESPACE, target.name),
        sql.Identifier(alias),
        sql.SQL(" and ").join(conditions),
    )
    return join.as_string()


def _meaning(project: Project, outrigger: Outrigger) -> str:
    target = project.star.dimension(outrigger.dimension)
    absent = f"; {UNKNOWN_KEY} without one" if target.has_unknown_member else "; null without one"
    return (
        f"Foreign key to {NAMESPACE}.{target.name} ({target.key_column}): "
        f"the current version{absent}."
    )
