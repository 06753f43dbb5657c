"""`headrace status`: the partitions of each asset by state, their errors, and unclaimed files."""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from headrace.cli.output import print_json, print_table, say
from headrace.config.loader import Project, load_project
from headrace.errors import HeadraceError
from headrace.grain import Grain
from headrace.ledger.build_plan import AssetLineage
from headrace.ledger.causes import UnpublishedPartition
from headrace.ledger.records import AssetSummary, Attempt, PartitionState
from headrace.ledger.staleness import all_stale
from headrace.project.connections import lake_of, landing_of, ledger_of, postgres_url
from headrace.project.home_setup import mart_builder, prepare_home
from headrace.project.lineage import project_lineage
from headrace.sources.files.unclaimed import outside_text, unclaimed_files, unclaimed_text
from headrace.sources.landing.zip_landing import with_archives

# Values of pg_class.relkind: tables, partitioned tables, materialised views.
_RELATIONS_WITH_ROWS = ["r", "p", "m"]
_COLUMNS = (
    "asset",
    "published",
    "empty",
    "held",
    "failed",
    "missing",
    "stale",
    "rows",
    "last run",
)


@dataclass(frozen=True)
class AssetStatus:
    """The partitions of one asset, counted by state.

    Attributes:
        asset: Its name, such as `raw/shop_orders`.
        published: Partitions that were published with rows.
        empty: Partitions that were published without rows.
        held: Partitions that failed their audit last time.
        failed: Partitions that failed with an error last time.
        missing: Partitions without an attempt.
        stale: Partitions whose inputs or code have changed since they were built, except those
            that are held because their file has not arrived.
        rows: Rows that readers see; None for a mart that is a view.
        last_run: When the last run ended; None for an asset that is declared and was never built.
        partition: Grain of its partitions: `day`, `month`, …, `none`.
    """

    asset: str
    published: int = 0
    empty: int = 0
    held: int = 0
    failed: int = 0
    missing: int = 0
    stale: int = 0
    rows: int | None = 0
    last_run: datetime | None = None
    partition: str = "day"

    @property
    def never_built(self) -> bool:
        """Whether no run has attempted the asset."""
        return self.last_run is None

    def as_dict(self) -> dict[str, Any]:
        """The fields as `--json` prints them."""
        return {**asdict(self), "never_built": self.never_built}


def read_status() -> list[AssetStatus]:
    """One entry for each asset in the ledger or in the configuration, by name."""
    project = load_project()
    prepare_home(project)
    ledger, lineages = ledger_of(project), read_lineages(project)
    found = all_stale(ledger, lineages, project.settings.partitions)
    stale = Counter(one.asset for one in found if not one.waits)
    built = {asset.asset: asset for asset in ledger.summary()}
    rows = _rows_in_tables(project, [*built])
    assets = []
    for name in sorted({*built, *lineages}):
        grain = lineages[name].grain if name in lineages else Grain.DAY
        count = _number_of_partitions(grain, project)
        if name in built:
            status = _built_status(built[name], count)
            status = replace(status, rows=rows.get(name, status.rows))
        else:
            missing = max(count, 1) if lineages[name].is_partitioned else 1
            status = AssetStatus(name, missing=missing)
        partition = "none" if grain == Grain.SPARSE else grain
        assets.append(replace(status, stale=stale[name], partition=partition))
    return assets


def print_status(
    assets: Sequence[AssetStatus], *, as_json: bool, first_steps: Sequence[str] = ()
) -> None:
    """Print one line an asset, or `first_steps` if no asset was ever built."""
    if as_json:
        print_json([asset.as_dict() for asset in assets])
        return
    if all(asset.never_built for asset in assets):
        say("nothing has run yet")
        for line in first_steps:
            say(f"  {line}")
        return
    rows = [
        (
            each.asset,
            each.published,
            each.empty,
            each.held,
            each.failed,
            each.missing,
            each.stale,
            each.rows,
            each.last_run or "never built",
        )
        for each in assets
    ]
    print_table(_COLUMNS, rows)


def read_errors() -> list[UnpublishedPartition]:
    """Every partition whose last attempt was not published, by asset and day."""
    project = load_project()
    prepare_home(project)
    return bad_partitions(project, ledger_of(project).not_published())


def print_errors(bad: Sequence[UnpublishedPartition], *, as_json: bool) -> None:
    """Print every partition whose last attempt was not published, with its whole error."""
    if as_json:
        print_json([asdict(each) for each in bad])
        return
    if not bad:
        say("no partition is held or failed", "green")
        return
    columns = ("asset", "partition", "status", "because")
    print_table(columns, [(each.asset, each.label, each.status, each.why) for each in bad])


