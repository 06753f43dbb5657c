"""Retention of the warehouse: drops old months of facts and their ledger entries."""

from datetime import date

from headrace.config.loader import Project
from headrace.config.star.models import FactConfig
from headrace.ledger.ledger import Ledger
from headrace.pipeline.warehouse import NAMESPACE, fact_table
from headrace.warehouse.ddl.partitions import drop_months, first_retained_month
from headrace.warehouse.sessions import Connect


def facts_with_retention(project: Project) -> list[FactConfig]:
    """The facts with `keep_months` whose tables are partitioned by month."""
    return [
        fact
        for fact in project.star.facts
        if fact.keep_months is not None and fact.load == "partition_replace"
    ]


def drop_old_months(
    project: Project, connect: Connect, today: date | None = None
) -> dict[str, list[date]]:
    """Drop each fact's months that are older than its `keep_months`.

    Args:
        project: The configuration.
        connect: Opens sessions with the warehouse.
        today: UTC; None: the current date.

    Returns:
        By fact, the months dropped; facts without retention are missing.
    """
    dropped = {}
    for fact in facts_with_retention(project):
        retained_from = first_retained_month(fact.keep_months, today)
        dropped[fact.name] = drop_months(connect, fact_table(project, fact), retained_from)
        # Otherwise a rebuilt mart would read these days as empty and lose its rows.
        Ledger(connect).delete_before(f"{NAMESPACE}/{fact.name}", retained_from)
    return dropped
