"""The engine as a Dagster resource."""

from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_pyspark import PySparkResource
from pydantic import Field

from headrace.config.loader import Project
from headrace.engine.session import SessionSettings, connect
from headrace.project.connections import engine_settings
from resources.project import project_at

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class SparkResource(PySparkResource):
    """Sail in this process, or with `{"spark.remote": "sc://host:port"}` a cluster.

    It connects on first use: a run that only captures needs no engine. All runs of a process share
    one session.

    Attributes:
        spark_config: `spark.remote`, and other settings of the session.
    """

    spark_config: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of_project(cls, project: Project) -> "SparkResource":
        """The engine of `project`."""
        remote = project.settings.engine.remote
        return ProjectSparkResource(
            spark_config={"spark.remote": remote} if remote else {},
            home=str(project.home),
            folder=str(project.folder),
            environment=project.environment,
        )

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Do nothing: PySparkResource would start a session for each run."""

    @property
    def settings(self) -> SessionSettings:
        """The settings in the library's form."""
        conf = {name: str(value) for name, value in self.spark_config.items()}
        return SessionSettings(remote=conf.pop("spark.remote", None), conf=conf)

    @property
    def spark_session(self) -> "SparkSession":
        """The process's session."""
        return connect(self.settings)

    def session(self) -> "SparkSession":
        """The process's session."""
        return self.spark_session


class ProjectSparkResource(SparkResource):
    """The engine of a configured project, with access to the lake's bucket.

    Keys are looked up when used: Dagster stores the configuration of resources with every run.
    """

    home: str
    folder: str
    environment: str

    @property
    def settings(self) -> SessionSettings:
        """The settings in the library's form, keys resolved."""
        return engine_settings(
            project_at(self.home, self.folder, self.environment), super().settings
        )
