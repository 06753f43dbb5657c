"""The connection to the lake: catalog and storage, opened when first used."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from headrace.errors import CatalogUnavailableError
from headrace.lake.storage import LakeSettings, Storage

Identifier = tuple[str, str]

# Every commit writes a metadata file; a reader needs its own until it has planned.
_TABLE_PROPERTIES = {
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "50",
}
_WHERE_NOW = text(
    """
    select metadata_location from iceberg_tables
    where catalog_name = :catalog and table_namespace = :namespace and table_name = :name
    """
)


class LakeConnection:
    """Catalog and storage of one lake. Threads may share it; a forked process may not."""

    def __init__(self, settings: LakeSettings) -> None:
        self.settings = settings
        self.storage = Storage(settings)
        self._catalog: SqlCatalog | None = None
        self._opening = Lock()
        # As last seen. A metadata file never changes: while the catalog names the same one, so does
        # nothing in the table.
        self._loaded: dict[Identifier, Table] = {}

    def __repr__(self) -> str:
        return f"LakeConnection({self.settings!r})"

    @property
    def catalog(self) -> SqlCatalog:
        """PyIceberg's catalog, with a pool of connections; its tables are made when missing."""
        with self._opening:
            if self._catalog is None:
                self._catalog = self._open()
            return self._catalog

    def close(self) -> None:
        """Give up the connections; the next use opens new ones."""
        with self._opening:
            self._loaded.clear()
            if self._catalog is not None:
                self._catalog.close()
                self._catalog = None

    def default_location(self, identifier: Identifier) -> str:
        """Where a table that does not exist yet will be."""
        return "/".join((self.settings.root, *identifier))

    def load(self, identifier: Identifier) -> Table | None:
        """The table as it is now, or None when there is none.

        Raises:
            CatalogUnavailableError: The catalog's database does not answer.
        """
        with self.answering():
            known = self._loaded.get(identifier)
            if known is not None and known.metadata_location == self._metadata_now(identifier):
                return _view_of(known)
            try:
                found = self.catalog.load_table(identifier)
            except NoSuchTableError:
                return None
        self._loaded[identifier] = _view_of(found)
        return found

    def _metadata_now(self, identifier: Identifier) -> str | None:
        namespace, name = identifier
        asked = {"catalog": self.catalog.name, "namespace": namespace, "name": name}
        with self.catalog.engine.connect() as connection:
            location: str | None = connection.execute(_WHERE_NOW, asked).scalar()
            return location

    def load_or_create(self, identifier: Identifier, schema: Schema, spec: PartitionSpec) -> Table:
        """The table as it is now, made with `schema` and `spec` when there is none.

        Two runs may do so at once: the one that comes second takes the first one's table.

        Raises:
            CatalogUnavailableError: The catalog's database does not answer.
        """
        table = self.load(identifier)
        if table is not None:
            return table
        with self.answering():
            with suppress(NamespaceAlreadyExistsError, IntegrityError):
                self.catalog.create_namespace(identifier[0])
            with suppress(TableAlreadyExistsError):
                return self.catalog.create_table(
                    identifier,
                    schema=schema,
                    location=self.default_location(identifier),
                    partition_spec=spec,
                    # The engines write no field ids: readers find the columns by name.
                    properties=_TABLE_PROPERTIES
                    | {"schema.name-mapping.default": schema.name_mapping.model_dump_json()},
                )
            return self.catalog.load_table(identifier)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Translate the database driver's errors.

        Raises:
            CatalogUnavailableError: The catalog's database does not answer.
        """
        try:
            yield
        except OperationalError as error:
            raise CatalogUnavailableError(
                f"the lake's catalog does not answer: {error.orig}",
                fix="see that its Postgres runs and that the catalog's URL names it",
            ) from error

    def _open(self) -> SqlCatalog:
        with self.answering():
            try:
                return SqlCatalog(self.settings.catalog_name, **self._properties())
            except (ProgrammingError, IntegrityError):
                # Another process made the catalog's tables between our look and our CREATE.
                return SqlCatalog(self.settings.catalog_name, **self._properties())

    def _properties(self) -> dict[str, str]:
        s3 = self.settings.s3
        given = {
            "uri": _with_driver(self.settings.catalog_uri),
            "warehouse": self.settings.root,
            # A Postgres that was restarted costs one new connection, not a failed run.
            "pool_pre_ping": "true",
            "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
            "s3.endpoint": s3.endpoint,
            "s3.region": s3.region,
            "s3.access-key-id": s3.access_key_id,
            "s3.secret-access-key": s3.secret_access_key,
        }
        return {name: value for name, value in given.items() if value is not None}


def _view_of(table: Table) -> Table:
    """A table of its own: a commit through one moves it on, and no other."""
    return Table(
        table.name(), table.metadata, table.metadata_location, io=table.io, catalog=table.catalog
    )


def _with_driver(uri: str) -> str:
    # A bare postgresql:// means psycopg 2 to SQLAlchemy 2.0 and psycopg 3 to 2.1.
    url = make_url(uri)
    if url.drivername in {"postgres", "postgresql"}:
        url = url.set(drivername="postgresql+psycopg2")
    return url.render_as_string(hide_password=False)
