"""Both engines, for every test of a transformation: ask for `spark`, and the test runs on each.

`sail` and `spark_jvm` are the one and the other. Spark needs Java: without it, its tests are
skipped, but fail where the environment has CI. All tests of a process share one server.

Also how a parallel run is shared between its workers (tests.workers).
"""

import os
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from headrace.engine.session import SessionSettings, connect, disconnect
from tests import spark_server, workers

_ENGINES = ["sail", pytest.param("spark_jvm", marks=pytest.mark.spark)]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> workers.ByServer | None:
    if config.getvalue("dist") != "loadscope":
        return None
    # xdist would start with the modules of the most tests, which are the quick ones.
    config.option.loadscopereorder = False
    return workers.ByServer(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        workers.put_long_first(items)


@pytest.fixture(scope="session")
def sail() -> SparkSession:
    return connect(SessionSettings())


@pytest.fixture(scope="session")
def spark_jvm_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if reason := spark_server.missing_java():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with spark_server.running(tmp_path_factory.mktemp("spark")) as url:
        yield url


@pytest.fixture(scope="session")
def spark_jvm(spark_jvm_url: str) -> Iterator[SparkSession]:
    settings = SessionSettings(remote=spark_jvm_url)
    yield connect(settings)
    disconnect(settings)


@pytest.fixture(params=_ENGINES, ids=["sail", "spark"])
def spark(request: pytest.FixtureRequest) -> SparkSession:
    session: SparkSession = request.getfixturevalue(request.param)
    return session


@pytest.fixture(
    params=["sail", pytest.param("spark_jvm", marks=[pytest.mark.spark, pytest.mark.slow])],
    ids=["sail", "spark"],
)
def spark_nightly(request: pytest.FixtureRequest) -> SparkSession:
    """Both engines, Spark in the nightly tests only: it needs minutes for plans as large as these.

    What the plans are made of is tested on both engines in `make test` (tests/engine).
    """
    session: SparkSession = request.getfixturevalue(request.param)
    return session
