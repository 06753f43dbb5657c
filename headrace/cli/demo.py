"""`headrace demo`: a year of real sales, from sources to marts, and queries on the result."""

import time
from collections import Counter
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from headrace.cli import output
from headrace.cli.backfill import BackfillResult, print_backfill, run_backfill
from headrace.cli.query import run_query
from headrace.cli.status import AssetStatus, print_status, read_status
from headrace.config.loader import Project, load_project
from headrace.errors import ConfigError
from headrace.project.connections import lake_of
from headrace.project.demo_servers import named_servers, start_servers
from headrace.quality.rules import REASON_SEPARATOR

_MART = """
    select department, sum(sales) as sales, sum(baskets) as baskets, sum(units) as units
    from marts.mart_daily_department group by department order by sales desc limit 8
"""
_WEATHER = """
    select sky, sum(sales) as sales, sum(baskets) as baskets, count(*) as hours_of_stores
    from marts.mart_store_hour_weather group by sky order by sales desc
"""
_TOTALS = """
    select count(*) as facts, sum(sales_value) as net_sales,
           count(*) filter (where product_key = -1) as unknown_product
    from warehouse.fact_sales
"""
_DIMENSIONS = """
    select 'dim_product' as dimension, count(distinct product_id) as members, count(*) as versions,
           count(*) filter (where is_inferred) as known_by_sales_only
    from warehouse.dim_product where product_key <> -1
    union all
    select 'dim_customer', count(distinct customer_id), count(*),
           count(*) filter (where is_inferred)
    from warehouse.dim_customer where customer_key <> -1
"""
# The best-selling of the products with more than two versions: the same one at every run.
_ONE_PRODUCT = """
    with repacked as (
        select product_id from warehouse.dim_product
        group by product_id having count(*) > 2
    ),
    chosen as (
        select product_id from warehouse.fact_sales
        join warehouse.dim_product using (product_key)
        where product_id in (select product_id from repacked)
        group by product_id order by count(*) desc, product_id limit 1
    )
    select product_id, product_type, brand, package_size, valid_from, valid_to, is_current,
           count(date_key) as lines_sold, sum(sales_value) as sales
    from warehouse.dim_product left join warehouse.fact_sales using (product_key)
    where product_id = (select product_id from chosen)
    group by 1, 2, 3, 4, 5, 6, 7 order by valid_from
"""


def stage() -> int:
    """Stage the demo's year in the sources that the configuration names; what is there stays.

    Returns:
        How many files and rows were written.

    Raises:
        ConfigError: The landing zone is not a local folder.
    """
    project = load_project()
    uri = project.expand(project.settings.landing.uri)
    if "://" in uri:
        raise ConfigError(
            f"the demo stages files into a folder, not {uri}",
            fix="use PIPELINE_ENV=development, or upload the files yourself",
        )
    columns = (TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TextColumn("files"), console=output.messages) as bars:
        task = bars.add_task("staging a year of sales", total=None)

        def progress(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        if not named_servers(project):
            landed = import_module("demo.stage").stage_landing(Path(uri), progress=progress)
            lines, written = [f"landing: {landed.new}"], int(landed.written)
        else:
            staged = import_module("demo.sources").stage_sources(project.home, Path(uri), progress)
            lines, written = _staged_lines(project, staged), int(staged.written)
    for line in lines:
        output.messages.print(line, highlight=False, soft_wrap=True)
    return written


def _staged_lines(project: Project, staged: Any) -> list[str]:
    held = {
        "shop": f"{staged.shop.rows:,} changes of households, {staged.shop.written:,} of them new",
        "catalogue": f"{staged.catalogue.all_rows:,} changes of products",
        "weather": "hourly weather of four regions",
    }
    where = start_servers(project)
    return [
        f"landing: {staged.landing.new}",
        *(f"{name}: {held[name]}, in {place}" for name, place in where.items()),
    ]


def run() -> int:
    """Stage, backfill the year and report; if everything is published already, report only.

    Returns:
        The exit code.
    """
    began = time.monotonic()
    written = stage()
    project = load_project()
    if written == 0 and _is_complete(read_status()):
        output.say("everything is published already; nothing to do", "green")
        _report(project, None)
        return 0
    journey = import_module("demo.journey")
    last = journey.DAY_AFTER_LAST - timedelta(days=1)
    result = run_backfill(journey.FIRST_DAY, last, select="*", quiet=False)
    print_backfill(result, as_json=False)
    if result.exit_code in {0, 3}:
        _report(project, result)
        output.messages.print(f"\nfrom sources to marts in {time.monotonic() - began:.0f} s")
    return result.exit_code


def _is_complete(assets: list[AssetStatus]) -> bool:
    bad = sum(asset.held + asset.failed + asset.missing for asset in assets)
    return bool(assets) and bad == 0


def _report(project: Project, result: BackfillResult | None) -> None:
    print_status(read_status(), as_json=False)
    reasons = _quarantined(project)
    if reasons:
        rows = [(entity, why, count) for (entity, why), count in sorted(reasons.items())]
        output.print_table(("entity", "quarantined because", "rows"), rows, title="\nQuarantine")
    if result is not None:
        steps = [(name, f"{seconds:.1f}") for name, seconds in result.steps]
        title = "\nWhere the time went (steps overlap)"
        output.print_table(("step", "seconds"), steps, title=title)
    totals = run_query(_TOTALS)
    output.print_table(totals.columns, totals.rows, title="\nwarehouse.fact_sales")
    members = run_query(_DIMENSIONS)
    output.print_table(members.columns, members.rows, title="\nMembers and their versions")
    product = run_query(_ONE_PRODUCT)
    title = "\nOne product's history, and the sales of each version"
    output.print_table(product.columns, product.rows, title=title)
    mart = run_query(_MART)
    output.print_table(mart.columns, mart.rows, title="\nmarts.mart_daily_department, the year")
    if "fact_weather" in {fact.name for fact in project.star.facts}:
        weather = run_query(_WEATHER)
        title = "\nmarts.mart_store_hour_weather, the year"
        output.print_table(weather.columns, weather.rows, title=title)
    output.say("\nNext", "bold", _NEXT)


_NEXT = """
  make ui                                   the asset graph and every partition, at 127.0.0.1:3000
  .venv/bin/headrace sql "select * from marts.mart_customer_rfm limit 5"
  .venv/bin/headrace status                 what is published, held, failed, missing
  docs/tutorial/own-files.md                your own files, without writing Python
  docs/tutorial/own-database.md             tables of your own database, as well"""


def _quarantined(project: Project) -> Counter[tuple[str, str]]:
    lake = lake_of(project)
    counts: Counter[tuple[str, str]] = Counter()
    for name in project.entities():
        table = lake.table("quarantine", name.replace(".", "_"))
        if not table.exists():
            continue
        for batch in table.scan().batches(columns=["_reasons"]):
            for reasons in batch.column(0).to_pylist():
                counts.update((name, reason) for reason in reasons.split(REASON_SEPARATOR))
    return counts
