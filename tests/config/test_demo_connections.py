"""Connections to the demo's servers: which connector reads which."""

import shutil
from pathlib import Path

import pytest

from headrace.config.loader import load_project
from headrace.errors import ConfigError

CONFIG = Path(__file__).parents[2] / "config"


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (
            "sources/loyalty.yaml",
            "connector: postgres",
            "connector: mysql",
            "loyalty.yaml:4: connection: shop is the demo's shop, which connector mysql",
        ),
        (
            "development.yaml",
            "server: catalogue",
            "server: shop",
            "catalogue.yaml:4: connection: catalogue is the demo's shop, which connector rest",
        ),
        (
            "development.yaml",
            "server: weather",
            "server: wether",
            "development.yaml:9: connections.weather.server: 'wether' is not one of shop,",
        ),
    ],
)
def test_a_server_that_does_not_fit_is_named(
    tmp_path: Path, file: str, old: str, new: str, said: str
) -> None:
    folder = Path(shutil.copytree(CONFIG, tmp_path / "config"))
    path = folder / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError) as error:
        load_project({"HEADRACE_CONFIG": str(folder), "HEADRACE_HOME": "/scratch"})
    assert said in str(error.value)
