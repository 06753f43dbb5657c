"""The lake as a Dagster resource."""

from collections.abc import Collection
from datetime import date
from functools import lru_cache
from typing import Self

import dagster as dg

from headrace.lake.catalog import LakeCatalog
from headrace.lake.scan import LakeScan
from headrace.lake.storage import LakeSettings, S3Access
from headrace.lake.table import LakeTable
from headrace.schema import PARTITION_COLUMN

# Runs in one process share the connections: each run creates new resources.
_LAKES_AT_ONCE = 8


class LakeResource(dg.ConfigurableResource[None]):
    """Iceberg tables in a local folder or an S3 prefix, their catalog in Postgres.

    Attributes:
        catalog_uri: URL of the Postgres database that holds the Iceberg catalog.
        location: A local folder, or `s3://bucket/prefix`.
        s3_endpoint: URL of an S3 server other than AWS.
        s3_region: Region of the bucket.
        s3_access_key_id: Without it, the machine's own credentials are used.
        s3_secret_access_key: As above; give it as `dg.EnvVar`, which Dagster does not show.
        catalog_name: Name of the catalog in its database.
    """

    catalog_uri: str
    location: str
    s3_endpoint: str | None = None
    s3_region: str = "us-east-1"
    s3_access_key_id: str | None = None
    s3_secret_access_key: str | None = None
    catalog_name: str = "lake"

    @classmethod
    def of(cls, settings: LakeSettings) -> Self:
        """The resource for the library's settings."""
        return cls(
            catalog_uri=settings.catalog_uri,
            location=settings.location,
            s3_endpoint=settings.s3.endpoint,
            s3_region=settings.s3.region,
            s3_access_key_id=settings.s3.access_key_id,
            s3_secret_access_key=settings.s3.secret_access_key,
            catalog_name=settings.catalog_name,
        )

    @property
    def settings(self) -> LakeSettings:
        """The settings in the library's form."""
        return LakeSettings(
            catalog_uri=self.catalog_uri,
            location=self.location,
            s3=S3Access(
                endpoint=self.s3_endpoint,
                region=self.s3_region,
                access_key_id=self.s3_access_key_id,
                secret_access_key=self.s3_secret_access_key,
            ),
            catalog_name=self.catalog_name,
        )

    @property
    def catalog(self) -> LakeCatalog:
        """The lake's tables. It connects on first use."""
        return _catalog(self.settings)

    def table(
        self, namespace: str, name: str, *, partition_column: str = PARTITION_COLUMN
    ) -> LakeTable:
        """The table `namespace.name`, which need not exist."""
        return self.catalog.table(namespace, name, partition_column=partition_column)

    def scan(self, namespace: str, name: str, days: Collection[date] | None = None) -> LakeScan:
        """The published state of some days of a table, or of all.

        Raises:
            UnpublishedTableError: The table does not exist.
        """
        return self.table(namespace, name).scan(days)


@lru_cache(maxsize=_LAKES_AT_ONCE)
def _catalog(settings: LakeSettings) -> LakeCatalog:
    return LakeCatalog(settings)
