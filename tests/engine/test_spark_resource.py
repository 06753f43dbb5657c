import shutil
from pathlib import Path

import dagster as dg
import pytest
from dagster_pyspark import PySparkResource
from pyspark.sql import SparkSession

from headrace.config.loader import Project, load_project
from headrace.engine.session import SessionSettings, engine_name
from resources.spark import SparkResource


def materialize(resource: SparkResource) -> list[SparkSession]:
    found = []

    @dg.asset
    def first(spark: SparkResource) -> None:
        found.append(spark.session())

    @dg.asset(deps=[first])
    def second(spark: SparkResource) -> None:
        found.append(spark.spark_session)

    assert dg.materialize([first, second], resources={"spark": resource}).success
    return found


def test_all_steps_and_runs_share_the_process_session(sail: SparkSession) -> None:
    sessions = [*materialize(SparkResource()), *materialize(SparkResource())]
    assert all(session is sail for session in sessions)


@pytest.mark.spark
def test_a_remote_url_names_a_cluster(spark_jvm_url: str) -> None:
    resource = SparkResource(spark_config={"spark.remote": spark_jvm_url})
    assert {engine_name(session) for session in materialize(resource)} == {"spark"}


def test_it_is_a_resource_of_dagster_pyspark() -> None:
    assert isinstance(SparkResource(), PySparkResource)


def test_nothing_starts_before_a_session_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr("resources.spark.connect", fail)

    @dg.asset
    def idle(spark: SparkResource) -> None:
        """Needs the resource but not the engine."""

    assert dg.materialize([idle], resources={"spark": SparkResource()}).success


LAKE_ON_S3 = """
lake:
  uri: s3://lake/prefix
  s3:
    endpoint: http://127.0.0.1:9000
    region: eu-central-1
    access_key: {env: LAKE_KEY}
    secret_key: {env: LAKE_SECRET}
"""


def project_with(tmp_path: Path, settings: str) -> Project:
    config = shutil.copytree(Path("demo/files/config"), tmp_path / "config")
    with (config / "base.yaml").open("a") as file:
        file.write(settings)
    return load_project({"HEADRACE_CONFIG": str(config), "HEADRACE_HOME": str(tmp_path / "home")})


def test_a_project_engine_reaches_the_bucket_of_its_lake(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAKE_KEY", "canary-key")
    monkeypatch.setenv("LAKE_SECRET", "canary-secret")
    resource = SparkResource.of_project(project_with(tmp_path, LAKE_ON_S3))
    assert resource.settings.s3 == {
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "canary-key",
        "AWS_SECRET_ACCESS_KEY": "canary-secret",
        "AWS_ENDPOINT": "http://127.0.0.1:9000",
        "AWS_ALLOW_HTTP": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
    }
    # Dagster stores what a resource is made of.
    assert "canary" not in str(resource.model_dump())


def test_a_project_with_a_lake_in_a_folder_says_nothing_of_s3(tmp_path: Path) -> None:
    settings = SparkResource.of_project(project_with(tmp_path, "")).settings
    assert (settings.s3, settings.remote) == (None, None)


def test_a_project_may_name_a_cluster(tmp_path: Path) -> None:
    project = project_with(tmp_path, "engine: {remote: 'sc://spark:15002'}\n" + LAKE_ON_S3)
    # A cluster has its own keys: those of the lake are not even looked up.
    assert SparkResource.of_project(project).settings == SessionSettings(remote="sc://spark:15002")
