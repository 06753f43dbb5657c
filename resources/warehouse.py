"""The warehouse as a Dagster resource.

Belongs here: its configuration in Dagster's form.
Elsewhere: what can be done with it (headrace.warehouse, headrace.ledger), a configured project's
warehouse (resources.project).
"""

from contextlib import AbstractContextManager
from pathlib import Path

import dagster as dg

from headrace.errors import ConfigError
from headrace.ledger.ledger import Ledger
from headrace.ledger.seen_files import SeenFiles
from headrace.warehouse import server
from headrace.warehouse.kept import kept_sessions
from headrace.warehouse.load import Warehouse
from headrace.warehouse.sessions import Connect, connector, locked


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

    def connector(self) -> Connect:
        """What opens sessions with the database."""
        return connector(self.database_url())

    def warehouse(self) -> Warehouse:
        """Staging, publishing and reading tables."""
        return Warehouse(self.connector(), self.sessions)

    def ledger(self) -> Ledger:
        """The ledger in this database."""
        return Ledger(kept_sessions(self.database_url()))

    def seen_files(self) -> SeenFiles:
        """What the watch on the landing zone has asked for."""
        return SeenFiles(kept_sessions(self.database_url()))

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Hold a lock of the database while a block runs, against all other runs."""
        return locked(self.connector(), name)
