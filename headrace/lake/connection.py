"""The connection to the lake: catalog and storage, opened on first use."""

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
from pyiceberg.types import DateType, TimestampType, TimestamptzType
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
_METADATA_LOCATION = text(
    """
    select metadata_location from iceberg_tables
    where catalog_name = :catalog and table_namespace = :namespace and table_name = :name
    """
)


class LakeConnection:
    """Catalog and storage of one lake. Safe to share between threads, not with a forked process."""

    def __init__(self, settings: LakeSettings) -> None:
        self.settings = settings
        self.storage = Storage(settings)
        self._catalog: SqlCatalog | None = None
        self._opening = Lock()
        # Metadata files are immutable: a table is unchanged while `metadata_location` is unchanged.
        self._loaded: dict[Identifier, Table] = {}

    def __repr__(self) -> str:
        return f"LakeConnection({self.settings!r})"

    @property
    def catalog(self) -> SqlCatalog:
        """PyIceberg's catalog with its connection pool; creates the catalog's tables if missing."""
        with self._opening:
            if self._catalog is None:
                self._catalog = self._open()
            return self._catalog

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        with self._opening:
            self._loaded.clear()
            if self._catalog is not None:
                self._catalog.close()
                self._catalog = None

    def default_location(self, identifier: Identifier) -> str:
        """The location of a table that does not exist yet."""
        return "/".join((self.settings.root, *identifier))

    def load(self, identifier: Identifier) -> Table | None:
        """The current state of a table; None if it does not exist.

        Raises:
            CatalogUnavailableError: The catalog's database does not answer.
        """
        with self.map_errors():
            known = self._loaded.get(identifier)
            if known is not None and known.metadata_location == self._metadata_location(identifier):
                return _copy_of(known)
            try:
                found = self.catalog.load_table(identifier)
            except NoSuchTableError:
                return None
        self._loaded[identifier] = _copy_of(found)
        return found

    def _metadata_location(self, identifier: Identifier) -> str | None:
        namespace, name = identifier
        parameters = {"catalog": self.catalog.name, "namespace": namespace, "name": name}
        with self.catalog.engine.connect() as connection:
            location: str | None = connection.execute(_METADATA_LOCATION, parameters).scalar()
            return location

    def load_or_create(self, identifier: Identifier, schema: Schema, spec: PartitionSpec) -> Table:
        """The current state of a table; created with `schema` and `spec` if it does not exist.

        If two runs create it at once, the second uses the table of the first.

        Raises:
            CatalogUnavailableError: The catalog's database does not answer.
        """
        table = self.load(identifier)
        if table is not None:
            return table
        with self.map_errors():
            with suppress(NamespaceAlreadyExistsError, IntegrityError):
                self.catalog.create_namespace(identifier[0])
            with suppress(TableAlreadyExistsError):
                return self.catalog.create_table(
                    identifier,
                    schema=schema,
                    location=self.default_location(identifier),
                    partition_spec=spec,
                    # The engines write no field ids: readers map columns by name.
                    properties=_TABLE_PROPERTIES
                    | _metrics_properties(schema)
                    | {"schema.name-mapping.default": schema.name_mapping.model_dump_json()},
                )
            return self.catalog.load_table(identifier)

    @contextmanager
    def map_errors(self) -> Iterator[None]:
        """Raise this project's errors for the database driver's.

        Raises:
            CatalogUnavailableError: The catalog's database does not answer.
        """
        try:
            yield
        except OperationalError as error:
            raise CatalogUnavailableError(
                f"the lake's catalog does not answer: {error.orig}",
                fix="check that its Postgres runs, and the catalog's URL",
            ) from error

    def _open(self) -> SqlCatalog:
        with self.map_errors():
            try:
                return SqlCatalog(self.settings.catalog_name, **self._properties())
            except (ProgrammingError, IntegrityError):
                # Another process created the catalog's tables between our check and our CREATE.
                return SqlCatalog(self.settings.catalog_name, **self._properties())

    def _properties(self) -> dict[str, str]:
        s3 = self.settings.s3
        given = {
            "uri": _with_driver(self.settings.catalog_uri),
            "warehouse": self.settings.root,
            # After a restart of Postgres the pool reconnects, instead of failing the run.
            "pool_pre_ping": "true",
            "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
            "s3.endpoint": s3.endpoint,
            "s3.region": s3.region,
            "s3.access-key-id": s3.access_key_id,
            "s3.secret-access-key": s3.secret_access_key,
        }
        return {name: value for name, value in given.items() if value is not None}


def _metrics_properties(schema: Schema) -> dict[str, str]:
    """Bounds for dates and timestamps, by which scans skip files; counts for the other columns.

    Days are unsorted by other columns: their bounds skip hardly any file, and cost a commit more
    than all the rest of a file's metadata (decisions/0036).
    """
    modes = {
        f"write.metadata.metrics.column.{field.name}": "full"
        for field in schema.fields
        if isinstance(field.field_type, DateType | TimestampType | TimestamptzType)
    }
    return {"write.metadata.metrics.default": "counts"} | modes


def _copy_of(table: Table) -> Table:
    """Another object for the same state: a commit changes the object through which it is made."""
    return Table(
        table.name(), table.metadata, table.metadata_location, io=table.io, catalog=table.catalog
    )


def _with_driver(uri: str) -> str:
    # SQLAlchemy 2.0 reads a bare postgresql:// as psycopg 2, SQLAlchemy 2.1 as psycopg 3.
    url = make_url(uri)
    if url.drivername in {"postgres", "postgresql"}:
        url = url.set(drivername="postgresql+psycopg2")
    return url.render_as_string(hide_password=False)
