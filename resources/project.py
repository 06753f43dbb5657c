"""Dagster resources of a configured project.

Dagster stores the configuration of resources with every run. Therefore these resources have folders
and names only; URLs and keys, which may be secret, are looked up when used.
"""

from functools import lru_cache
from typing import Self

from headrace.config.loader import Project, load_project
from headrace.lake.storage import LakeSettings
from headrace.project.connections import lake_settings, postgres_url
from resources.lake import LakeResource
from resources.landing import LandingResource
from resources.warehouse import WarehouseResource

_LOOKED_UP = "(looked up when used)"


@lru_cache(maxsize=8)
def project_at(home: str, folder: str, environment: str) -> Project:
    """The configuration in `folder`; read once per process."""
    return load_project(
        {"HEADRACE_HOME": home, "HEADRACE_CONFIG": folder, "PIPELINE_ENV": environment}
    )


def landing_resource(project: Project) -> LandingResource:
    """The landing zone of `project`: a folder, or a prefix of a bucket.

    The same as `headrace.project.connections.landing_of`, with the keys left in the environment.
    """
    storage = project.settings.landing
    uri = project.expand(storage.uri)
    if not uri.startswith("s3://"):
        return LandingResource(uri=uri)
    # Lazy: dagster-aws and boto3 take over a second to import.
    from resources.s3_landing import S3LandingResource  # noqa: PLC0415

    return S3LandingResource.of_settings(uri, storage.s3)


@lru_cache(maxsize=8)
def _warehouse_url(home: str, folder: str, environment: str) -> str:
    # Cached: checking that the embedded server runs opens a connection, and a run needs the URL
    # dozens of times.
    return postgres_url(project_at(home, folder, environment), "warehouse")


@lru_cache(maxsize=8)
def _lake_settings(home: str, folder: str, environment: str) -> LakeSettings:
    return lake_settings(project_at(home, folder, environment))


class ProjectLakeResource(LakeResource):
    """The lake of a configured project."""

    catalog_uri: str = _LOOKED_UP
    location: str = _LOOKED_UP
    home: str
    folder: str
    environment: str

    @classmethod
    def of_project(cls, project: Project) -> Self:
        """The lake of `project`."""
        return cls(
            home=str(project.home), folder=str(project.folder), environment=project.environment
        )

    @property
    def settings(self) -> LakeSettings:
        """The settings in the library's form, keys resolved."""
        return _lake_settings(self.home, self.folder, self.environment)


class ProjectWarehouseResource(WarehouseResource):
    """The warehouse of a configured project."""

    home: str
    folder: str
    environment: str

    @classmethod
    def of_project(cls, project: Project) -> Self:
        """The warehouse of `project`."""
        return cls(
            home=str(project.home), folder=str(project.folder), environment=project.environment
        )

    def database_url(self) -> str:
        """The URL of the database; starts the embedded server if it does not run."""
        return _warehouse_url(self.home, self.folder, self.environment)
