"""The stores that promise the contract. A new one is one class and one line in STORES.

A store is a small value that can be sent to another process, and finds its table by itself there.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

import pyarrow as pa

from headrace.lake.catalog import LakeCatalog
from headrace.lake.staging import stage_batches
from headrace.lake.storage import LakeSettings
from headrace.lake.table import LakeTable
from headrace.schema import TableSchema
from headrace.staged import StagedPartition, new_token
from headrace.warehouse.loading.staging import month_batches
from headrace.warehouse.sessions import connection_factory
from headrace.warehouse.tables import WarehouseTable
from headrace.warehouse.warehouse import Warehouse
from tests import servers

if TYPE_CHECKING:
    # Not at run time: the suite's processes need no Dagster, and its import takes longer than
    # their work.
    from dagster import ConfigurableIOManager

DAY = "_partition_date"
Row = Mapping[str, object]


class PartitionStore(Protocol):
    """One table, partitioned by the date column `_partition_date`, and its IO manager."""

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name of the table, and the key of the asset that it is in Dagster."""

    @property
    def metadata(self) -> Mapping[str, object]:
        """What the asset in Dagster says of its table."""

    def publish(self, days: Mapping[date, Sequence[Row]], schema: TableSchema) -> None:
        """Make each of `days` hold exactly these rows, in one step; no rows: the day is empty."""

    def read(self, days: Collection[date] | None = None) -> pa.Table:
        """The published rows of `days`, or of all, in any order."""

    def io_manager(self) -> "ConfigurableIOManager":
        """What publishes and loads the table in Dagster."""


def arrow_rows(rows: Sequence[Row], schema: TableSchema) -> pa.Table:
    """Rows as a table; a column that a row lacks is null."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema.arrow())


@dataclass(frozen=True)
class LakeStore:
    """An Iceberg table."""

    settings: LakeSettings
    name: str

    @property
    def key(self) -> tuple[str, str]:
        return "contract", self.name

    @property
    def metadata(self) -> Mapping[str, object]:
        return {"partition_by": DAY}

    @property
    def table(self) -> LakeTable:
        return _lake(self.settings).table(*self.key)

    def publish(self, days: Mapping[date, Sequence[Row]], schema: TableSchema) -> None:
        table = self.table
        token = new_token()
        rows = arrow_rows([row for day in days for row in days[day]], schema)
        stage_batches(
            rows.to_reader(), table.storage, table.staging_uri(token), partition_column=DAY
        )
        staged = table.staged(token)
        table.replace({d: staged.get(d, StagedPartition(d)) for d in days}, schema=schema)

    def read(self, days: Collection[date] | None = None) -> pa.Table:
        return self.table.scan(days).batches().read_all()

    def io_manager(self) -> "ConfigurableIOManager":
        from io_managers.iceberg import IcebergIOManager  # noqa: PLC0415  # as above
        from resources.lake import LakeResource  # noqa: PLC0415

        return IcebergIOManager(lake=LakeResource.of(self.settings))


@dataclass(frozen=True)
class WarehouseStore:
    """A Postgres table; with `is_keyed` not cut into months, but with the key day and sale."""

    url: str
    name: str
    is_keyed: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return "contract", self.name

    @property
    def metadata(self) -> Mapping[str, object]:
        keyed = {"mode": "upsert", "primary_key": [DAY, "sale"]} if self.is_keyed else {}
        return {"partition_by": DAY, **keyed}

    def publish(self, days: Mapping[date, Sequence[Row]], schema: TableSchema) -> None:
        table = WarehouseTable(*self.key, schema, partition_column=DAY)
        if self.is_keyed:
            by_key = (DAY, "sale")
            table = WarehouseTable(
                *self.key, schema, primary_key=by_key, mode="upsert", day_column=DAY
            )
        rows = arrow_rows([row for day in days for row in days[day]], schema)
        warehouse = Warehouse(connection_factory(self.url))
        warehouse.publish([warehouse.stage(table, days, month_batches(table, days, rows))])

    def read(self, days: Collection[date] | None = None) -> pa.Table:
        by = DAY if self.is_keyed else None
        return (
            Warehouse(connection_factory(self.url))
            .read(*self.key, days=days, day_column=by)
            .read_all()
        )

    def io_manager(self) -> "ConfigurableIOManager":
        from io_managers.postgres import PostgresIOManager  # noqa: PLC0415  # as above
        from resources.warehouse import WarehouseResource  # noqa: PLC0415

        return PostgresIOManager(warehouse=WarehouseResource(url=self.url))


@lru_cache(maxsize=4)
def _lake(settings: LakeSettings) -> LakeCatalog:
    return LakeCatalog(settings)


def _table_name() -> str:
    return f"t_{uuid4().hex[:12]}"


def local_lake(folder: str) -> PartitionStore:
    """A lake in a local folder."""
    return LakeStore(LakeSettings(servers.postgres().uri("lake"), f"{folder}/lake"), _table_name())


def s3_lake(folder: str) -> PartitionStore:  # its files are in the bucket
    """A lake in an S3 bucket."""
    store = servers.s3()
    settings = LakeSettings(servers.postgres().uri("lake"), store.prefix("lake"), store.settings)
    return LakeStore(settings, _table_name())


def warehouse(folder: str) -> PartitionStore:  # its files are the server's
    """A warehouse in Postgres."""
    return WarehouseStore(servers.postgres().uri("warehouse"), _table_name())


def keyed_warehouse(folder: str) -> PartitionStore:  # its files are the server's
    """A warehouse in Postgres whose rows are updated by key."""
    return WarehouseStore(servers.postgres().uri("warehouse"), _table_name(), is_keyed=True)


# Name to what makes a store with a table that nobody used before, given an empty folder.
STORES: Mapping[str, Callable[[str], PartitionStore]] = MappingProxyType(
    {"local": local_lake, "s3": s3_lake, "postgres": warehouse, "upsert": keyed_warehouse}
)
