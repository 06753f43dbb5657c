"""Marts in whole runs, and tables that are made anew, reset and maintained."""

import re
import shutil
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import psycopg
import pytest
import yaml

from headrace.cli.backfill import BackfillResult, run_backfill
from headrace.config.loader import load_project
from headrace.errors import ConfigError
from headrace.operations.lake_maintenance import maintain
from headrace.operations.reset import plan_reset, reset
from headrace.project.connections import lake_of, postgres_url
from platform_assets.definitions import build_definitions
from tests.e2e.installation import FIRST, REPOSITORY, Installation, good_lines

pytestmark = pytest.mark.e2e

DAYS = [FIRST + timedelta(days=n) for n in range(4)]
BY_DAY = "select date, sum(lines)::int from marts.mart_daily_department group by 1 order by 1"
BY_MONTH = "select sum(lines)::int from marts.mart_product_month"
STATES = """
select asset, partition, status, error from platform.partition_ledger
where asset like 'marts/%' and status <> 'published' order by 1, 2
"""
MONTH = 'key:"marts/mart_product_month"'
FEW = "lines < 5 and "
BROKEN = "count(*) / 0 as lines,"


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _evaluations(shop: Installation, run_id: str) -> dict[str, int]:
    """How often a run said something of a check, by check."""
    with shop.active():
        url = postgres_url(load_project(), "dagster")
    query = (
        "select check_name, count(*) from asset_check_executions"
        " where run_id = %s and execution_status in ('SUCCEEDED', 'FAILED') group by 1"
    )
    with psycopg.connect(url) as session:
        return dict(session.execute(query, (run_id,)).fetchall())


@pytest.fixture(scope="module")
def held(long_shop: Installation) -> tuple[Installation, BackfillResult]:
    """Three good days, then one that a test of a mart refuses, one more, and a broken mart."""
    shop, dbt = long_shop, long_shop.root / "dbt"
    made_by_dbt = shutil.ignore_patterns("target", "logs")
    shutil.copytree(REPOSITORY / "demo/files/dbt", dbt, ignore=made_by_dbt)
    _edit(
        dbt / "models/marts/_marts.yml", '"lines >= 1 and baskets', f'"{FEW}lines >= 1 and baskets'
    )
    settings = shop.config / "development.yaml"
    chosen = {**yaml.safe_load(settings.read_text()), "dbt_project": str(dbt)}
    settings.write_text(yaml.safe_dump(chosen))
    shop.deliver_catalogue()
    for day in DAYS[:3]:
        shop.deliver(day, good_lines(day, 2))
    assert shop.backfill(DAYS[0], DAYS[2]).exit_code == 0
    shop.deliver(DAYS[1], good_lines(DAYS[1], 7))
    shop.deliver(DAYS[3], good_lines(DAYS[3], 3))
    month = dbt / "models/marts/mart_product_month.sql"
    _edit(month, "count(*) as lines,", BROKEN)
    return shop, shop.backfill(DAYS[1], DAYS[3])


def test_a_failing_test_holds_its_day_and_readers_keep_the_old_rows(
    held: tuple[Installation, BackfillResult],
) -> None:
    shop, result = held
    assert result.exit_code == 3
    assert shop.sql(BY_DAY) == [(day, 3 if day == DAYS[3] else 2) for day in DAYS]
    (refused,) = [row for row in shop.sql(STATES) if row[0] == "marts/mart_daily_department"]
    assert refused[1:3] == (DAYS[1], "held")
    assert "mart_daily_department_values_in_range: expected no failing rows, found 1" in refused[3]
    said = [row for row in shop.sql(STATES) if row[0] == "marts/mart_product_month"]
    # Its text changed, so the run takes up the day that it is not about, too.
    assert {row[1:3] for row in said} == {(day, "failed") for day in DAYS}
    assert all("division by zero" in row[3] for row in said)
    assert shop.sql(BY_MONTH) == [(6,)]


def test_tests_of_a_mart_that_was_not_built_say_nothing(
    held: tuple[Installation, BackfillResult],
) -> None:
    shop, result = held
    said = _evaluations(shop, result.run_id)
    assert said["mart_daily_department_key"] == 1
    assert [name for name in said if name.startswith("mart_product_month")] == []


def test_days_that_a_mart_lacks_are_tried_again_by_a_run_of_another_day(
    held: tuple[Installation, BackfillResult],
) -> None:
    shop, _ = held
    _edit(shop.root / "dbt/models/marts/mart_product_month.sql", BROKEN, "count(*) as lines,")
    _edit(shop.root / "dbt/models/marts/_marts.yml", FEW, "")
    assert shop.backfill(DAYS[0], DAYS[0], select="group:marts").exit_code == 0
    assert shop.sql(STATES) == []
    assert dict(shop.sql(BY_DAY))[DAYS[1]] == 7
    assert shop.sql(BY_MONTH) == [(14,)]


