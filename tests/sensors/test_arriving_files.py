"""Files of an SFTP server that arrive by a marker ask for their days: the sensor, on real parts."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from headrace.config.loader import Project, load_project
from platform_assets.partitions import PARTITION_TAG, daily_partitions
from resources.lake import LakeResource
from resources.landing import LandingResource
from resources.warehouse import WarehouseResource
from sensors.landing import build_landing_sensor
from tests import servers
from tests.sftp_server import PASSWORD, SftpServer, sftp_server

CONFIG = Path(__file__).parents[2] / "demo/files/config"


@dg.job
def _job() -> None:
    """Nothing: the sensor only asks for it."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SftpServer]:
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)
    (tmp_path / "sftp").mkdir()
    with sftp_server(tmp_path / "sftp") as running:
        yield running


def _project(folder: Path, server: SftpServer) -> Project:
    config = Path(shutil.copytree(CONFIG, folder / "config"))
    settings = {
        "partitions": {"start": "2017-01-01", "end": "2017-02-01"},
        "sensor": {"settle_seconds": 0},
        "connections": {"partner": server.connection()},
    }
    (config / "development.yaml").write_text(yaml.safe_dump(settings))
    columns = [{"name": "id", "type": "bigint"}]
    arrival = {"type": "marker", "path": "{path}.done"}
    plain = {"mode": "files", "path": "a-{date:%Y-%m-%d}.csv", "arrival": arrival}
    packed = {"mode": "files", "path": "b-{date:%Y-%m-%d}.zip!*.csv"}
    entities = [
        {"name": name, "extract": extract, "key": ["id"], "columns": columns}
        for name, extract in (("plain", plain), ("packed", packed))
    ]
    source = {"name": "far", "connector": "files", "connection": "partner", "entities": entities}
    (config / "sources" / "far.yaml").write_text(yaml.safe_dump(source))
    return load_project({"HEADRACE_HOME": str(folder), "HEADRACE_CONFIG": str(config)})


def test_a_day_is_asked_for_when_its_file_has_arrived(tmp_path: Path, server: SftpServer) -> None:
    project = _project(tmp_path, server)
    partitions = daily_partitions(project.settings.partitions)
    sensor = build_landing_sensor(project, _job, partitions, "partner")
    resources = {
        "landing": LandingResource(uri=str(tmp_path / "none")),
        "lake": LakeResource(
            catalog_uri=servers.postgres().uri("lake"), location=str(tmp_path / "lake")
        ),
        "warehouse": WarehouseResource(url=servers.postgres().uri("warehouse")),
    }
    cursor: str | None = None

    def deliver(name: str, content: str = "id\n1\n") -> None:
        (server.folder / name).write_text(content)
        now = time.time() - 60
        os.utime(server.folder / name, (now, now))

    def tick() -> list[str]:
        nonlocal cursor
        result = sensor(dg.build_sensor_context(cursor=cursor, resources=resources))
        assert isinstance(result, dg.SensorResult)
        cursor = result.cursor
        return [request.tags[PARTITION_TAG] for request in result.run_requests or ()]

    assert sensor.name == "new_files_partner"
    deliver("a-2017-01-02.csv")
    assert tick() == []
    deliver("a-2017-01-02.csv.done", "")
    deliver("b-2017-01-05.zip", "no archive: its day reports it")
    assert tick() == ["2017-01-02", "2017-01-05"]
    assert tick() == []
