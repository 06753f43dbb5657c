"""Which month's table a row belongs to, and whether its day was asked for at all."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from headrace.warehouse.sessions import RowsRefusedError
from headrace.warehouse.tables import WarehouseTable, by_month, month_of

_NAMED_AT_MOST = 5


def month_slices(
    table: WarehouseTable, days: Collection[date], rows: pa.Table
) -> Iterator[tuple[Collection[date], pa.RecordBatchReader]]:
    """Rows that are in memory, cut so that each month can be copied and indexed by itself.

    Rows of no day in `days` come last, for the load to refuse them.
    """
    if table.partition_column is None or table.partition_column not in rows.column_names:
        yield (), rows.to_reader()
        return
    column = rows[table.partition_column]
    for some in by_month(days).values():
        values = pa.array([table.partition_value(day) for day in some], column.type)
        yield some, rows.filter(pc.is_in(column, values)).to_reader()
    every = pa.array([table.partition_value(day) for day in days], column.type)
    strangers = rows.filter(pc.invert(pc.is_in(column, every)))
    if strangers.num_rows:
        yield (), strangers.to_reader()


class Router:
    """Sends rows to months, and remembers how many rows each day has."""

    def __init__(self, table: WarehouseTable, days: Collection[date]) -> None:
        self._table = table
        self._days = {table.partition_value(day): day for day in days}
        self.rows_by_day: Counter[date] = Counter()

    def route(
        self, batches: Iterable[pa.RecordBatch]
    ) -> Iterator[tuple[date | None, pa.RecordBatch]]:
        """Each batch with the month it belongs to, cut where it has rows of several.

        A table that is not cut into months has the month None only.

        Raises:
            RowsRefusedError: A row has no day, or one that the load does not replace.
        """
        for batch in batches:
            if self._table.column_of_days is None:
                yield None, batch
                continue
            column = batch.column(self._table.column_of_days)
            counted = Counter(
                {c["values"]: c["counts"] for c in pc.value_counts(column).to_pylist()}
            )
            self._check(counted)
            rows = {self._days[value]: count for value, count in counted.items()}
            self.rows_by_day.update(rows)
            if self._table.partition_column is None:
                yield None, batch
                continue
            yield from self._cut(batch, column, sorted({month_of(day) for day in rows}))

    def _cut(
        self, batch: pa.RecordBatch, column: pa.Array, months: list[date]
    ) -> Iterator[tuple[date, pa.RecordBatch]]:
        if len(months) == 1:
            yield months[0], batch
            return
        for month in months:
            values = [value for value, day in self._days.items() if month_of(day) == month]
            chosen = pc.is_in(column, pa.array(values, column.type))
            yield month, batch.filter(chosen)

    def _check(self, counted: Counter[date | int | None]) -> None:
        strangers = sorted(str(value) for value in counted if value not in self._days)
        if strangers:
            shown = ", ".join(strangers[:_NAMED_AT_MOST])
            more = len(strangers) - _NAMED_AT_MOST
            raise RowsRefusedError(
                f"{self._table.label}: rows of {shown}{f' and {more} more' if more > 0 else ''} in "
                f"column {self._table.column_of_days}, which this load does not replace",
                fix="load the days that the rows have, or filter the rows by the load's days",
            )
