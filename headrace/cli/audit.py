"""`headrace audit star`: compare the published star with a rebuild of it."""

from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING

from headrace.cli.output import print_json, print_table, progress_bars, say, warn
from headrace.config.loader import load_project
from headrace.engine.session import SessionSettings, connect
from headrace.project.connections import engine_settings, lake_of, ledger_of, postgres_url
from headrace.warehouse.reading import read
from headrace.warehouse.sessions import connection_factory

if TYPE_CHECKING:
    import pyarrow as pa

    from headrace.operations.star_audit import TableAudit


def audit_star(*, quiet: bool) -> "list[TableAudit]":
    """Rebuild the star in temporary tables and compare each published table with it.

    Args:
        quiet: Show no progress bars.
    """
    from headrace.operations.star_audit import StarAudit  # imports PySpark
    from headrace.star.facts import DATE_KEY

    project = load_project()
    warehouse = connection_factory(postgres_url(project, "warehouse"))
    lake = lake_of(project)

    def rows(name: str, days: Collection[date] | None) -> "pa.RecordBatchReader":
        # Facts that are not partitioned by month are filtered by this column too.
        return read(warehouse, "warehouse", name, days=days, day_column=DATE_KEY if days else None)

    declared = SessionSettings(remote=project.settings.engine.remote)
    audit = StarAudit(
        spark=connect(engine_settings(project, declared)),
        project=project,
        lake_table=lake.table,
        warehouse_rows=rows,
        ledger=ledger_of(project),
    )
    with nullcontext() if quiet else progress_bars():
        return audit.run()


def print_audit(tables: "Sequence[TableAudit]", *, as_json: bool) -> None:
    """Print one line a table, then the first differences of each table that differs."""
    if as_json:
        print_json([{"equal": _is_equal(table), **asdict(table)} for table in tables])
        return
    rows = [
        (
            table.table,
            {True: "equal", False: "differs", None: "never published"}[_is_equal(table)],
            table.rows,
            table.missing,
            table.unexpected,
            len(table.days_behind),
        )
        for table in tables
    ]
    print_table(("table", "is", "rows", "missing", "unexpected", "days behind"), rows)
    for table in tables:
        for example in table.examples:
            say(table.table, "red", f" {example}")
    if any(table.days_behind for table in tables):
        say(
            "days behind: their processed rows were published again, and the star is not built "
            "from them yet; headrace backfill --stale builds it"
        )
    if lacking := [table.table for table in tables if not table.is_published]:
        warn(f"never published, so not compared: {', '.join(lacking)}; headrace backfill builds it")


def _is_equal(table: "TableAudit") -> bool | None:
    return table.is_equal if table.is_published else None
