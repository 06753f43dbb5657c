"""The connector of an entity, by what its source names as `connector`."""

from collections.abc import Callable, Mapping
from typing import Protocol

from headrace.config.loader import Project
from headrace.config.sources.file_source import FilesSource
from headrace.sources.base import Connector
from headrace.sources.files.connector import files_connector
from headrace.sources.landing.landing_zone import Landing
from headrace.sources.mysql.database import mysql_connector
from headrace.sources.postgres.connector import postgres_connector


class Factory(Protocol):
    """Makes the connector of one entity of a project; connects to nothing yet."""

    def __call__(self, project: Project, name: str, landing: Callable[[], Landing]) -> Connector:
        """The connector.

        Args:
            project: The configuration. Secrets of connections are read from it when the connector
                connects (`headrace.sources.connections`), not before.
            name: The entity, as `source.entity`.
            landing: Makes the landing zone, for connectors of files.
        """
        ...


def _files(project: Project, name: str, landing: Callable[[], Landing]) -> Connector:
    source, _ = project.entities()[name]
    if not isinstance(source, FilesSource) or source.connection is None:
        return files_connector(project, name, landing())
    # asyncssh takes half a second to import: only where a source is on an SFTP server.
    from headrace.sources.landing.sftp_landing import sftp_landing  # noqa: PLC0415

    return files_connector(project, name, sftp_landing(project, source.connection))


def _postgres(
    project: Project,
    name: str,
    landing: Callable[[], Landing],  # noqa: ARG001
) -> Connector:
    return postgres_connector(project, name)


def _rest(
    project: Project,
    name: str,
    landing: Callable[[], Landing],  # noqa: ARG001
) -> Connector:
    # httpx2 takes a tenth of a second to import: only where a source is an API.
    from headrace.sources.rest.connector import rest_connector  # noqa: PLC0415

    return rest_connector(project, name)


def _mysql(
    project: Project,
    name: str,
    landing: Callable[[], Landing],  # noqa: ARG001
) -> Connector:
    return mysql_connector(project, name)


def _mongodb(
    project: Project,
    name: str,
    landing: Callable[[], Landing],  # noqa: ARG001
) -> Connector:
    # pymongo takes a third of a second to import: only where a source is a MongoDB.
    from headrace.sources.mongodb.collection import mongodb_connector  # noqa: PLC0415

    return mongodb_connector(project, name)


FACTORIES: Mapping[str, Factory] = {
    "files": _files,
    "parquet_files": _files,
    "postgres": _postgres,
    "mysql": _mysql,
    "rest": _rest,
    "mongodb": _mongodb,
}


def connector_of(project: Project, name: str, landing: Callable[[], Landing]) -> Connector:
    """The connector of the entity `name` (`source.entity`) of a project."""
    source, _ = project.entities()[name]
    return FACTORIES[source.connector](project, name, landing)
