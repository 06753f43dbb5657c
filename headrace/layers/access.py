"""Who reads which rows of the star: from `row_access` to what Postgres is told.

Belongs here: which tables a rule reaches.
Elsewhere: the rules (headrace.config.access), roles and policies (headrace.warehouse.access).
"""

from headrace.config.access import RowAccess
from headrace.config.loading import Project
from headrace.layers.warehouse import NAMESPACE, foreign_keys
from headrace.warehouse.access import Limits, RowRule


def limits_of(project: Project, role: str) -> Limits | None:
    """What the configuration lets a role see; None: everything."""
    rules = tuple(_rule(project, rule) for rule in project.star.row_access if rule.role == role)
    if not rules:
        return None
    dimensions = [*(d.name for d in project.star.dimensions), project.star.calendar.name]
    facts = [
        (NAMESPACE, fact.name)
        for fact in project.star.facts
        if all((NAMESPACE, fact.name) in rule.facts for rule in rules)
    ]
    return Limits(rules, (*((NAMESPACE, name) for name in dimensions), *facts))


def limited_roles(project: Project) -> dict[str, Limits]:
    """Every role that the configuration limits."""
    roles = sorted({rule.role for rule in project.star.row_access})
    return {role: limits for role in roles if (limits := limits_of(project, role))}


def _rule(project: Project, rule: RowAccess) -> RowRule:
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
    return RowRule(
        dimension=(NAMESPACE, rule.dimension),
        key=project.star.dimension(rule.dimension).key_column,
        column=rule.column,
        values=tuple(map(str, rule.values)),
        facts=facts,
    )
