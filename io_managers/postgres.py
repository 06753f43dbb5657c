"""The Postgres IO manager: publishes an asset's value as days of a table, and reads them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Protocol, cast, runtime_checkable

import dagster as dg
import pyarrow as pa

from headrace.errors import UnknownColumnError
from headrace.schema import PARTITION_COLUMN, TableSchema, schema_of_arrow
from headrace.warehouse.loading.load_transaction import GroupMember, LoadGroup, LoadResult
from headrace.warehouse.loading.staged_loads import StagedLoad
from headrace.warehouse.loading.staging import StagingBatch, month_batches
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import Mode, WarehouseTable, by_month
from io_managers.contexts import (
    PublicationGate,
    days_of,
    form_of,
    metadata_of,
    permanent_errors_are_not_retried,
)
from resources.warehouse import WarehouseResource


class LoadRecorder(Protocol):
    """Is called around every publication, and may write in its transaction."""

    def publishing(
        self,
        context: dg.OutputContext,
        output: object,
        session: Session,
        publications: Mapping[str, LoadResult],
    ) -> None:
        """Called in the transaction, after the last change of rows.

        Args:
            context: Context of the step's output; of a group, that of the last output.
            output: The published value; of a group, the last one.
            session: Its writes are committed with the publication; an exception rolls back both.
            publications: The changes by table name, without the unchanged tables of a group.
        """

    def failed(self, context: dg.OutputContext, output: object, error: Exception) -> None:
        """Called when the publication failed; the error is raised afterwards.

        Args:
            context: As above.
            output: As above.
            error: The error.
        """

    def published(
        self, context: dg.OutputContext, output: object, publications: Mapping[str, LoadResult]
    ) -> None:
        """Called after the commit; an exception does not undo it.

        Args:
            context: As above.
            output: As above.
            publications: As above.
        """


@runtime_checkable
class RowsByDay(Protocol):
    """Rows that can be read by days and columns, such as `headrace.lake.scan.LakeScan`."""

    schema: TableSchema
    days: tuple[date, ...]

    def batches(
        self, days: Collection[date] | None = None, columns: Sequence[str] | None = None
    ) -> pa.RecordBatchReader:
        """The rows of `days`, or of all days."""


class PostgresIOManager(dg.ConfigurableIOManager):
    """Publishes assets as Postgres tables and reads them, one day or a window of days.

    The run of an asset with daily partitions replaces the run's days in one transaction, days
    without rows included. The run of an asset without partitions makes the table equal to the
    value.

    The asset's metadata may set:
        table: `namespace.name`; default: the last part of the key, in the namespace of the part
            before.
        partition_by: The column with a row's day, a date or yyyymmdd; default: `_partition_date`.
        primary_key: A column, or a list of columns.
        indexes: A list of columns or of lists of columns.
        mode: `partition_replace`, the default of an asset with partitions; `upsert`, the default of
            an asset without partitions that has a primary key; or `truncate_and_load`. With
            partitions, `upsert` writes the rows of the run's days that differ; the primary key
            must contain `partition_by`.

    An asset may return an Arrow table or reader, a pandas or Spark frame, a lake scan (any
    `RowsByDay`), a load that is staged already (`StagedLoad`), or one table of a group that is
    published in one transaction with its last table: a `GroupMember`, or an object that has one as
    `member`. An input is read as its annotation says: `pa.Table`, `pa.RecordBatchReader` or a
    pandas `DataFrame`.

    Attributes:
        warehouse: The warehouse with the tables.
        recorder: Called around every publication; may write in its transaction.
        gate: Decides which days may be read; without one, all days.
        default_namespace: The namespace of assets whose key has one part.
    """

    warehouse: dg.ResourceDependency[WarehouseResource]
    recorder: dg.ResourceDependency[LoadRecorder | None] = None  # type: ignore[assignment]
    gate: dg.ResourceDependency[PublicationGate | None] = None  # type: ignore[assignment]
    default_namespace: str = "warehouse"

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Publish a value: the run's days, or the whole table of an asset without partitions.

        Raises:
            dg.Failure: The value cannot be published (incompatible columns, days outside the run,
                refused rows), and a retry cannot help.
        """
        member = obj if isinstance(obj, GroupMember) else getattr(obj, "member", None)
        with permanent_errors_are_not_retried():
            if not isinstance(member, GroupMember):
                load = obj if isinstance(obj, StagedLoad) else self._staged(context, obj)
                name = load.table.name
                member = LoadGroup(
                    self.warehouse.connection_factory(), [name], {name: load}
                ).member(name)
            if not member.arrive():
                return
            try:
                publications = member.group.publish(
                    lambda session, changes: self._record(context, obj, session, changes)
                )
            except Exception as error:  # of any class: the recorder records its days as failed
                if self.recorder is not None:
                    self.recorder.failed(context, obj, error)
                raise
        own = publications.get(member.name)
        context.add_output_metadata(own.metadata() if own else {"unchanged": True})
        if self.recorder is not None:
            self.recorder.published(context, obj, publications)

    def load_input(self, context: dg.InputContext) -> object:
        """Read the input's days, or the whole table where the asset has none.

        Raises:
            dg.Failure: The table does not exist, or a column cannot be read.
        """
        days = days_of(context)
        wanted = context.dagster_type.typing_type
        with permanent_errors_are_not_retried():
            if days is not None and self.gate is not None:
                days = sorted(self.gate.readable(context.asset_key, days))
            namespace, name = self._name(context)
            by = None if metadata_of(context).get("mode") != "upsert" else _day_column(context)
            reader = self.warehouse.warehouse().read(namespace, name, days=days, day_column=by)
            match form_of(wanted):
                case "reader":
                    return reader
                case "table":
                    return reader.read_all()
                case "pandas":
                    return reader.read_all().to_pandas()
        raise TypeError(
            f"annotate {context.name!r}, now {wanted}, as pa.Table, pa.RecordBatchReader or a "
            "pandas DataFrame"
        )

    def _record(
        self,
        context: dg.OutputContext,
        value: object,
        session: Session,
        changes: Mapping[str, LoadResult],
    ) -> None:
        if self.recorder is not None:
            self.recorder.publishing(context, value, session, changes)

    def _staged(self, context: dg.OutputContext, value: object) -> StagedLoad:
        days = days_of(context)
        rows = _rows(value)
        columns: TableSchema | pa.Schema = rows.schema
        schema = columns if isinstance(columns, TableSchema) else schema_of_arrow(columns)
        table = self._table(context, schema, is_partitioned=days is not None)
        replaced = days if days and table.column_of_days else []
        return self.warehouse.warehouse().stage(
            table, replaced, _staging_batches(table, replaced, rows)
        )

    def _table(
        self, context: dg.OutputContext, schema: TableSchema, *, is_partitioned: bool
    ) -> WarehouseTable:
        metadata = metadata_of(context)
        namespace, name = self._name(context)
        key = _names(metadata.get("primary_key"))
        default = "upsert" if key else "truncate_and_load"
        mode = str(metadata.get("mode", "partition_replace" if is_partitioned else default))
        by = _day_column(context)
        indexes = cast("Sequence[object]", metadata.get("indexes", ()))
        return WarehouseTable(
            namespace,
            name,
            schema,
            primary_key=key,
            indexes=tuple(_names(index) for index in indexes),
            partition_column=by if mode == "partition_replace" else None,
            mode=cast("Mode", mode),
            day_column=by if mode == "upsert" and is_partitioned else None,
        )

    def _name(self, context: dg.OutputContext | dg.InputContext) -> tuple[str, str]:
        path = context.asset_key.path
        by_key = ".".join([self.default_namespace, *path][-2:])
        namespace, _, name = str(metadata_of(context).get("table", by_key)).rpartition(".")
        return namespace or self.default_namespace, name


