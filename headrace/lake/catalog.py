"""The lake's catalog: lists, opens and drops tables."""

from contextlib import suppress

from pyiceberg.exceptions import NoSuchTableError

from headrace.lake.connection import LakeConnection
from headrace.lake.storage import LakeSettings
from headrace.lake.table import LakeTable
from headrace.schema import PARTITION_COLUMN


class LakeCatalog:
    """The tables of a lake. It connects on first use."""

    def __init__(self, settings: LakeSettings) -> None:
        self._connection = LakeConnection(settings)

    def __repr__(self) -> str:
        return f"LakeCatalog({self._connection.settings!r})"

    def table(
        self, namespace: str, name: str, *, partition_column: str = PARTITION_COLUMN
    ) -> LakeTable:
        """The table `namespace.name`, which need not exist.

        Args:
            namespace: The layer, such as `raw`.
            name: The table's name in the namespace.
            partition_column: The date column by which a new table is partitioned.
        """
        return LakeTable(self._connection, namespace, name, partition_column)

    def tables(self) -> tuple[tuple[str, str], ...]:
        """Namespace and name of every table, sorted.

        Raises:
            CatalogUnavailableError: The catalog's database does not answer.
        """
        with self._connection.map_errors():
            catalog = self._connection.catalog
            found = [
                (".".join(identifier[:-1]), identifier[-1])
                for namespace in catalog.list_namespaces()
                for identifier in catalog.list_tables(namespace)
            ]
        return tuple(sorted(found))

    def drop(self, namespace: str, name: str) -> None:
        """Drop a table and delete its files; no error if it does not exist.

        Raises:
            CatalogUnavailableError: The catalog's database does not answer.
        """
        table = self.table(namespace, name)
        location = table.location
        with self._connection.map_errors(), suppress(NoSuchTableError):
            self._connection.catalog.drop_table((namespace, name))
        table.storage.delete(file.uri for file in table.storage.list_files(location))

    def close(self) -> None:
        """Close the connections to the catalog; the next use opens new ones."""
        self._connection.close()
