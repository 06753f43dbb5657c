"""Recording of the star's publication, in the transaction that makes it visible."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import dagster as dg
import structlog

from headrace.errors import CommitConflictError
from headrace.grain import Grain
from headrace.ledger.build_plan import BuildPlan
from headrace.ledger.records import PartitionRecord
from headrace.quality.report import PartitionReport, passed_days
from headrace.staged import new_token
from headrace.star.facts import DATE_KEY
from headrace.warehouse.ddl import comments, grants, views
from headrace.warehouse.ddl.comments import ColumnComments
from headrace.warehouse.ddl.grants import RoleAccess
from headrace.warehouse.ddl.views import ViewDeclaration
from headrace.warehouse.loading.load_transaction import GroupMember, LoadResult
from headrace.warehouse.loading.merge import days_of_restated_members
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import WarehouseTable
from platform_assets.keys import WAREHOUSE, name_of, warehouse_key
from platform_assets.steps.events import Step
from platform_assets.steps.partition_records import ledger_records
from platform_assets.steps.recorder import LedgerRecorder
from platform_assets.steps.step_plan import release_lock

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class LakeState:
    """The snapshots of one lake table that a load has read.

    Attributes:
        loaded: Snapshot in the warehouse table when the load was staged; None: unknown.
        snapshot: Snapshot that the load read.
        of_days: Of a fact: by partition, the snapshot that published it, from the ledger.
    """

    loaded: int | None
    snapshot: int | None
    of_days: Mapping[date, int | None]


@dataclass(frozen=True)
class StarPublication:
    """One table of a staged star, with the plans and audits of all its tables.

    Attributes:
        member: The table, as a member of the group that is published in one transaction.
        states: By table, the snapshots that were read.
        plans: By table, its build plan.
        reports: By table, the audit of each partition of the run.
        restated: By fact, the audit of other partitions that the lake has published again.
        facts: Every fact of the star, loaded by this run or not.
        key_views: Views with the keys of outriggers, from the configuration.
        comments: Descriptions of tables, views and their columns.
        restricted_roles: By role with row-level security, the rows that it may read.
        grains: By fact, the grain of its partitions; a fact without one has partitions by day.
    """

    member: GroupMember
    states: Mapping[str, LakeState]
    plans: Mapping[str, BuildPlan]
    reports: Mapping[str, Mapping[date, PartitionReport]]
    restated: Mapping[str, Mapping[date, PartitionReport]]
    facts: tuple[WarehouseTable, ...]
    key_views: tuple[ViewDeclaration, ...] = ()
    comments: tuple[ColumnComments, ...] = ()
    restricted_roles: Mapping[str, RoleAccess] = field(default_factory=dict)
    grains: Mapping[str, Grain] = field(default_factory=dict)

    def partitions(self, fact: str, days: Collection[date]) -> set[date]:
        """The partitions of a fact in which days lie."""
        return {self.grains.get(fact, Grain.DAY).start_of(day) for day in days}


class WarehouseRecorder(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Writes the ledger rows of the star in the transaction that publishes it.

    Attributes:
        recorder: Records partitions.
        views: Folder of SQL files with views that are refreshed after a load.
    """

    recorder: dg.ResourceDependency[LedgerRecorder]
    views: str

    def publishing(
        self,
        context: dg.OutputContext,
        output: object,
        session: Session,
        publications: Mapping[str, LoadResult],
    ) -> None:
        """Write the ledger rows and watermarks of the star, in the transaction of its loads.

        Raises:
            CommitConflictError: Another load was published after this one was staged.
        """
        star = _star(output)
        ledger = self.recorder.ledger()
        for name in star.reports:
            key, state = warehouse_key(name), star.states[name]
            if ledger.watermarks.loaded_snapshot_in(session, name_of(key)) != state.loaded:
                raise CommitConflictError(
                    f"{name_of(key)} was loaded by another run since this load was staged",
                    fix="run it again",
                )
            ledger.record_in(session, _records(context.step_context, star, name, publications))
            # Rows that the lake has deleted may stay because facts refer to them. Without a new
            # watermark the next load compares them again.
            has_deleted_rows = name in publications and publications[name].rows_referenced
            if state.snapshot is not None and not has_deleted_rows:
                ledger.watermarks.record_loaded_in(
                    session, name_of(key), state.snapshot, context.run_id
                )
        for fact in star.facts:
            days = star.partitions(
                fact.name, _days_of_restated_members(session, fact, publications)
            )
            ledger.set_data_version_in(
                session, name_of(warehouse_key(fact.name)), days, new_token()
            )

    def failed(self, context: dg.OutputContext, output: object, error: Exception) -> None:
        """Record that no table of the star could be published."""
        plans = {warehouse_key(name): plan for name, plan in _star(output).plans.items()}
        release_lock(context.step_context)
        self.recorder.record_failure(context.step_context, plans, error)

    def published(
        self,
        context: dg.OutputContext,
        output: object,
        publications: Mapping[str, LoadResult],
    ) -> None:
        """Log Dagster's events of every table, then end the step."""
        star = _star(output)
        reports = {
            warehouse_key(name): {**star.restated.get(name, {}), **some}
            for name, some in star.reports.items()
        }
        for key, some in reports.items():
            self.recorder.log_reports(context.step_context, key, some)
        counts = restated_counts(star, publications)
        context.add_output_metadata(counts)
        if any(counts.values()):
            log.info("days_restated", run_id=context.run_id, **counts)
        try:
            if publications:
                connect = self.recorder.warehouse.connection_factory()
                views.refresh(connect, Path(self.views), [WAREHOUSE], star.key_views)
                comments.apply_comments(connect, star.comments)
                grants.grant_new_tables(connect, star.restricted_roles)
        finally:
            release_lock(context.step_context)
        own = [report for some in reports.values() for report in some.values()]
        self.recorder.end(context.step_context, list(reports), own)


