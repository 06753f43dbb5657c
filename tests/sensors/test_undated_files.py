"""Files whose names say no day ask for the days of their rows: the sensor itself, on real parts."""

import os
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from headrace.config.loader import Project, load_project
from headrace.ledger.records import PartitionRecord
from headrace.pipeline.raw import RawStep
from headrace.raw.units import partitions_of_rows
from headrace.sources.base import Connector, SourceObject
from headrace.sources.files.connector import files_connector
from platform_assets.metadata import FOR_COMMANDS
from platform_assets.partitions import (
    PARTITION_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    daily_partitions,
)
from platform_assets.raw import build_raw_asset
from resources.lake import LakeResource
from resources.landing import LandingResource
from resources.warehouse import WarehouseResource
from sensors import undated_files
from sensors.landing import build_landing_sensor
from tests import servers

CONFIG = Path(__file__).parents[2] / "demo/files/config"
HEADER = "id,sold_at,amount\n"


@dg.job
def _job() -> None:
    """Nothing: the sensor only asks for it."""


class Shop:
    """A landing zone with orders of any day in any file, and the sensor that watches it."""

    def __init__(self, folder: Path, start: date = date(2017, 1, 1), **extract: str) -> None:
        self.project = _project(folder, start, extract)
        self.landing = folder / "landing"
        self.landing.mkdir()
        self.lake = LakeResource(
            catalog_uri=servers.postgres().uri("lake"), location=str(folder / "lake")
        )
        self.cursor: str | None = None
        self.said = ""

    def deliver(self, *rows: str, name: str = "orders.csv", header: str = HEADER) -> None:
        """Write a file, older than the time in which it may still be written."""
        (self.landing / name).write_text(header + "".join(f"{row}\n" for row in rows))
        now = datetime.now(UTC).timestamp() - 60
        os.utime(self.landing / name, (now, now))

    def tick(self) -> list[tuple[str, str]]:
        """The windows that the sensor asks for now."""
        partitions = daily_partitions(self.project.settings.partitions)
        sensor = build_landing_sensor(self.project, _job, partitions)
        resources: dict[str, Any] = {
            "landing": LandingResource(uri=str(self.landing)),
            "lake": self.lake,
            "warehouse": WarehouseResource(url=servers.postgres().uri("warehouse")),
        }
        context = dg.build_sensor_context(cursor=self.cursor, resources=resources)
        result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        self.said = str(result.skip_reason.skip_message if result.skip_reason else "")
        tags = [request.tags for request in result.run_requests or ()]
        both = [(PARTITION_TAG, PARTITION_TAG), (RANGE_START_TAG, RANGE_END_TAG)]
        return [(t[a][-2:], t[b][-2:]) for t in tags for a, b in both if a in t]

    def capture(self, *days: int) -> None:
        """Capture days of January into raw."""
        name = next(iter(self.project.entities()))
        source, entity = self.project.entities()[name]
        table = self.lake.table("raw", f"{source.name}_{entity.name}")
        step = RawStep(
            asset="raw",
            source=name,
            entity=entity,
            connector=files_connector(
                self.project, name, LandingResource(uri=str(self.landing)).landing()
            ),
            table=table,
            partitions=self.project.settings.partitions,
            run_id="r",
        )
        staged = step.stage([date(2017, 1, day) for day in days], {})
        table.append(staged.partitions, schema=staged.schema, properties={})


def _project(folder: Path, start: date, extract: dict[str, str]) -> Project:
    config = Path(shutil.copytree(CONFIG, folder / "config"))
    (config / "development.yaml").write_text(
        f"partitions: {{start: {start}, end: {start + timedelta(days=31)}}}\n"
        "sensor: {settle_seconds: 0}\n"
    )
    columns = [
        {"name": "id", "type": "bigint"},
        {"name": "sold_at", "type": "timestamp"},
        {"name": "amount", "type": "decimal(12,2)"},
    ]
    extract = {"mode": "files", **(extract or {"path": "orders*.csv", "partition_by": "sold_at"})}
    entity = {"name": "orders", "key": ["id"], "extract": extract, "columns": columns}
    # Lakes of all tests share a catalog: a name of its own keeps the tables apart.
    source = {"name": f"s{abs(hash(folder)) % 10**12}", "connector": "files", "entities": [entity]}
    shutil.rmtree(config / "sources")
    (config / "sources").mkdir()
    (config / "sources/shop.yaml").write_text(yaml.safe_dump(source))
    fact = {
        "name": "fact_orders",
        "entity": f"{source['name']}.orders",
        "grain": ["id"],
        "event_time": "sold_at",
        "measures": ["amount"],
    }
    calendar = {"start": start, "end": start + timedelta(days=364)}
    star = {"calendar": calendar, "facts": [fact]}
    (config / "star.yaml").write_text(yaml.safe_dump(star))
    return load_project({"HEADRACE_CONFIG": str(config), "HEADRACE_HOME": str(folder / "home")})


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_a_new_file_asks_for_the_days_of_its_rows(shop: Shop) -> None:
    shop.deliver("1,2017-01-05 10:00:00,1", "2,2017-01-06 10:00:00,1", "3,2017-01-09 23:59:59,1")
    assert shop.tick() == [("05", "06"), ("09", "09")]
    assert shop.tick() == []


