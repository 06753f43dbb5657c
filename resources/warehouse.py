"""The warehouse as a Dagster resource."""

from contextlib import AbstractContextManager
from pathlib import Path

import dagster as dg

from headrace.embedded_postgres import server
from headrace.errors import ConfigError
from headrace.ledger.ledger import Ledger
from headrace.ledger.seen_files import SeenFiles
from headrace.warehouse.pool import session_pool
from headrace.warehouse.sessions import Connect, connection_factory, locked
from headrace.warehouse.warehouse import Warehouse


class WarehouseResource(dg.ConfigurableResource[None]):
    """A Postgres database: an existing one, or an embedded server in a folder.

    It connects, or starts the server, on first use.

    Attributes:
        url: As `postgresql://user:password@host:5432/database`; give it as `dg.EnvVar`, which
            Dagster does not show.
        embedded: Without a URL: the folder of the embedded server.
        sessions: How many sessions a load uses to copy and index.
    """

    url: str | None = None
    embedded: str | None = None
    sessions: int = 2

    def database_url(self) -> str:
        """The URL of the database; starts the embedded server if it does not run."""
        if self.url:
            return self.url
        if self.embedded:
            return server.start(Path(self.embedded)).uri("warehouse")
        raise ConfigError(
            "WarehouseResource has neither url nor embedded",
            fix="give a postgresql:// URL, or the folder of an embedded server",
        )

    def connection_factory(self) -> Connect:
        """A function that opens sessions with the database."""
        return connection_factory(self.database_url())

    def warehouse(self) -> Warehouse:
        """Stages, publishes and reads tables."""
        return Warehouse(self.connection_factory(), self.sessions)

    def ledger(self) -> Ledger:
        """The ledger in this database."""
        return Ledger(session_pool(self.database_url()))

    def seen_files(self) -> SeenFiles:
        """The files that the landing sensor has requested."""
        return SeenFiles(session_pool(self.database_url()))

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Hold an advisory lock of the database during the block."""
        return locked(self.connection_factory(), name)
