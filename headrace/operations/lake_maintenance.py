"""Daily maintenance: expires snapshots, removes orphan files, deletes old ledger attempts."""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from headrace.config.loader import Project
from headrace.lake.catalog import LakeCatalog
from headrace.lake.maintenance import expire_snapshots, remove_orphans
from headrace.lake.table import LakeTable
from headrace.ledger.ledger import Ledger
from headrace.pipeline.watermarks import snapshots_read
from headrace.project.connections import lake_of, ledger_of, postgres_url
from headrace.warehouse.sessions import connection_factory, map_errors

# A run that has been "in progress" for longer is treated as dead.
_LONGEST_RUN = timedelta(days=7)
_FILES_A_TABLE = 20_000


@dataclass(frozen=True)
class MaintainedTable:
    """Result of the maintenance of one table; `seconds` is its duration."""

    table: str
    snapshots_expired: int
    files_deleted: int
    bytes_deleted: int
    seconds: float


def maintain(project: Project, *, now: datetime | None = None) -> list[MaintainedTable]:
    """Maintain the project's lake for at most `maintenance.max_minutes`.

    The ledger's attempts older than `maintenance.keep_attempts_days` are deleted.

    These snapshots stay: the current one of each table; those that were current within
    `maintenance.keep_hours` or since the start of the oldest running run; those that are the
    watermark of another table of lake or warehouse, however old; and the last one of each table
    that the ledger names.

    Raises:
        WarehouseUnavailableError: Postgres does not answer.
        CatalogUnavailableError: The lake's catalog does not answer.
    """
    settings, now = project.settings.maintenance, now or datetime.now(UTC)
    older_than = min([now - timedelta(hours=settings.keep_hours), *_running_since(project, now)])
    lake, ledger = lake_of(project), ledger_of(project)
    ledger.delete_attempts_before(now - timedelta(days=settings.keep_attempts_days))
    try:
        # Start with another table each night: max_minutes may not suffice for all tables.
        turn = now.toordinal()
        return maintain_lake(
            lake,
            older_than,
            needed=needed_snapshots(lake, ledger),
            turn=turn,
            until=time.monotonic() + settings.max_minutes * 60,
        )
    finally:
        lake.close()


def maintain_lake(
    lake: LakeCatalog,
    older_than: datetime,
    *,
    needed: Mapping[str, Collection[int]],
    turn: int = 0,
    until: float = float("inf"),
    clock: Callable[[], float] = time.monotonic,
) -> list[MaintainedTable]:
    """Maintain one table after the other.

    Args:
        lake: The tables.
        older_than: Snapshots that were replaced, and files that were modified, later stay.
        needed: By table, snapshots that stay regardless of age.
        turn: Rotates the order of tables.
        until: Time on `clock` after which no further table is started.
        clock: Monotonic seconds.
    """
    tables = lake.tables()
    first = turn % len(tables) if tables else 0
    done = []
    for namespace, name in (*tables[first:], *tables[:first]):
        if clock() >= until:
            break
        table = lake.table(namespace, name)
        began = time.monotonic()
        expired = expire_snapshots(table, older_than, needed=needed.get(table.name, ()))
        deleted = remove_orphans(table, older_than, limit=_FILES_A_TABLE)
        size = sum(file.size_bytes for file in deleted)
        seconds = round(time.monotonic() - began, 3)
        done.append(MaintainedTable(table.name, expired, len(deleted), size, seconds))
    return done


def needed_snapshots(lake: LakeCatalog, ledger: Ledger) -> dict[str, set[int]]:
    """By table, the snapshots that are watermarks of others, and the last that the ledger names."""
    needed: dict[str, set[int]] = defaultdict(set)
    for namespace, name in lake.tables():
        table = lake.table(namespace, name)
        for upstream, snapshot in snapshots_read(table.snapshot_properties()).items():
            needed[upstream].add(snapshot)
        if namespace == "curated":
            loaded = ledger.watermarks.loaded_snapshot(f"warehouse/{name}")
            needed[table.name] |= set() if loaded is None else {loaded}
        needed[table.name] |= _last_recorded(ledger, table, f"{namespace}/{name}")
    return dict(needed)


def _last_recorded(ledger: Ledger, table: LakeTable, asset: str) -> set[int]:
    """The newest snapshot that the ledger names, if there is one.

    Reconciliation after a crash starts from it.
    """
    newest_first = table.snapshot_ids()
    recorded = ledger.recorded_snapshots(asset, newest_first)
    newest = next((snapshot for snapshot in newest_first if snapshot in recorded), None)
    return set() if newest is None else {newest}


def _running_since(project: Project, now: datetime) -> list[datetime]:
    """Start of the oldest running run, from Dagster's own table; empty if no run is running."""
    connect = connection_factory(postgres_url(project, "dagster"))
    with map_errors("looking for running runs"), connect() as session:
        try:
            row = session.execute(
                "select to_timestamp(min(start_time)) from runs"
                " where status in ('STARTING', 'STARTED', 'CANCELING')"
                " and to_timestamp(start_time) > %s",
                (now - _LONGEST_RUN,),
            ).fetchone()
        except psycopg.errors.UndefinedTable:
            return []  # Dagster never ran on this database.
    return [row[0]] if row and row[0] else []
