"""Repair of raw: a connector that reads again the rows of a table by which raw differs from it."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.config.sources.table_source import DatabaseEntity, TimeCursorExtract
from headrace.raw.comparison import Comparison, RowIdentity, as_deleted, is_among, sorted_rows
from headrace.raw.repeated_rows import cursor_value
from headrace.raw.row_digests import Digests
from headrace.schema import Column
from headrace.sources.base import (
    CapturePlan,
    CaptureRun,
    CaptureState,
    ReadUnit,
    SourceObject,
    short_id,
)
from headrace.sources.tables.change_table import ChangeTableConnector
from headrace.sources.tables.connector import TableConnector

_TICK = timedelta(microseconds=1)

AnyTableConnector = TableConnector | ChangeTableConnector


@dataclass(frozen=True)
class RepairConnector:
    """Reads the rows that differ, and deletes of the rows that the table lacks. See Connector.

    Attributes:
        connector: Reads the table.
        identity: What says which row of the table a row of raw is.
        run: Id and time of the comparison.
        state: What raw holds.
        found: The comparison.
        raw_batches: Reads the rows of raw, the latest files first.
    """

    connector: AnyTableConnector
    identity: RowIdentity
    run: CaptureRun
    state: CaptureState
    found: Comparison
    raw_batches: Callable[[], Iterator[pa.RecordBatch]]

    @property
    def entity(self) -> DatabaseEntity:
        """What is declared of the table."""
        return self.connector.entity

    @property
    def kind(self) -> str:
        """See Connector."""
        return self.connector.kind

    @property
    def columns(self) -> tuple[Column, ...]:
        """See Connector."""
        return self.connector.columns

    def partitions(self) -> list[date]:
        """The partitions of the rows."""
        if self.entity.extract.partition_by is None:
            return sorted(self.connector.sparse_partitions(self.state, self.run))[-1:]
        days = self.found.days
        if not self.identity.by_partition and len(self.found.extra):
            days.add(self.entity.grain.start_of(self._last_moment().date()))
        return sorted(days)

    def plan(self, partitions: Sequence[date], state: CaptureState, run: CaptureRun) -> CapturePlan:
        """See Connector."""
        order = self.connector.order_after(state, run)
        label = self.connector.database.label
        read = SourceObject(
            name=label,
            version=order,
            order=order,
            object_id=short_id(label, "reconcile", order),
            read_id=short_id(order),
            modified_at=run.captured_at,
        )
        by = self.entity.extract.partition_by
        unit = ReadUnit(tuple(sorted(partitions)), (read,), by, is_log=True)
        return CapturePlan((unit,), memo=order)

    def read(
        self,
        source_object: SourceObject,  # noqa: ARG002
        partition: date | None = None,  # noqa: ARG002
        columns: Collection[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """See Connector. Reads both sides once more."""
        identity = self.identity
        wanted = sorted_rows([self.found.missing, self.found.changed])
        extra = sorted_rows([self.found.extra])
        returned: list[Digests] = []
        for batch in self.connector.read(self.connector.whole(self.run)):
            read, digests = identity.of_source(batch, lambda _: None)
            # A row that came back since the comparison was not deleted.
            returned.append(digests[is_among(digests, extra)])
            again = read.filter(pa.array(is_among(digests, wanted)))
            if again.num_rows:
                yield _chosen(again, columns)
        absent = np.setdiff1d(extra, sorted_rows(returned))
        for batch in self._deletes(absent):
            yield _chosen(batch, columns)

    def state_after(
        self,
        plan: CapturePlan,
        state: CaptureState,
        failed: Collection[date],  # noqa: ARG002
    ) -> Mapping[str, str]:
        """See Connector. What is captured is captured; later captures come after this one."""
        return self.connector.after_repair(state, plan.memo)

    def pending_partitions(
        self,
        state: CaptureState,  # noqa: ARG002
        run: CaptureRun,  # noqa: ARG002
    ) -> Mapping[date, str]:
        """See Connector."""
        return {}

    def sparse_partitions(
        self,
        state: CaptureState,  # noqa: ARG002
        run: CaptureRun,  # noqa: ARG002
    ) -> set[date]:
        """See Connector."""
        return {*self.partitions()}

    def _deletes(self, absent: npt.NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        names = [column.name for column in self.entity.columns]
        is_done = np.zeros(len(absent), dtype=bool)
        for batch in self.raw_batches() if len(absent) else ():
            digests = self.identity.of_raw(batch)
            # Of rows with one key in a file, the last one counts.
            _, last = np.unique(digests["row"][::-1], return_index=True)
            chosen = np.zeros(len(digests), dtype=bool)
            chosen[len(digests) - 1 - last] = True
            chosen &= is_among(digests, absent)
            place = np.searchsorted(absent, digests["row"][chosen])
            chosen[chosen] = ~is_done[place]
            is_done[place] = True
            rows = batch.filter(pa.array(chosen & digests["is_due"]))
            if rows.num_rows:
                yield self._timed(as_deleted(rows, names))

    def _timed(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Deletes at the last moment that exists, where the cursor is the time of a change."""
        extract = self.entity.extract
        if self.identity.by_partition or not isinstance(extract, TimeCursorExtract):
            return rows
        place = rows.schema.get_field_index(extract.cursor)
        field = rows.schema.field(place)
        if pa.types.is_string(field.type):
            return rows
        at = cursor_value(self._last_moment(), field.type, self.entity.timezone)
        last, values = pa.scalar(at, field.type), rows.column(place)
        is_later = pc.greater(values, last).fill_null(False)  # noqa: FBT003
        times = pc.if_else(is_later, values, last)
        return rows.set_column(place, field, times)

    def _last_moment(self) -> datetime:
        today = datetime.now(UTC).date()
        end = min(self.run.partitions.end or today, today)
        last = datetime.combine(end, time(), UTC) - _TICK
        return max(last, datetime.combine(self.run.partitions.start, time(), UTC))


def _chosen(batch: pa.RecordBatch, columns: Collection[str] | None) -> pa.RecordBatch:
    if columns is None:
        return batch
    return batch.select([n for n in batch.schema.names if n in columns or n.startswith("_")])
