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
    """The changes of one published load.

    Attributes:
        table: namespace.name.
        rows_inserted: Includes the rows of attached months.
        rows_updated: Of a replaced day: the smaller of rows deleted and rows inserted.
        rows_deleted: Rows deleted without a replacement.
        seconds: Duration of the transaction, the same for all of its loads.
        rows_referenced: Rows missing from the load that stay because a foreign key refers to them.
        rows_restated: Rows whose attributes changed under an unchanged key.
        changed_days: Rows written, by day.
    """

    table: str
    rows_inserted: int
    rows_updated: int
    rows_deleted: int
    seconds: float
    rows_referenced: int = 0
    rows_restated: int = 0
    changed_days: Mapping[date, int] = field(default_factory=dict)

    def metadata(self) -> dict[str, str | int | float]:
        """Metadata for Dagster."""
        return {
            "table": self.table,
            "rows_inserted": self.rows_inserted,
            "rows_updated": self.rows_updated,
            "rows_deleted": self.rows_deleted,
            "publish_seconds": round(self.seconds, 3),
            **({"rows_referenced": self.rows_referenced} if self.rows_referenced else {}),
        }


# Called in the transaction, with the changes of each load.
BeforeCommit = Callable[[Session, Sequence[LoadResult]], None]


def publish(
    connect: Connect,
    loads: Sequence[StagedLoad],
    *,
    before_commit: BeforeCommit | None = None,
) -> tuple[LoadResult, ...]:
    """Publish `loads` in one transaction, and drop their staging tables in any case.

    Args:
        connect: Opens sessions with the warehouse.
        loads: Staged loads of different tables.
        before_commit: Called with the session after the last change, and with the changes: its
            writes are committed with the loads, and an exception rolls back both.

    Raises:
        CommitConflictError: Another transaction held a lock for too long; nothing changed.
        IncompatibleSchemaError: The table changed since the load was staged.
        WarehouseUnavailableError: The connection was lost.
    """
    if not loads:
        return ()
    began = time.monotonic()
    names = ", ".join(load.table.label for load in loads)
    try:
        with map_errors(f"publishing {names}"):
            changes = _apply(connect, loads, before_commit)
            seconds = time.monotonic() - began
            for change in changes:
                change.analyze()
        for load in loads:
            load.owner.close()
    finally:
        for load in loads:
            load.discard()
    return tuple(_load_result(change, seconds) for change in changes)


def _apply(
    connect: Connect, loads: Sequence[StagedLoad], before_commit: BeforeCommit | None
) -> list[TableChange]:
    """Publish in one transaction; where a query blocks new months, with empty months first."""
    # Each attempt may be blocked at another table.
    for _ in loads:
        try:
            return _in_one_transaction(loads, before_commit)
        except AttachBlockedError as blocked:
            # Queries that are planned from now on include the months, which stay empty until the
            # load commits. Created outside the load's transaction, which would hold their locks.
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
        # Members are deleted after the facts that refer to them.
        for change in changes:
            change.delete_absent()
        for change in changes:
            change.add_months()
        restore(session, [change.dependents for change in changes if change.dependents])
        if before_commit:
            before_commit(session, [_load_result(change, 0.0) for change in changes])
        drop_with_publication(session, [name for load in loads for name in load.table_names])
    return changes


def _load_result(change: TableChange, seconds: float) -> LoadResult:
    rows = change.rows
    return LoadResult(
        table=change.label,
        rows_inserted=rows["inserted"],
        rows_updated=rows["updated"],
        rows_deleted=rows["deleted"],
        seconds=seconds,
        rows_referenced=rows["referenced"],
        rows_restated=rows["restated"],
        changed_days=MappingProxyType(dict(change.changed_days)),
    )


def _lock_tables(session: Session, tables: Iterable[WarehouseTable]) -> None:
    """Serialize publications by table; locks are taken in one order, to rule out deadlocks."""
    for label in sorted({table.label for table in tables}):
        session.execute("select pg_advisory_xact_lock(%s)", (advisory_key("table", label),))


@dataclass
class LoadGroup:
    """Tables whose loads are published in one transaction, with the last of them.

    Dagster passes outputs to an IO manager one by one; readers must not see the first without the
    last.

    Attributes:
        connect: Opens sessions with the warehouse.
        members: Names of the tables.
        loads: Staged loads by table; a member without a load is unchanged.
        published: The changes by table, after the publication.
    """

    connect: Connect
    members: Collection[str]
    loads: Mapping[str, StagedLoad]
    published: dict[str, LoadResult] = field(default_factory=dict)
    _arrived: set[str] = field(default_factory=set)

    def member(self, name: str) -> "GroupMember":
        """The output value of one table."""
        return GroupMember(self, name)

    def arrive(self, name: str) -> bool:
        """Record that the IO manager received `name`; True with the last member."""
        self._arrived.add(name)
        return self._arrived >= {*self.members}

    def publish(
        self, before_commit: Callable[[Session, Mapping[str, LoadResult]], None]
    ) -> dict[str, LoadResult]:
        """Publish all loads in one transaction.

        Args:
            before_commit: Called in the transaction, with the changes by table.
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
    """The output value of one table of a group."""

    group: LoadGroup
    name: str

    def arrive(self) -> bool:
        """Record that the IO manager received this table; True with the last of the group."""
        return self.group.arrive(self.name)
