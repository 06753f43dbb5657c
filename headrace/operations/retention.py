"""Retention of the warehouse: old months go, and the ledger no longer claims them."""

from datetime import date

from headrace.config.loading import Project
from headrace.config.star import FactConfig
from headrace.ledger.ledger import Ledger
from headrace.pipeline.warehouse import NAMESPACE, fact_table
from headrace.warehouse.ddl.retention import drop_months, first_kept_month
from headrace.warehouse.sessions import Connect


def facts_with_an_end(project: Project) -> list[FactConfig]:
    """The facts that are not kept for ever, and that are cut into months."""
    return [
        fact
        for fact in project.star.facts
        if fact.keep_months is not None and fact.load == "partition_replace"
    ]


def drop_old_months(
    project: Project, connect: Connect, today: date | None = None
) -> dict[str, list[date]]:
    """Drop each fact's months that are older than it is kept.

    Args:
        project: Says how long.
        connect: Opens sessions with the warehouse.
        today: UTC; now without it.

    Returns:
        By fact, the months dropped; facts that are kept for ever are missing.
    """
    dropped = {}
    for fact in facts_with_an_end(project):
        kept_from = first_kept_month(fact.keep_months, today)
        dropped[fact.name] = drop_months(connect, fact_table(project, fact), kept_from)
        # Else a mart that is built again would take these days for empty, and lose its rows.
        Ledger(connect).forget(f"{NAMESPACE}/{fact.name}", kept_from)
    return dropped
