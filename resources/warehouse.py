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
    """A Postgres database: one that is there already, or an embedded one in a folder.

    Nothing is connected or started before it is used.

    Attributes:
        url: As `postgresql://user:password@host:5432/database`; give it as `dg.EnvVar`, which
            Dagster does not show.
        embedded: Without a URL: the folder in which an embedded server is started.
        sessions: How many sessions a load copies and indexes with.
    """

    url: str | None = None
    embedded: str | None = None
    sessions: int = 2

    def database_url(self) -> str:
        """Where the database is; starts the embedded server if it does not run."""
        if self.url:
            return self.url
        if self.embedded:
            return server.start(Path(self.embedded)).uri("warehouse")
        raise ConfigError(
            "WarehouseResource has neither url nor embedded",
            fix="give a postgresql:// URL, or the folder of an embedded server",
        )

    def connection_factory(self) -> Connect:
        """What opens sessions with the database."""
        return connection_factory(self.database_url())

    def warehouse(self) -> Warehouse:
        """Staging, publishing and reading tables."""
        return Warehouse(self.connection_factory(), self.sessions)

    def ledger(self) -> Ledger:
        """The ledger in this database."""
        return Ledger(session_pool(self.database_url()))

    def seen_files(self) -> SeenFiles:
        """What the watch on the landing zone has asked for."""
        return SeenFiles(session_pool(self.database_url()))

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Hold a lock of the database while a block runs, against all other runs."""
        return locked(self.connection_factory(), name)
