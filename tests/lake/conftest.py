"""A lake in a local folder; its tables are in a namespace that no other test uses."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from pyspark.sql import SparkSession

from headrace.lake.catalog import LakeCatalog
from headrace.lake.storage import LakeSettings
from headrace.lake.table import LakeTable
from tests import servers


@pytest.fixture
def settings(tmp_path: Path) -> LakeSettings:
    return LakeSettings(servers.postgres().uri("lake"), str(tmp_path / "the lake"))


@pytest.fixture
def lake(settings: LakeSettings) -> Iterator[LakeCatalog]:
    catalog = LakeCatalog(settings)
    yield catalog
    catalog.close()


@pytest.fixture
def table(lake: LakeCatalog) -> LakeTable:
    return lake.table(f"n_{uuid4().hex[:12]}", "sales")


@pytest.fixture
def s3_table() -> LakeTable:
    store = servers.s3()
    settings = LakeSettings(servers.postgres().uri("lake"), store.prefix("lake"), store.settings)
    return LakeCatalog(settings).table(f"n_{uuid4().hex[:12]}", "sales")


@pytest.fixture
def spark() -> SparkSession:
    return servers.sail()
