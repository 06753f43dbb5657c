"""The sensor of new rows in databases: it requests a run that captures them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import dagster as dg

from headrace.config.loader import Project
from headrace.ledger.build_plan import content_id
from headrace.pipeline.pending import PendingRows, look_for_rows, watched_entities
from platform_assets.keys import RAW, table_of
from platform_assets.partitions import ONLY_TAG, STALE, are_all_daily, days_of, range_tags
from resources.lake import LakeResource
from resources.sources import SourcesResource
from sensors.stale import IN_PROGRESS

# Dagster ends a tick after 60 s.
_LOOK_SECONDS = 20.0


@dataclass(frozen=True)
class RequestedRows:
    """The cursor.

    Attributes:
        requested: By entity, an id of the new rows for which a run was requested last.
        last: The entity that was looked at last.
    """

    requested: Mapping[str, str]
    last: str = ""

    @classmethod
    def parse(cls, cursor: str | None) -> "RequestedRows":
        """From text; a text that cannot be read counts as no request."""
        try:
            known = json.loads(cursor or "{}")
            return cls({str(k): str(v) for k, v in known["requested"].items()}, str(known["last"]))
        except (ValueError, KeyError, AttributeError, TypeError):
            return cls({})

    def dump(self) -> str:
        """As text."""
        return json.dumps({"requested": dict(self.requested), "last": self.last})

    def in_turn(self, names: Sequence[str]) -> list[str]:
        """The entities, beginning after the one that was looked at last."""
        after = [*names].index(self.last) + 1 if self.last in names else 0
        return [*names[after:], *names[:after]]


@dataclass(frozen=True)
class RowsPlan:
    """What a tick does.

    Attributes:
        window: First and last day of the run to request; None: no run.
        cursor: The next cursor.
    """

    window: tuple[date, date] | None
    cursor: RequestedRows


def plan_rows(known: RequestedRows, found: PendingRows) -> RowsPlan:
    """Request one run of the partitions with new rows, once for the same rows.

    Rows that are still new after that run, such as those of a partition that failed, wait for the
    daily run or for more rows.
    """
    due: list[date] = []
    requested = dict(known.requested)
    for name in found.looked_at:
        partitions = found.partitions.get(name, {})
        if name in found.errors:
            continue
        if not partitions:
            requested.pop(name, None)
            continue
        rows_id = content_id(*(f"{day} {text}" for day, text in sorted(partitions.items())))
        if requested.get(name) != rows_id:
            due += partitions
            requested[name] = rows_id
    last = found.looked_at[-1] if found.looked_at else known.last
    return RowsPlan((min(due), max(due)) if due else None, RequestedRows(requested, last))


def build_rows_sensor(
    project: Project, job: dg.JobDefinition, partitions: dg.DailyPartitionsDefinition
) -> dg.SensorDefinition:
    """The sensor that requests a run of the partitions for which databases have new rows."""
    names = watched_entities(project)

    @dg.sensor(
        name="new_rows",
        job=job,
        minimum_interval_seconds=project.settings.sensor.rows_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Runs the days of rows that were added or changed in databases.",
    )
    def new_rows(
        context: dg.SensorEvaluationContext, sources: SourcesResource, lake: LakeResource
    ) -> dg.SensorResult | dg.SkipReason:
        in_progress = dg.RunsFilter(statuses=IN_PROGRESS, tags={ONLY_TAG: STALE})
        if context.instance.get_runs_count(in_progress):
            return dg.SkipReason("a run of stale partitions is in progress, and captures new rows")
        known = RequestedRows.parse(context.cursor)
        found = look_for_rows(
            project,
            known.in_turn(names),
            connector=lambda name: sources.connector(project, name),
            table=lambda name: lake.table(RAW, table_of(name)),
            seconds=_LOOK_SECONDS,
        )
        for name, error in found.errors.items():
            context.log.warning("%s: new rows are not looked for: %s", name, error)
        plan = plan_rows(known, found)
        if plan.window is None:
            why = dg.SkipReason(f"no new rows in {len(found.looked_at)} tables")
            return dg.SensorResult(skip_reason=why, cursor=plan.cursor.dump())
        days = days_of(partitions.get_partition_keys())
        first, last = (min(max(day, days[0]), days[-1]) for day in plan.window)
        tags = range_tags(first, last, only_stale=True, are_days_partitions=are_all_daily(project))
        return dg.SensorResult(run_requests=[dg.RunRequest(tags=tags)], cursor=plan.cursor.dump())

    return new_rows