def test_a_rebuild_takes_all_days_and_no_fewer(held: tuple[Installation, BackfillResult]) -> None:
    shop, _ = held
    rebuild = partial(run_backfill, select=MONTH, rebuild=True, quiet=True)
    with shop.active():
        assert rebuild(None, None).published == len(DAYS)
        with pytest.raises(ConfigError, match="a rebuild takes all days"):
            rebuild(DAYS[0], DAYS[0])
    assert shop.sql(BY_MONTH) == [(14,)]


def test_a_type_that_cannot_hold_what_is_published_takes_one_command(
    held: tuple[Installation, BackfillResult],
) -> None:
    shop, _ = held
    sums = "select sum(sales_value), count(*)::int from warehouse.fact_sales"
    before = shop.sql(sums)
    source = shop.config / "sources" / "retail.yaml"
    text = source.read_text()
    declared = re.search(r"name: sales_value, type: .*?decimal\((\d+),\s*2\)", text)
    assert declared
    wider = declared.group(0).replace(", 2)", ", 3)").replace(",2)", ",3)")
    source.write_text(text.replace(declared.group(0), wider))
    refused = shop.backfill(DAYS[3], DAYS[3])
    said = " ".join(bad.why for bad in refused.bad)
    command = "headrace backfill --rebuild --select 'key:\"processed/retail_transactions\"+'"
    assert command in said or command in refused.summary
    assert shop.sql(sums) == before
    with shop.active():
        select = 'key:"processed/retail_transactions"+'
        assert run_backfill(None, None, select=select, rebuild=True, quiet=True).exit_code == 0
    assert shop.sql(sums) == before
    kind = "select format_type(atttypid, atttypmod) from pg_attribute"
    of_column = " where attrelid = 'warehouse.fact_sales'::regclass and attname = 'sales_value'"
    assert shop.sql(kind + of_column) == [("numeric(12,3)",)]
    assert shop.sql("select count(*)::int from bi.current_customers") != []


def test_an_asset_that_was_reset_is_built_anew_and_nothing_else_changes(
    held: tuple[Installation, BackfillResult],
) -> None:
    shop, _ = held
    sums = "select date_key, count(*), sum(sales_value) from warehouse.fact_sales group by 1"
    before, marts = sorted(shop.sql(sums)), shop.sql(BY_DAY)
    dropped = ("curated/fact_sales", "warehouse/fact_sales", "marts/mart_daily_department")
    with shop.active():
        project = load_project()
        with pytest.raises(ConfigError, match="was never published") as unknown:
            plan_reset(project, "curated/fact_sale")
        assert "curated/fact_sales" in unknown.value.fix
        for asset in dropped:
            reset(project, plan_reset(project, asset))
        assert not lake_of(project).table("curated", "fact_sales").exists()
    query = "select asset, count(*) from platform.partition_ledger group by 1"
    assert not {*dropped} & {*dict(shop.sql(query))}
    assert shop.sql("select to_regclass('warehouse.fact_sales')") == [(None,)]
    select = "group:curated or group:warehouse or group:marts"
    assert shop.backfill(DAYS[0], DAYS[3], select=select).exit_code == 0
    assert sorted(shop.sql(sums)) == before
    assert shop.sql(BY_DAY) == marts
    assert dict(shop.sql(query))["curated/fact_sales"] == len(DAYS)


def test_a_day_follows_after_everything_old_was_removed(
    held: tuple[Installation, BackfillResult],
) -> None:
    shop, _ = held
    with shop.active():
        project = load_project()
        definitions = build_definitions(project)
        schedule = definitions.resolve_schedule_def("maintenance")
        assert isinstance(schedule, dg.ScheduleDefinition)
        assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
        job = definitions.resolve_job_def("maintenance")
        assert job.execute_in_process(instance=dg.DagsterInstance.ephemeral()).success
        young = maintain(project)
        old = maintain(project, now=datetime.now(UTC) + timedelta(days=3))
        assert sum(table.snapshots_expired for table in young) == 0
        assert sum(table.files_deleted for table in old) > 0
        assert maintain(project, now=datetime.now(UTC) + timedelta(days=3))[0].files_deleted == 0
        facts = lake_of(project).table("curated", "fact_sales")
        facts.scan().verify()
    shop.deliver(DAYS[2], good_lines(DAYS[2], 4))
    assert shop.backfill(DAYS[2], DAYS[2]).exit_code == 0
    assert dict(shop.sql(BY_DAY))[DAYS[2]] == 4
