"""Running Dagster behind the command line, and reading what it did."""

import gc
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import structlog
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from headrace import progress
from headrace.cli.checking import check_conditions
from headrace.cli.output import messages
from headrace.cli.table_rows import rows_in_tables
from headrace.config.loading import Project, load_project
from headrace.engine import session as engine
from headrace.errors import ConfigError, HeadraceError
from headrace.grain import Grain
from headrace.ledger import liveness
from headrace.ledger.build_plan import AssetLineage
from headrace.ledger.causes import BadPartition
from headrace.ledger.ledger import Attempt, Ledger, PartitionState
from headrace.ledger.staleness import StalePartition, all_stale
from headrace.marts import dbt_worker
from headrace.project.connections import landing_of, ledger_of
from headrace.project.home_lock import using
from headrace.project.home_setup import environment_of, mart_builder, prepare_home
from headrace.project.lineage import project_lineage
from headrace.sources.files.unclaimed import outside_text, unclaimed_files, unclaimed_text

# Objects between two looks for garbage that reference counts leave: with Python's 700 a year's
# manifests, events and plans cost 2 s of looking.
_GARBAGE = 50_000


class Run(Protocol):
    """What the orchestration says of a finished run."""

    run_id: str
    success: bool
    steps: tuple[tuple[str, float], ...]
    error: str | None