def bad_partitions(
    project: Project, states: Sequence[PartitionState | Attempt]
) -> list[UnpublishedPartition]:
    """Ledger rows as they are printed: with the grain that their partition's label depends on."""
    lineages = read_lineages(project) if states else {}
    grains = {name: lineage.grain for name, lineage in lineages.items()}
    return [
        UnpublishedPartition(
            state.asset,
            state.partition,
            state.status,
            state.error or "",
            grains.get(state.asset, Grain.DAY),
        )
        for state in states
    ]


def read_unclaimed() -> str:
    """A warning about files that no entity claims or whose day is no partition; empty without."""
    project = load_project()
    entities = project.file_entities()
    if not entities:
        return ""
    try:
        extracts = [entity.extract for entity in entities.values()]
        listing = with_archives(landing_of(project), extracts).list_files()
    except HeadraceError as error:
        return str(error)
    settings, today = project.settings, datetime.now(UTC).date()
    unclaimed = unclaimed_text(unclaimed_files(entities, listing, settings.landing.ignore))
    outside = outside_text(entities, listing, settings.partitions, today)
    return "; ".join(filter(None, (unclaimed, outside)))


def read_first_steps() -> list[str]:
    """What to do in an installation without any run."""
    project = load_project()
    partitions = project.settings.partitions
    last = (partitions.end or datetime.now(UTC).date()) - timedelta(days=1)
    steps = []
    landing = project.expand(project.settings.landing.uri)
    expected = [entity.extract.path for entity in project.file_entities().values()]
    is_empty = "://" not in landing and not any(p.is_file() for p in Path(landing).rglob("*"))
    if expected and is_empty:
        steps.append(f"there is no file in {landing}: deliver {', '.join(expected)}")
    steps.append(f"headrace backfill --from {partitions.start} --to {last}   runs all days")
    steps.append("headrace dev   opens Dagster's UI; its sensors run the days of files that arrive")
    return steps


def read_lineages(project: Project) -> dict[str, AssetLineage]:
    """The lineage of every asset of the project, marts included."""
    manifest = json.loads(mart_builder(project).ensure_manifest().read_text())
    return project_lineage(project, manifest)


def _built_status(asset: AssetSummary, partitions: int) -> AssetStatus:
    """The status of an asset that the ledger has; `partitions` is their number in all."""
    attempted = asset.published + asset.empty + asset.held + asset.failed
    return AssetStatus(
        asset.asset,
        published=asset.published,
        empty=asset.empty,
        held=asset.held,
        failed=asset.failed,
        missing=max(0, partitions - attempted) if asset.is_partitioned else 0,
        rows=asset.rows,
        last_run=asset.last_run_at,
    )


def _number_of_partitions(grain: Grain, project: Project) -> int:
    """Partitions between the configured first day and the last; 0 for a grain without periods."""
    partitions = project.settings.partitions
    last = (partitions.end or datetime.now(UTC).date()) - timedelta(days=1)
    return len(grain.starts(partitions.start, last)) if grain.has_periods else 0


def _rows_in_tables(project: Project, assets: Collection[str]) -> dict[str, int | None]:
    """Rows of the dimensions and marts among `assets`, whose partitions do not count them.

    Args:
        project: The project.
        assets: Names such as `warehouse/dim_product` or `marts/mart_sales`.

    Returns:
        Rows by asset; None for a view.
    """
    dimensions = {*(dim.name for dim in project.star.dimensions), project.star.calendar.name}
    chosen = [tuple(asset.split("/", 1)) for asset in assets if asset.count("/") == 1]
    in_lake = [name for layer, name in chosen if layer == "curated" and name in dimensions]
    in_postgres = [
        (layer, name)
        for layer, name in chosen
        if layer == "marts" or (layer == "warehouse" and name in dimensions)
    ]
    found: dict[str, int | None] = dict(_lake_rows(project, in_lake))
    found |= {f"{layer}/{name}": None for layer, name in in_postgres}
    return found | dict(_postgres_rows(project, in_postgres))


def _lake_rows(project: Project, names: Collection[str]) -> Iterator[tuple[str, int]]:
    lake = lake_of(project) if names else None
    for name in names:
        table = lake.table("curated", name) if lake else None
        if table is not None and table.exists():
            yield f"curated/{name}", table.scan().total_rows


def _postgres_rows(
    project: Project, tables: Collection[tuple[str, str]]
) -> Iterator[tuple[str, int]]:
    if not tables:
        return
    with psycopg.connect(postgres_url(project, "warehouse"), autocommit=True) as connection:
        known = connection.execute(
            "select n.nspname, c.relname from pg_class as c"
            " inner join pg_namespace as n on c.relnamespace = n.oid where c.relkind = any(%s)",
            (_RELATIONS_WITH_ROWS,),
        ).fetchall()
        for layer, name in {*tables} & {(row[0], row[1]) for row in known}:
            counted = connection.execute(
                sql.SQL("select count(*) from {}").format(sql.Identifier(layer, name))
            ).fetchone()
            if counted is not None:
                yield f"{layer}/{name}", counted[0]
