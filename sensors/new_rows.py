"""New rows in tables of databases: when a run has to capture them."""

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
from sensors.stale import UNDER_WAY

# Dagster ends a tick after 60 s.
_LOOK_SECONDS = 20.0


@dataclass(frozen=True)
class RowsAsked:
    """The cursor: by entity, what was asked for last, and the entity that was looked at last."""

    asked: Mapping[str, str]
    last: str = ""

    @classmethod
    def parse(cls, cursor: str | None) -> "RowsAsked":
        """From text; of one that cannot be read, nothing was asked for."""
        try:
            known = json.loads(cursor or "{}")
            return cls({str(k): str(v) for k, v in known["asked"].items()}, str(known["last"]))
        except (ValueError, KeyError, AttributeError, TypeError):
            return cls({})

    def dump(self) -> str:
        """As text."""
        return json.dumps({"asked": dict(self.asked), "last": self.last})

    def in_turn(self, names: Sequence[str]) -> list[str]:
        """The entities, beginning after the one that was looked at last."""
        after = [*names].index(self.last) + 1 if self.last in names else 0
        return [*names[after:], *names[:after]]


@dataclass(frozen=True)
class RowsPlan:
    """What a tick does: first and last day of the run that is asked for, None for no run."""

    window: tuple[date, date] | None
    asked: RowsAsked


def plan_rows(known: RowsAsked, found: PendingRows) -> RowsPlan:
    """Ask for one run of the partitions with new rows, once for the same rows.

    What is pending still after a run (a partition that fails, say) waits for the daily run, or for
    more rows.
    """
    due: list[date] = []
    asked = dict(known.asked)
    for name in found.looked_at:
        partitions = found.partitions.get(name, {})
        if name in found.errors:
            continue
        if not partitions:
            asked.pop(name, None)
            continue
        stands_for = content_id(*(f"{day} {text}" for day, text in sorted(partitions.items())))
        if asked.get(name) != stands_for:
            due += partitions
            asked[name] = stands_for
    last = found.looked_at[-1] if found.looked_at else known.last
    return RowsPlan((min(due), max(due)) if due else None, RowsAsked(asked, last))


def build_rows_sensor(
    project: Project, job: dg.JobDefinition, partitions: dg.DailyPartitionsDefinition
) -> dg.SensorDefinition:
    """Asks for a run of the partitions of which databases have new rows."""
    names = watched_entities(project)

    @dg.sensor(
        name="new_rows",
        job=job,
        minimum_interval_seconds=project.settings.sensor.rows_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Captures rows that came or changed in tables of databases.",
    )
    def new_rows(
        context: dg.SensorEvaluationContext, sources: SourcesResource, lake: LakeResource
    ) -> dg.SensorResult | dg.SkipReason:
        under_way = dg.RunsFilter(statuses=UNDER_WAY, tags={ONLY_TAG: STALE})
        if context.instance.get_runs_count(under_way):
            return dg.SkipReason("a run of stale partitions is under way, and captures new rows")
        known = RowsAsked.parse(context.cursor)
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
            return dg.SensorResult(skip_reason=why, cursor=plan.asked.dump())
        days = days_of(partitions.get_partition_keys())
        first, last = (min(max(day, days[0]), days[-1]) for day in plan.window)
        tags = range_tags(first, last, only_stale=True, are_days_partitions=are_all_daily(project))
        return dg.SensorResult(run_requests=[dg.RunRequest(tags=tags)], cursor=plan.asked.dump())

    return new_rows
