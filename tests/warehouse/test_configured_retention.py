"""Months go as the configuration says: in the table, in the ledger, by the schedule's own job."""

import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, time
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
import yaml

from headrace.config.loader import Project, load_project
from headrace.date_keys import date_key
from headrace.ledger.ledger import Ledger
from headrace.ledger.records import PartitionRecord
from headrace.ledger.staleness import read_stale
from headrace.operations.retention import drop_old_months
from headrace.pipeline.warehouse import fact_table
from headrace.project.lineage import warehouse_lineage
from headrace.warehouse.ddl.partitions import first_retained_month
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import WarehouseTable
from headrace.warehouse.warehouse import Warehouse
from jobs.retention import build_retention_job, build_retention_schedule
from platform_assets.definitions import build_definitions
from resources.warehouse import WarehouseResource

ROOT = Path(__file__).parents[2]
TODAY = date(2017, 3, 15)
DAYS = [date(2016, 12, 31), date(2017, 1, 31), date(2017, 2, 1), date(2017, 3, 14)]
DATE_KEYS = "select date_key from warehouse.fact_sales order by 1"


def configured(folder: Path, keep_months: int | None) -> Project:
    """The demo's project, with a fact that is kept for so long."""
    shutil.copytree(ROOT / "demo/files/config", folder, dirs_exist_ok=True)
    path = folder / "star.yaml"
    star = yaml.safe_load(path.read_text())
    if keep_months is not None:
        star["facts"][0]["keep_months"] = keep_months
    path.write_text(yaml.safe_dump(star))
    overlay = {"dbt_project": str(ROOT / "demo/files/dbt")}
    (folder / "development.yaml").write_text(yaml.safe_dump(overlay))
    return load_project({"HEADRACE_CONFIG": str(folder)})


def one_row(table: WarehouseTable, day: date) -> pa.Table:
    at = datetime.combine(day, time(12), UTC)

    def value(field: pa.Field) -> object:
        if field.name == "date_key":
            return date_key(day)
        if pa.types.is_timestamp(field.type):
            return at if field.type.tz else at.replace(tzinfo=None)
        return str(day) if pa.types.is_string(field.type) else 1

    schema = table.schema.arrow()
    return pa.table([pa.array([value(field)], field.type) for field in schema], schema=schema)


def load_days(warehouse: Warehouse, project: Project, days: list[date]) -> None:
    """One row a day, and what the ledger says of it in the lake and in the warehouse."""
    table = fact_table(project, project.star.facts[0])
    slices = [([day], one_row(table, day).to_reader()) for day in days]
    warehouse.publish([warehouse.stage(table, days, slices)])
    Ledger(warehouse.connect).record(
        PartitionRecord(f"{layer}/fact_sales", day, "published", "run", 1, rows_out=1)
        for layer in ("curated", "warehouse")
        for day in days
    )


def test_months_that_are_no_longer_kept_leave_the_table_and_the_ledger(
    warehouse: Warehouse, session: Session, tmp_path: Path
) -> None:
    project = configured(tmp_path, 2)
    load_days(warehouse, project, DAYS)
    dropped = drop_old_months(project, warehouse.connect, TODAY)
    assert dropped == {"fact_sales": [date(2016, 12, 1), date(2017, 1, 1)]}
    assert session.execute(DATE_KEYS).fetchall() == [(20170201,), (20170314,)]
    ledger = Ledger(warehouse.connect)
    assert sorted(filter(None, ledger.states("warehouse/fact_sales"))) == DAYS[2:]
    # The lake has its own retention, and its days are no reason to load a dropped one again.
    assert sorted(filter(None, ledger.states("curated/fact_sales"))) == DAYS
    lineage = replace(warehouse_lineage(project)["fact_sales"], retained_from=date(2017, 2, 1))
    assert {stale.partition for stale in read_stale(ledger, lineage)} <= {*DAYS[2:]}
    assert drop_old_months(project, warehouse.connect, TODAY) == {"fact_sales": []}


def test_a_fact_without_an_end_is_left_alone_and_has_no_schedule(
    warehouse: Warehouse, session: Session, tmp_path: Path
) -> None:
    project = configured(tmp_path, None)
    load_days(warehouse, project, DAYS)
    assert drop_old_months(project, warehouse.connect, TODAY) == {}
    assert len(session.execute(DATE_KEYS).fetchall()) == len(DAYS)
    assert build_retention_job(project) is None


def test_the_schedule_drops_old_months_once_the_configuration_says_how_many_stay(
    warehouse: Warehouse, session: Session, url: str, tmp_path: Path
) -> None:
    project = configured(tmp_path, 2)
    kept = first_retained_month(2)
    load_days(warehouse, project, [date(2017, 1, 31), kept])
    job = build_retention_job(project)
    assert job is not None
    schedule = build_retention_schedule(project, job)
    assert (schedule.cron_schedule, schedule.job_name) == ("0 5 * * *", "retention")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    resources = {"warehouse": WarehouseResource(url=url)}
    assert job.execute_in_process(resources=resources).success
    assert session.execute(DATE_KEYS).fetchall() == [(date_key(kept),)]


@pytest.mark.parametrize("keep_months", [None, 2])
@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_the_schedule_is_there_where_it_has_something_to_do(
    tmp_path: Path, keep_months: int | None
) -> None:
    repository = build_definitions(configured(tmp_path, keep_months)).get_repository_def()
    names = sorted(each.name for each in repository.schedule_defs)
    always = ["daily_at_night", "maintenance"]
    assert names == (always if keep_months is None else [*always, "retention"])
