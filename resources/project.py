"""A configured project as Dagster resources.

Dagster stores the configuration of resources with every run. So these hold folders and names only;
URLs and keys, which may be secret, are looked up in the moment of use.
"""

from functools import lru_cache
from typing import Self

from headrace.config.loader import Project, load_project
from headrace.lake.storage import LakeSettings
from headrace.project.connections import lake_settings, postgres_url
from resources.lake import LakeResource
from resources.warehouse import WarehouseResource

_LOOKED_UP = "(looked up when used)"


@lru_cache(maxsize=8)
def project_at(home: str, folder: str, environment: str) -> Project:
    """The configuration in `folder`; read once a process."""
    return load_project(
        {"HEADRACE_HOME": home, "HEADRACE_CONFIG": folder, "PIPELINE_ENV": environment}
    )


@lru_cache(maxsize=8)
def _warehouse_url(home: str, folder: str, environment: str) -> str:
    # Seeing that the embedded server runs takes a connection; a run asks dozens of times.
    return postgres_url(project_at(home, folder, environment), "warehouse")


@lru_cache(maxsize=8)
def _lake_settings(home: str, folder: str, environment: str) -> LakeSettings:
    return lake_settings(project_at(home, folder, environment))


class ProjectLakeResource(LakeResource):
    """The lake that the configuration names."""

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
    """The warehouse that the configuration names."""

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
        """Where the database is; starts the embedded server if it does not run."""
        return _warehouse_url(self.home, self.folder, self.environment)
