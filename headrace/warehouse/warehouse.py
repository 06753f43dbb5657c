"""The warehouse: stage, publish and read tables."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from headrace.warehouse import reading
from headrace.warehouse.loading import load_transaction, staging
from headrace.warehouse.loading.load_transaction import BeforeCommit, LoadResult
from headrace.warehouse.loading.staged_loads import StagedLoad
from headrace.warehouse.loading.staging import StagingBatch
from headrace.warehouse.sessions import Connect
from headrace.warehouse.tables import WarehouseTable


@dataclass(frozen=True)
class Warehouse:
    """A Postgres database with published tables.

    Attributes:
        connect: Opens sessions; see `headrace.warehouse.sessions.connection_factory`.
        sessions: Number of sessions that copy and index.
    """

    connect: Connect
    sessions: int = 2

    def stage(
        self,
        table: WarehouseTable,
        days: Collection[date],
        batches: Iterable[StagingBatch],
        *,
        deletes: pa.RecordBatchReader | None = None,
    ) -> StagedLoad:
        """Copy rows to staging tables; see `headrace.warehouse.loading.staging.stage`."""
        return staging.stage(
            self.connect, table, days, batches, deletes=deletes, sessions=self.sessions
        )

    def publish(
        self,
        loads: Sequence[StagedLoad],
        *,
        before_commit: BeforeCommit | None = None,
    ) -> tuple[LoadResult, ...]:
        """Publish loads in one transaction; see `load_transaction.publish`."""
        return load_transaction.publish(self.connect, loads, before_commit=before_commit)

    def read(
        self,
        namespace: str,
        name: str,
        *,
        days: Collection[date] | None = None,
        columns: Sequence[str] | None = None,
        day_column: str | None = None,
    ) -> pa.RecordBatchReader:
        """Rows of some days of a table, or of all; see `headrace.warehouse.reading.read`."""
        return reading.read(
            self.connect, namespace, name, days=days, columns=columns, day_column=day_column
        )