def restated_counts(
    star: StarPublication, publications: Mapping[str, LoadResult]
) -> dict[str, int]:
    """Numbers of restated partitions outside the run and of their changed rows."""
    days = rows = 0
    for name, reports in star.restated.items():
        changed = publications[name].changed_days if name in publications else {}
        days += len(passed_days(reports))
        rows += sum(n for day, n in changed.items() if star.partitions(name, [day]) & {*reports})
    return {"days_restated": days, "rows_restated": rows}


def _records(
    step: Step, star: StarPublication, name: str, publications: Mapping[str, LoadResult]
) -> list[PartitionRecord]:
    """The ledger rows of one table of the star."""
    reports, state = {**star.reports[name], **star.restated.get(name, {})}, star.states[name]
    records = ledger_records(step, star.plans[name], reports, state.snapshot)
    records = [_with_snapshot(record, state) for record in records]
    if name not in {fact.name for fact in star.facts}:
        return records
    changed = _own_changed_days(star, name, publications)
    return [_with_content(record, changed) for record in records]


def _own_changed_days(
    star: StarPublication, name: str, publications: Mapping[str, LoadResult]
) -> set[date]:
    """Partitions of a fact whose rows the load changes."""
    table = next(fact for fact in star.facts if fact.name == name)
    own = publications.get(name)
    if own is None:
        return set()
    # A table that is loaded whole reports no changes by day.
    if own.changed_days:
        return star.partitions(name, own.changed_days)
    return set() if table.column_of_days else {*star.reports[name]}


def _days_of_restated_members(
    session: Session, fact: WarehouseTable, publications: Mapping[str, LoadResult]
) -> set[date]:
    """Days of a fact that refer to members whose attributes the load changed."""
    days: set[date] = set()
    for reference in fact.references:
        dimension = publications.get(reference.table)
        if dimension and dimension.rows_restated:
            days |= days_of_restated_members(session, fact, DATE_KEY, reference)
    return days


def _with_snapshot(record: PartitionRecord, state: LakeState) -> PartitionRecord:
    if record.partition is None or record.status != "published":
        return record
    return replace(record, snapshot_id=state.of_days.get(record.partition, record.snapshot_id))


def _with_content(record: PartitionRecord, changed: Collection[date]) -> PartitionRecord:
    """A new content version if the load changed the partition's rows; else the same."""
    if record.partition in changed:
        return replace(record, content="new", data_version=new_token())
    return replace(record, content="same")


def _star(output: object) -> StarPublication:
    if not isinstance(output, StarPublication):
        raise TypeError(f"expected a StarPublication, not a {type(output).__name__}")
    return output
