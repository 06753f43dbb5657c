"""`headrace audit star`: is what is published what the published rows give?"""

from collections.abc import Collection
from contextlib import nullcontext
from datetime import date
from typing import TYPE_CHECKING

from headrace.cli.runner import bars
from headrace.config.loading import load_project
from headrace.engine.session import SessionSettings, connect
from headrace.project.connections import engine_settings, lake_of, ledger_of, postgres_url
from headrace.warehouse.reading import read
from headrace.warehouse.sessions import connection_factory

if TYPE_CHECKING:
    import pyarrow as pa

    from headrace.operations.star_audit import TableAudit


def audit_star(*, quiet: bool) -> "list[TableAudit]":
    """Rebuild the star into scratch and compare every table of it.

    Args:
        quiet: Without progress bars.
    """
    from headrace.operations.star_audit import StarAudit  # imports PySpark
    from headrace.star.facts import DATE_KEY

    project = load_project()
    warehouse = connection_factory(postgres_url(project, "warehouse"))
    lake = lake_of(project)

    def rows(name: str, days: Collection[date] | None) -> "pa.RecordBatchReader":
        # A fact that is not cut into months has its days by this column all the same.
        return read(warehouse, "warehouse", name, days=days, day_column=DATE_KEY if days else None)

    declared = SessionSettings(remote=project.settings.engine.remote)
    audit = StarAudit(
        spark=connect(engine_settings(project, declared)),
        project=project,
        lake_table=lake.table,
        warehouse_rows=rows,
        ledger=ledger_of(project),
    )
    with nullcontext() if quiet else bars():
        return audit.run()