def test_a_changed_file_asks_for_its_days_and_for_those_that_it_leaves(shop: Shop) -> None:
    shop.deliver("1,2017-01-05 10:00:00,1", "2,2017-01-06 10:00:00,1")
    shop.tick()
    shop.capture(5, 6)
    shop.deliver("2,2017-01-06 10:00:00,1", "3,2017-01-20 10:00:00,1")
    assert shop.tick() == [("05", "06"), ("20", "20")]


def test_rows_without_a_day_ask_for_the_first(shop: Shop) -> None:
    shop.deliver("1,2017-01-05 10:00:00,1", "2,soon,1", "3,2031-01-01 10:00:00,1")
    assert shop.tick() == [("01", "01"), ("05", "05")]


def test_a_file_that_cannot_be_read_asks_for_a_day_whose_run_says_why(shop: Shop) -> None:
    shop.deliver("1,2", header="no,columns,of,ours\n")
    assert shop.tick() == [("01", "01")]


def test_only_the_file_that_is_new_is_asked_for(shop: Shop) -> None:
    shop.deliver("1,2017-01-05 10:00:00,1")
    shop.tick()
    shop.deliver("2,2017-01-07 10:00:00,1", name="orders-2.csv")
    assert shop.tick() == [("07", "07")]


def test_a_large_file_asks_for_every_day(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensors.undated_files._READ_BYTES", 10)
    shop.deliver("1,2017-01-05 10:00:00,1")
    assert shop.tick() == [("01", "31")]


def test_files_beyond_the_budget_wait_for_the_next_tick(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.deliver("1,2017-01-05 10:00:00,1")
    with monkeypatch.context() as patch:
        patch.setattr("sensors.undated_files._TICK_SECONDS", -1)
        assert shop.tick() == []
    assert shop.tick() == [("05", "05")]


def test_a_tick_says_what_it_looked_at_and_its_cursor_does_not_grow(shop: Shop) -> None:
    for number in range(30):
        shop.deliver("1,2017-01-05 10:00:00,1", name=f"orders-{number}.csv")
    assert shop.tick() == [("05", "05")]
    first = shop.cursor
    assert shop.tick() == []
    assert shop.said == "30 files listed, no day requested"
    assert shop.cursor == first
    assert len(str(shop.cursor)) < 20


def test_files_that_no_entity_claims_are_named_by_each_tick(shop: Shop) -> None:
    shop.deliver("1,2017-01-05 10:00:00,1", name="Orders.CSV")
    assert shop.tick() == []
    assert "1 file in the landing zone matches no entity: Orders.CSV (nearest: " in shop.said


def test_rows_outside_the_days_that_exist_are_read_once_and_ask_for_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.deliver("1,2016-01-05 10:00:00,1", "2,2031-01-05 10:00:00,1")
    assert shop.tick() == []
    monkeypatch.setattr("sensors.undated_files.partitions_of_rows", _unread)
    assert shop.tick() == []


def _unread(*_: object) -> object:
    raise AssertionError("the file is read again")


def test_a_file_that_breaks_its_reader_keeps_no_other_from_its_days(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = partitions_of_rows

    def reads(connector: Connector, read: SourceObject, *others: Any) -> object:
        if read.name == "orders-bad.csv":
            raise UnicodeDecodeError("utf-16", b"", 0, 1, "no byte order mark")
        return real(connector, read, *others)

    monkeypatch.setattr(undated_files, "partitions_of_rows", reads)
    shop.deliver("1,2017-01-05 10:00:00,1", name="orders-bad.csv")
    shop.deliver("1,2017-01-07 10:00:00,1")
    assert shop.tick() == [("01", "01"), ("07", "07")]


def test_a_file_that_was_moved_in_with_an_old_time_is_asked_for(shop: Shop) -> None:
    shop.deliver("1,2017-01-05 10:00:00,1")
    shop.tick()
    kept = shop.landing / "orders.csv"
    shop.deliver("1,2017-01-06 10:00:00,1", name=".new")
    times = kept.stat()
    os.utime(shop.landing / ".new", ns=(times.st_atime_ns, times.st_mtime_ns))
    (shop.landing / ".new").replace(kept)
    assert shop.tick() == [("06", "06")]


def test_a_day_that_waited_for_its_file_in_vain_is_asked_for_once_that_time_is_over(
    tmp_path: Path,
) -> None:
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=ago) for ago in (9, 3, 2, 0)]
    shop = Shop(tmp_path, days[0], path="orders-{date:%Y-%m-%d}.csv", expected_by="00:00")
    entity = next(iter(shop.project.entities()))
    name = entity.replace(".", "_")
    warehouse = WarehouseResource(url=servers.postgres().uri("warehouse"))
    held = [PartitionRecord(f"raw/{name}", day, "held", "r") for day in days]
    warehouse.ledger().record([*held[:2], held[3]])
    # The first one is long over, the third was never tried, the last one still has time.
    assert shop.tick() == [(f"{days[1]}"[-2:], f"{days[1]}"[-2:])]
    # The same time is the asset's freshness policy in Dagster.
    (spec,) = build_raw_asset(shop.project, entity, FOR_COMMANDS).specs
    assert spec.freshness_policy == dg.FreshnessPolicy.cron(
        "0 0 * * 0,1,2,3,4,5,6", timedelta(days=1)
    )
