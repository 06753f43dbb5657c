"""`headrace backfill`: one run of the selected assets over a window of days, in this process."""

import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from headrace.cli.check import check_conditions
from headrace.cli.output import print_cause, print_json, progress_bars, say
from headrace.cli.status import bad_partitions, read_lineages
from headrace.config.loader import Project, load_project
from headrace.engine import session as engine
from headrace.errors import ConfigError
from headrace.ledger import liveness
from headrace.ledger.causes import UnpublishedPartition, group_by_cause
from headrace.ledger.staleness import all_stale
from headrace.marts import dbt_worker
from headrace.project.connections import ledger_of
from headrace.project.home_lock import using
from headrace.project.home_setup import environment_of, mart_builder, prepare_home

if TYPE_CHECKING:
    from jobs.backfill import RangeRun

# Threshold of the garbage collector's youngest generation. With Python's default of 700, the
# manifests, events and plans of a year cost 2 s in collections that free nothing.
_COLLECTION_THRESHOLD = 50_000
_CAUSES_SHOWN = 20


@dataclass(frozen=True)
class BackfillResult:
    """The result of a backfill.

    Attributes:
        run_id: Dagster's id of the run; empty if no run was started.
        published: Number of partitions that the run published.
        bad: Partitions that it held or that failed.
        steps: Name and seconds of each successful step.
        exit_code: 0 all published, 1 the run failed, 3 some partitions are bad or skipped.
        summary: One sentence for people.
        skipped: Partitions whose inputs are not published.
    """

    run_id: str
    published: int
    bad: tuple[UnpublishedPartition, ...]
    steps: tuple[tuple[str, float], ...]
    exit_code: int
    summary: str
    skipped: tuple[UnpublishedPartition, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The fields as `--json` prints them."""
        return asdict(self)


def run_backfill(
    start: date | None,
    end: date | None,
    *,
    select: str,
    rebuild: bool = False,
    only_stale: bool = False,
    quiet: bool,
) -> BackfillResult:
    """Run the selected assets over the days, in this process, with a progress bar.

    Args:
        start: First day.
        end: Last day, included.
        select: Assets, in Dagster's syntax.
        rebuild: Rebuild whole tables from all days; `start` and `end` are None then.
        only_stale: Each asset builds its stale days only, among those given or all.
        quiet: Show no progress bars.

    Raises:
        ConfigError: A day or an asset does not exist, days are missing, or the engine rejects a
            SQL condition.
    """
    if only_stale and not _is_anything_stale(start, end):
        return BackfillResult("", 0, (), (), 0, "nothing is stale")
    if may_build_marts := dbt_worker.may_select_marts(select):
        # dbt needs 3 s to start; the earlier layers run meanwhile.
        dbt_worker.start()
    project = load_project()
    first, last = _days_of_run(project, start, end, rebuild=rebuild, only_stale=only_stale)
    check_conditions(project)
    os.environ.update(environment_of(project))
    _log_warnings_to_stderr()
    if may_build_marts:
        mart_builder(project).warm_up()
    with _gc_disabled_for_imports():
        # Dagster takes seconds to import; other commands do without it.
        from jobs.backfill import run_range
        from platform_assets.definitions import build_definitions
        from platform_assets.metadata import FOR_COMMANDS
    with using(project.home, "command", "headrace backfill"):
        prepare_home(project)
        if select == "*" and project.settings.engine.remote is None:
            engine.prepare(engine.SessionSettings())
        with nullcontext() if quiet else progress_bars():
            run = run_range(
                lambda: build_definitions(project, declarations=FOR_COMMANDS),
                first,
                last,
                select=select,
                rebuild=rebuild,
                only_stale=only_stale,
            )
        # A process may execute several runs; the lock of a finished one must not outlive it.
        liveness.release(run.run_id)
        return _result(project, run, only_stale=only_stale)


def print_backfill(result: BackfillResult, *, as_json: bool) -> None:
    """Print the causes of bad partitions, one line each, and the summary."""
    if as_json:
        print_json(result.as_dict())
        return
    causes = group_by_cause(result.bad or result.skipped)
    for cause in causes[:_CAUSES_SHOWN]:
        print_cause(cause)
    if len(causes) > _CAUSES_SHOWN:
        say(f"… and {len(causes) - _CAUSES_SHOWN} more causes: headrace status --errors")
    say(result.summary, "red" if result.exit_code else "green")


def _is_anything_stale(start: date | None, end: date | None) -> bool:
    """Whether a run with `--stale` has anything to build; starts neither Dagster nor the engine."""
    project = load_project()
    first, last = _days_of_run(project, start, end, rebuild=False, only_stale=True)
    with using(project.home, "command", "headrace backfill"):
        prepare_home(project)
        lineages = read_lineages(project)
        if _has_new_rows(project, first, last):
            return True
        stale = all_stale(ledger_of(project), lineages, project.settings.partitions)
        return any(
            one.partition is None
            or not lineages[one.asset].grain.has_periods
            or one.partition in lineages[one.asset].grain.starts(first, last)
            for one in stale
        )


def _has_new_rows(project: Project, first: date, last: date) -> bool:
    """Whether a table of a database has rows of the days that no run has captured."""
    # Sources and the lake take a second to import: only where there is something to ask.
    from headrace.pipeline.pending import look_for_rows, watched_entities

    if not (names := watched_entities(project)):
        return False
    from headrace.project.connections import lake_of, landing_of
    from headrace.project.lineage import RAW, table_of
    from headrace.sources.registry import connector_of

    lake, entities = lake_of(project), project.entities()
    found = look_for_rows(
        project,
        names,
        connector=lambda name: connector_of(project, name, lambda: landing_of(project)),
        table=lambda name: lake.table(RAW, table_of(name)),
    )
    for name, error in found.errors.items():
        say(f"{name}: new rows are not looked for: {error} ({error.fix})", "yellow")
    return any(
        not entities[name][1].grain.has_periods
        or day in entities[name][1].grain.starts(first, last)
        for name, partitions in found.partitions.items()
        for day in partitions
    )


def _days_of_run(
    project: Project,
    start: date | None,
    end: date | None,
    *,
    rebuild: bool,
    only_stale: bool,
) -> tuple[date, date]:
    """First and last day of the run: as given, or all days for a rebuild or for stale days."""
    partitions = project.settings.partitions
    first, end_of_partitions = partitions.start, partitions.end or datetime.now(UTC).date()
    last = end_of_partitions - timedelta(days=1)
    if rebuild:
        if start or end:
            raise ConfigError(
                "a rebuild takes all days: all rows of a table have the same columns",
                fix="leave --from and --to out",
            )
        # Days before the first publication have no rows to rebuild.
        oldest, newest = ledger_of(project).published_range() or (first, last)
        return max(first, oldest), max(first, newest)
    if only_stale:
        start, end = start or first, end or last
    if start is None or end is None:
        raise ConfigError(
            "backfill needs a first and a last day",
            fix="give --from and --to, --stale for stale partitions, or --rebuild for all days",
        )
    if end < start:
        raise ConfigError(f"--to {end} is before --from {start}", fix="swap them")
    if start < first or end >= end_of_partitions:
        raise ConfigError(
            f"partitions exist from {first} until {end_of_partitions} (exclusive)",
            fix="choose days in that window, or change partitions.start and .end in the "
            "configuration",
        )
    return start, end


@contextmanager
def _gc_disabled_for_imports() -> Iterator[None]:
    """Disable the garbage collector while the block imports: it takes 1.5 s of Dagster's import.

    Imported modules stay loaded, so they are frozen: later collections do not traverse them.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(_COLLECTION_THRESHOLD)
        gc.enable()


def _log_warnings_to_stderr() -> None:
    # structlog's default prints everything to stdout, which is reserved for data.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _result(project: Project, run: "RangeRun", *, only_stale: bool) -> BackfillResult:
    ledger = ledger_of(project)
    bad = tuple(bad_partitions(project, ledger.held_or_failed_of_run(run.run_id)))
    skipped = tuple(bad_partitions(project, ledger.skipped_of_run(run.run_id)))
    published = ledger.published_count_of_run(run.run_id)
    if run.success and only_stale and not ledger.last_attempts_of_run(run.run_id):
        summary, code = "no selected asset is stale", 0
    elif run.success:
        summary, code = f"{published} partitions published, none bad", 0
    elif bad:
        summary = (
            f"{published} partitions published; {len(bad)} held or failed keep their last "
            "published state. Each of them: headrace status --errors"
        )
        code = 3
    elif skipped:
        summary = (
            f"{published} partitions published; {len(skipped)} skipped because their inputs are "
            "not published. See: headrace status"
        )
        code = 3
    else:
        summary, code = f"the run failed: {run.error}", 1
    return BackfillResult(run.run_id, published, bad, run.steps, code, summary, skipped)
