"""Views with keys of outriggers, and row-level security from `row_access`, for the warehouse."""

from psycopg import sql

from headrace.config.loader import Project
from headrace.config.star.models import DimensionConfig, RowAccess
from headrace.config.star.outriggers import Outrigger, outrigger_key
from headrace.pipeline.warehouse import NAMESPACE, dimension_table, foreign_keys
from headrace.star.scd2.dimensions import UNKNOWN_KEY
from headrace.warehouse.ddl.comments import ColumnComments
from headrace.warehouse.ddl.grants import RoleAccess, RowPolicy
from headrace.warehouse.ddl.views import NAMESPACE as VIEWS
from headrace.warehouse.ddl.views import ViewDeclaration


def outrigger_views(project: Project) -> tuple[ViewDeclaration, ...]:
    """One view for each dimension with outriggers: its columns, then a key of each outrigger."""
    return tuple(_view(project, dim) for dim in project.star.dimensions if dim.outriggers)


def outrigger_comments(project: Project) -> tuple[ColumnComments, ...]:
    """Column comments of the outrigger keys."""
    return tuple(
        ColumnComments(
            VIEWS,
            dim.name,
            {
                outrigger_key(o, project.star.dimension(o.dimension)): _key_comment(project, o)
                for o in dim.outriggers
            },
        )
        for dim in project.star.dimensions
        if dim.outriggers
    )


def _view(project: Project, dim: DimensionConfig) -> ViewDeclaration:
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
    return ViewDeclaration(dim.name, f"{dim.description} With keys to {named}.".strip(), query)


def _key(alias: str, outrigger: Outrigger, target: DimensionConfig) -> str:
    found = sql.Identifier(alias, target.key_column)
    if target.has_unknown_member:
        found_or_unknown = sql.SQL("coalesce({}, {})").format(found, sql.Literal(UNKNOWN_KEY))
    else:
        found_or_unknown = sql.SQL("{}").format(found)
    name = sql.Identifier(outrigger_key(outrigger, target))
    return sql.SQL("{} as {}").format(found_or_unknown, name).as_string()


def _join(alias: str, outrigger: Outrigger, target: DimensionConfig) -> str:
    # A source may have a member with the natural key of the unknown member.
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


def _key_comment(project: Project, outrigger: Outrigger) -> str:
    target = project.star.dimension(outrigger.dimension)
    absent = f"; {UNKNOWN_KEY} without one" if target.has_unknown_member else "; null without one"
    return (
        f"Foreign key to {NAMESPACE}.{target.name} ({target.key_column}): "
        f"the current version{absent}."
    )


def role_access(project: Project, role: str) -> RoleAccess | None:
    """The tables and rows that a role may read; None: no rule names it, so it reads everything."""
    rules = tuple(_rule(project, rule) for rule in project.star.row_access if rule.role == role)
    if not rules:
        return None
    dimensions = [*(d.name for d in project.star.dimensions), project.star.calendar.name]
    facts = [
        (NAMESPACE, fact.name)
        for fact in project.star.facts
        if all((NAMESPACE, fact.name) in rule.facts for rule in rules)
    ]
    return RoleAccess(rules, (*((NAMESPACE, name) for name in dimensions), *facts))


def restricted_roles(project: Project) -> dict[str, RoleAccess]:
    """Every role with `row_access` rules."""
    roles = sorted({rule.role for rule in project.star.row_access})
    return {role: limits for role in roles if (limits := role_access(project, role))}


def _rule(project: Project, rule: RowAccess) -> RowPolicy:
    facts = {
        (NAMESPACE, fact.name): columns
        for fact in project.star.facts
        if (
            columns := tuple(
                reference.column
                for reference in foreign_keys(project, fact)
                if reference.table == rule.dimension
            )
        )
    }
    return RowPolicy(
        dimension=(NAMESPACE, rule.dimension),
        key=project.star.dimension(rule.dimension).key_column,
        column=rule.column,
        values=tuple(map(str, rule.values)),
        facts=facts,
    )
