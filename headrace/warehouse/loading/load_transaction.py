"""The transaction that publishes staged loads together."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType

from headrace.warehouse.ddl import partitions
from headrace.warehouse.ddl.dependent_views import restore
from headrace.warehouse.loading.staged_loads import StagedLoad, drop_with_publication
from headrace.warehouse.loading.table_change import AttachBlockedError, TableChange
from headrace.warehouse.sessions import Connect, Session, advisory_key, map_errors
from headrace.warehouse.tables import WarehouseTable


@dataclass(frozen=True)
class LoadResult:
    """What one load changed.

    Attributes:
        table: namespace.name.
        rows_inserted: Rows of attached months included.
        rows_updated: Of a replaced day, as many as were both deleted and inserted.
        rows_deleted: Rows that nothing took the place of.
        seconds: The transaction's time, the same for all loads published in it.
        rows_kept: Rows that should have gone, but that others still point to.
        rows_restated: Rows whose attributes changed under a key that stayed.
        changed_days: Days of which rows were written, and how many.
    """

    table: str
    rows_inserted: int
    rows_updated: int
    rows_deleted: int
    seconds: float
    rows_kept: int = 0
    rows_restated: int = 0
    changed_days: Mapping[date, int] = field(default_factory=dict)

    def metadata(self) -> dict[str, str | int | float]:
        """As an orchestrator shows it."""
        return {
            "table": self.table,
            "rows_inserted": self.rows_inserted,
            "rows_updated": self.rows_updated,
            "rows_deleted": self.rows_deleted,
            "publish_seconds": round(self.seconds, 3),
            **({"rows_kept": self.rows_kept} if self.rows_kept else {}),
        }


# Called within the transaction, with what the loads changed.
BeforeCommit = Callable[[Session, Sequence[LoadResult]], None]


def publish(
    connect: Connect,
    loads: Sequence[StagedLoad],
    *,
    before_commit: BeforeCommit | None = None,
) -> tuple[LoadResult, ...]:
    """Make `loads` visible, all of them or none.

    The staging tables are gone afterwards, whatever happens.

    Args:
        connect: Opens sessions with the warehouse.
        loads: Of different tables, staged there.
        before_commit: Called with the session once everything is in place, and with what changed:
            what it writes is committed with the loads, and what it raises undoes them.

    Raises:
        CommitConflictError: Another transaction kept a lock for too long; nothing changed.
        IncompatibleSchemaError: The table changed since it was staged.
        WarehouseUnavailableError: The connection was lost.
    """
    if not loads:
        return ()
    began = time.monotonic()
    names = ", ".join(load.table.label for load in loads)
    try:
        with map_errors(f"publishing {names}"):
            changes = _with_months(connect, loads, before_commit)
            seconds = time.monotonic() - began
            for change in changes:
                change.analyze()
        for load in loads:
            load.owner.close()
    finally:
        for load in loads:
            load.discard()
    return tuple(_publication(change, seconds) for change in changes)


def _with_months(
    connect: Connect, loads: Sequence[StagedLoad], before_commit: BeforeCommit | None
) -> list[TableChange]:
    for _ in loads:
        try:
            return _in_one_transaction(loads, before_commit)
        except AttachBlockedError as blocked:
            # Visible before their rows are: queries planned from now on will find the months.
            # Outside of the transaction, whose locks this would wait for.
            with connect() as session:
                partitions.create_months(session, blocked.table, blocked.months)
    return _in_one_transaction(loads, before_commit)


def _in_one_transaction(
    loads: Sequence[StagedLoad], before_commit: BeforeCommit | None
) -> list[TableChange]:
    session = loads[0].owner
    changes = [TableChange(session, load) for load in loads]
    with session.transaction():
        _lock_tables(session, [load.table for load in loads])
        for change in changes:
            change.change_rows()
        # Members go once no fact points to them any more.
        for change in changes:
            change.delete_absent()
        for change in changes:
            change.add_months()
        restore(session, [change.surroundings for change in changes if change.surroundings])
        if before_commit:
            before_commit(session, [_publication(change, 0.0) for change in changes])
        drop_with_publication(session, [name for load in loads for name in load.table_names])
    return changes


def _publication(change: TableChange, seconds: float) -> LoadResult:
    rows = change.rows
    return LoadResult(
        table=change.label,
        rows_inserted=rows["inserted"],
        rows_updated=rows["updated"],
        rows_deleted=rows["deleted"],
        seconds=seconds,
        rows_kept=rows["kept"],
        rows_restated=rows["restated"],
        changed_days=MappingProxyType(dict(change.changed_days)),
    )


def _lock_tables(session: Session, tables: Iterable[WarehouseTable]) -> None:
    """Let one publication at a time change a table; in one order, so that none waits in a ring."""
    for label in sorted({table.label for table in tables}):
        session.execute("select pg_advisory_xact_lock(%s)", (advisory_key("table", label),))


@dataclass
class LoadGroup:
    """Tables whose loads are published in one transaction, when the last is handed over.

    An orchestrator hands its outputs to an IO manager one by one; readers must not see the first
    without the last.

    Attributes:
        connect: Opens sessions with the warehouse.
        members: Names of the tables that will be handed over.
        loads: What is staged; a member without a load is unchanged.
        published: What was published, once it is.
    """

    connect: Connect
    members: Collection[str]
    loads: Mapping[str, StagedLoad]
    published: dict[str, LoadResult] = field(default_factory=dict)
    _arrived: set[str] = field(default_factory=set)

    def member(self, name: str) -> "GroupMember":
        """The handle of one table."""
        return GroupMember(self, name)

    def arrive(self, name: str) -> bool:
        """Note that `name` was handed over; True once all members were."""
        self._arrived.add(name)
        return self._arrived >= {*self.members}

    def publish(
        self, before_commit: Callable[[Session, Mapping[str, LoadResult]], None]
    ) -> dict[str, LoadResult]:
        """Make all loads visible, or none.

        Args:
            before_commit: Called in the same transaction, with what changed by table.
        """
        names = list(self.loads)
        if not names:
            with self.connect() as session, session.transaction():
                before_commit(session, {})
            return {}
        done = publish(
            self.connect,
            list(self.loads.values()),
            before_commit=lambda session, changes: before_commit(
                session, dict(zip(names, changes, strict=True))
            ),
        )
        self.published.update(zip(names, done, strict=True))
        return dict(self.published)


@dataclass(frozen=True)
class GroupMember:
    """One table of a group, on its way to the IO manager."""

    group: LoadGroup
    name: str

    def arrive(self) -> bool:
        """Note that this table was handed over; True once all of its group were."""
        return self.group.arrive(self.name)