def _day_column(context: dg.OutputContext | dg.InputContext) -> str:
    return str(metadata_of(context).get("partition_by", PARTITION_COLUMN))


def _rows(value: object) -> pa.Table | pa.RecordBatchReader | RowsByDay:
    match form_of(type(value)):
        case "table" | "reader":
            return value
        case "pandas":
            return pa.Table.from_pandas(value, preserve_index=False)
        case "spark":
            return cast("Any", value).toArrow()
    if isinstance(value, RowsByDay):
        return value
    raise TypeError(
        f"PostgresIOManager cannot publish a {type(value).__name__}: return pa.Table, "
        "pa.RecordBatchReader, a pandas or Spark DataFrame, a LakeScan or a StagedLoad"
    )


def _staging_batches(
    table: WarehouseTable, days: Collection[date], rows: pa.Table | pa.RecordBatchReader | RowsByDay
) -> Iterator[StagingBatch]:
    names = table.schema.names
    if isinstance(rows, pa.RecordBatchReader):
        yield days, rows
    elif isinstance(rows, pa.Table):
        yield from month_batches(table, days, rows)
    elif table.column_of_days is None:
        yield (), rows.batches(None, names)
    else:
        for some in by_month({*days} & {*rows.days}).values():
            yield some, rows.batches(sorted(some), names)


def _names(value: object) -> tuple[str, ...]:
    """The columns of a metadata value: one name, or a list of names."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Sequence):
        return tuple(str(name) for name in value)
    raise UnknownColumnError(
        f"{value!r} is no column name", fix="give the name of a column, or a list of names"
    )