@dataclass(frozen=True)
class BackfillResult:
    """What a backfill did; `exit_code` is 0 published, 3 some partitions are bad, 1 it broke.

    `run_id` is empty where there was nothing to run.
    """

    run_id: str
    published: int
    bad: tuple[BadPartition, ...]
    steps: tuple[tuple[str, float], ...]
    exit_code: int
    summary: str
    skipped: tuple[BadPartition, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As JSON prints it."""
        return asdict(self)


@dataclass(frozen=True)
class AssetStatus:
    """One asset's partitions by state; `missing` were never attempted, `rows` are what readers see.

    A mart that is a view has no rows of its own: None. An asset that is declared and was never
    built has no last run. `partition` is how long one is.
    """

    asset: str
    published: int
    empty: int
    held: int
    failed: int
    missing: int
    stale: int
    rows: int | None
    last_run: datetime | None
    partition: str = "day"

    @property
    def never_built(self) -> bool:
        """Whether no run came to it yet."""
        return self.last_run is None

    def as_dict(self) -> dict[str, Any]:
        """As JSON prints it."""
        return {**asdict(self), "never_built": self.never_built}


def prepare() -> dict[str, str]:
    """Start what the platform needs; returns the variables for Dagster's own commands."""
    project = load_project()
    prepare_home(project)
    return environment_of(project)


def run_backfill(
    start_day: date | None,
    end: date | None,
    *,
    select: str,
    rebuild: bool = False,
    only_stale: bool = False,
    quiet: bool,
) -> BackfillResult:
    """Run the selected assets over the days, in this process, with a progress bar.

    Args:
        start_day: First day.
        end: Last day, included.
        select: Assets, in Dagster's syntax.
        rebuild: Make their tables anew, from all days; no days are given then.
        only_stale: Each asset builds the days that are stale, among those given or all.
        quiet: Show no bars.

    Raises:
        ConfigError: A day or an asset does not exist, days are missing, or the engine refuses a
            condition.
    """
    if only_stale and not _is_anything_stale(start_day, end):
        return BackfillResult("", 0, (), (), 0, "nothing is stale")
    if may_need_dbt := dbt_worker.may_be_needed(select):
        # dbt takes three seconds to get ready, in which the layers before it keep this core busy.
        dbt_worker.start()
    project = load_project()
    first, last = _days_of(project, start_day, end, rebuild=rebuild, only_stale=only_stale)
    check_conditions(project)
    os.environ.update(environment_of(project))
    _log_to_stderr()
    if may_need_dbt:
        mart_builder(project).warm_up()
    with _imports():
        run_range = _entry_point("headrace.run_range")
        definitions = _entry_point("headrace.definitions")
    with using(project.home, "command", "headrace backfill"):
        prepare_home(project)
        if select == "*" and project.settings.engine.remote is None:
            engine.prepare(engine.SessionSettings())
        with nullcontext() if quiet else bars():
            run: Run = run_range(
                lambda: definitions(project, for_ui=False),
                first,
                last,
                select=select,
                rebuild=rebuild,
                only_stale=only_stale,
            )
        # Several runs may follow each other in a process: one that ended is alive no more.
        liveness.release(run.run_id)
        return _result(project, run, only_stale=only_stale)


def read_status() -> list[AssetStatus]:
    """One row an asset that the ledger knows or that the configuration declares."""
    project = load_project()
    prepare_home(project)
    ledger, lineages = ledger_of(project), _lineages(project)
    found = all_stale(ledger, lineages, project.settings.partitions)
    stale = Counter(one.asset for one in found)
    known = {asset.asset: asset for asset in ledger.summary()}
    rows = rows_in_tables(project, [*known])
    assets = []
    for name in sorted({*known, *lineages}):
        grain = lineages[name].grain if name in lineages else Grain.DAY
        count = _number_of(grain, project)
        partition = "none" if grain == Grain.SPARSE else grain
        if name in known:
            asset = known[name]
            done = asset.published + asset.empty + asset.held + asset.failed
            assets.append(
                AssetStatus(
                    name,
                    asset.published,
                    asset.empty,
                    asset.held,
                    asset.failed,
                    max(0, count - done) if asset.is_partitioned else 0,
                    stale[name],
                    rows.get(name, asset.rows),
                    asset.last_run_at,
                    partition,
                )
            )
        else:
            missing = max(count, 1) if lineages[name].is_partitioned else 1
            assets.append(AssetStatus(name, 0, 0, 0, 0, missing, stale[name], 0, None, partition))
    return assets


def read_unclaimed() -> str:
    """One line about files that no entity claims, or that are of no day; empty without any."""
    project = load_project()
    entities = {name: entity for name, (_, entity) in project.entities().items()}
    try:
        listing = landing_of(project).list_files()
    except HeadraceError as error:
        return str(error)
    settings, today = project.settings, datetime.now(UTC).date()
    lost = unclaimed_text(unclaimed_files(entities, listing, settings.landing.ignore))
    outside = outside_text(entities, listing, settings.partitions, today)
    return "; ".join(filter(None, (lost, outside)))


def read_errors() -> list[BadPartition]:
    """Every partition whose last attempt was not published, by asset and day."""
    project = load_project()
    prepare_home(project)
    return _all_bad(project, ledger_of(project).not_published())


def first_steps() -> list[str]:
    """What to do in an installation that nothing ran in yet."""
    project = load_project()
    partitions = project.settings.partitions
    last = (partitions.end or datetime.now(UTC).date()) - timedelta(days=1)
    steps = []
    landing = project.expand(project.settings.landing.uri)
    if "://" not in landing and not any(path.is_file() for path in Path(landing).rglob("*")):
        wanted = [entity.extract.path for _, entity in project.entities().values()]
        steps.append(f"no file lies in {landing}: deliver {', '.join(wanted)}")
    steps.append(f"headrace backfill --from {partitions.start} --to {last}   runs all days")
    steps.append("headrace dev   opens Dagster's UI, whose sensors run days as files arrive")
    return steps


def read_staleness(project: Project, ledger: Ledger) -> list[StalePartition]:
    """Every partition of the project that has to be built, in the order of the layers."""
    return all_stale(ledger, _lineages(project), project.settings.partitions)


def _lineages(project: Project) -> dict[str, AssetLineage]:
    manifest = json.loads(mart_builder(project).ensure_manifest().read_text())
    return project_lineage(project, manifest)


def _is_anything_stale(start_day: date | None, end: date | None) -> bool:
    """Whether a run of what is stale, among these days or all, has anything to build.

    The ledger and the configuration tell, without the orchestration and the engine.
    """
    project = load_project()
    first, last = _days_of(project, start_day, end, rebuild=False, only_stale=True)
    with using(project.home, "command", "headrace backfill"):
        prepare_home(project)
        lineages = _lineages(project)
        found = all_stale(ledger_of(project), lineages, project.settings.partitions)
        return any(
            one.partition is None
            or not lineages[one.asset].grain.has_periods
            or one.partition in lineages[one.asset].grain.starts(first, last)
            for one in found
        )


@contextmanager
def _imports() -> Iterator[None]:
    """Import without the garbage collector, which looks through all that is there again and again.

    It takes 1.5 s of a backfill's start. What was imported stays: it need not be looked at later.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(_GARBAGE)
        gc.enable()


def _entry_point(name: str) -> Callable[..., Any]:
    """The orchestration registers itself; the library must not know it."""
    for point in entry_points(group="headrace"):
        if point.name == name.removeprefix("headrace."):
            module, _, attribute = point.value.partition(":")
            function: Callable[..., Any] = getattr(import_module(module), attribute)
            return function
    raise ConfigError(f"{name} is not installed", fix="run make setup in the project's folder")


def _days_of(
    project: Project,
    start_day: date | None,
    end: date | None,
    *,
    rebuild: bool,
    only_stale: bool,
) -> tuple[date, date]:
    """First and last day of a run: those that are given, or all for a rebuild or what is stale."""
    first, after = project.settings.partitions.start, project.settings.partitions.end
    newest = (after or date.today()) - timedelta(days=1)  # noqa: DTZ011  # as below
    if rebuild:
        if start_day or end:
            raise ConfigError(
                "a rebuild takes all days: a table cannot have old columns on some of them",
                fix="leave --from and --to out",
            )
        # Days that nothing was published of have nothing to rebuild.
        oldest, newest = ledger_of(project).published_range() or (first, newest)
        return max(first, oldest), max(first, newest)
    if only_stale:
        start_day, end = start_day or first, end or newest
    if start_day is None or end is None:
        raise ConfigError(
            "backfill needs a first and a last day",
            fix="give --from and --to, --stale for what is stale, or --rebuild for all days",
        )
    if end < start_day:
        raise ConfigError(f"--to {end} lies before --from {start_day}", fix="swap them")
    last_allowed = after or date.today()  # noqa: DTZ011  # compared with days, UTC within hours
    if start_day < first or end >= last_allowed:
        raise ConfigError(
            f"partitions exist from {first} up to, but without, {last_allowed}",
            fix="choose days among them, or change partitions.start and .end in the configuration",
        )
    return start_day, end


def _log_to_stderr() -> None:
    # structlog prints to stdout by default, which is for data; what went well, the bars tell.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _number_of(grain: Grain, project: Project) -> int:
    """How many partitions of a grain exist; as many as there are of one without periods."""
    partitions = project.settings.partitions
    last = (partitions.end or date.today()) - timedelta(days=1)  # noqa: DTZ011
    return len(grain.starts(partitions.start, last)) if grain.has_periods else 0


def _result(project: Project, run: Run, *, only_stale: bool) -> BackfillResult:
    ledger = ledger_of(project)
    bad = tuple(_all_bad(project, ledger.bad_of_run(run.run_id)))
    skipped = tuple(_all_bad(project, ledger.skipped_of_run(run.run_id)))
    published = ledger.published_of_run(run.run_id)
    if run.success:
        is_idle = only_stale and not ledger.last_of_run(run.run_id)
        done = (
            "nothing of it is stale" if is_idle else f"{published} partitions published, none bad"
        )
        summary, code = done, 0
    elif bad:
        summary = (
            f"{published} partitions published, {len(bad)} not: they keep their last state. "
            "Each of them: headrace status --errors"
        )
        code = 3
    elif skipped:
        summary = (
            f"{published} partitions published, {len(skipped)} skipped: what they are built from "
            "is not published. Look: headrace status"
        )
        code = 3
    else:
        summary, code = f"the run failed: {run.error}", 1
    return BackfillResult(run.run_id, published, bad, run.steps, code, summary, skipped)


def _all_bad(project: Project, states: Sequence[PartitionState | Attempt]) -> list[BadPartition]:
    lineages = _lineages(project) if states else {}
    grains = {name: lineage.grain for name, lineage in lineages.items()}
    return [_bad(state, grains.get(state.asset, Grain.DAY)) for state in states]


def _bad(state: PartitionState | Attempt, grain: Grain = Grain.DAY) -> BadPartition:
    return BadPartition(state.asset, state.partition, state.status, state.error or "", grain)


@contextmanager
def bars() -> Iterator[None]:
    """Show on stderr what the layers report, a bar an asset; without a terminal, a line each."""
    if not messages.is_terminal:
        with progress.listening(_Lines().report):
            yield
        return
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("days"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=messages) as shown:
        tasks: dict[str, Any] = {}

        def report(asset: str, done: int, total: int) -> None:
            if asset not in tasks:
                tasks[asset] = shown.add_task(asset, total=total)
            shown.update(tasks[asset], completed=done)

        with progress.listening(report):
            yield


class _Lines:
    """Without a terminal: one line when an asset's last day is staged."""

    def report(self, asset: str, done: int, total: int) -> None:
        if done == total > 0:
            messages.print(f"{asset}: {total} days")
