"""Postgres's IO manager: an asset's value becomes published days of a table, and back."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Protocol, cast, runtime_checkable

import dagster as dg
import pyarrow as pa

from headrace.errors import UnknownColumnError
from headrace.schema import TableSchema, schema_of_arrow
from headrace.warehouse.loading.load_transaction import GroupMember, LoadGroup, Publication
from headrace.warehouse.loading.routing import month_slices
from headrace.warehouse.loading.staged_loads import StagedLoad
from headrace.warehouse.loading.staging import Slice
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import Mode, WarehouseTable, by_month
from io_managers.contexts import (
    days_of,
    form_of,
    metadata_of,
    permanent_errors_are_not_retried,
)
from resources.warehouse import WarehouseResource

PARTITION_COLUMN = "_partition_date"


class PublicationRecorder(Protocol):
    """What may be told of every publication, and may write with it."""

    def publishing(
        self,
        context: dg.OutputContext,
        output: object,
        session: Session,
        publications: Mapping[str, Publication],
    ) -> None:
        """Called within the transaction, once everything is in place.

        Args:
            context: Of the step's output; of a group, the output that came last.
            output: The value that is published; of a group, the one that came last.
            session: What it writes is committed with the publication; what is raised undoes both.
            publications: What changes, by table name; a group's unchanged tables are missing.
        """

    def failed(self, context: dg.OutputContext, output: object, error: Exception) -> None:
        """Called when nothing could be published; the error is raised afterwards.

        Args:
            context: As above.
            output: As above.
            error: Why.
        """

    def published(
        self, context: dg.OutputContext, output: object, publications: Mapping[str, Publication]
    ) -> None:
        """Called after the commit, which stands whatever happens here.

        Args:
            context: As above.
            output: As above.
            publications: What changed, by table name; a group's unchanged tables are missing.
        """


class PublicationGate(Protocol):
    """What may say which published days downstream can read."""

    def publishable(self, key: dg.AssetKey, days: Collection[date]) -> Collection[date]:
        """Those of `days` that may be read."""


@runtime_checkable
class RowsByDay(Protocol):
    """Rows that can be had by days and columns, such as `headrace.lake.scan.LakeScan`."""

    schema: TableSchema
    days: tuple[date, ...]

    def batches(
        self, days: Collection[date] | None = None, columns: Sequence[str] | None = None
    ) -> pa.RecordBatchReader:
        """The rows of `days`, or all."""


class PostgresIOManager(dg.ConfigurableIOManager):
    """Publishes assets as Postgres tables and reads them, one day or a range of days alike.

    An asset with daily partitions replaces its run's days in one transaction, days without rows
    included. One without partitions becomes equal to the value.

    The asset's metadata may say:
        table: `namespace.name`; by default the key's last part, in the namespace of the part
            before.
        partition_by: The column with a row's day, a date or yyyymmdd; `_partition_date` by default.
        primary_key: A column, or a list of columns.
        indexes: A list, of columns or of lists of columns.
        mode: `partition_replace`, by default for an asset with partitions; `upsert`, by default
            for one without that has a primary key, and which with partitions writes of the run's
            days what differs by that key, `partition_by` among it; or `truncate_and_load`.

    Takes Arrow tables and readers, pandas and Spark frames, lake scans (anything that is
    `RowsByDay`), a load that is staged already (`StagedLoad`), and one table of a group that is
    published together once its last table is handed over: a `GroupMember`, or any object that has
    one as `member`. Gives what the input is annotated with: `pa.Table`, `pa.RecordBatchReader` or
    a pandas `DataFrame`.

    Attributes:
        warehouse: Where the tables are.
        recorder: Told of every publication, and may write in its transaction.
        gate: Asked which days may be read; without one, all of them.
        default_namespace: Where the tables of assets are whose key has one part.
    """

    warehouse: dg.ResourceDependency[WarehouseResource]
    recorder: dg.ResourceDependency[PublicationRecorder | None] = None  # type: ignore[assignment]
    gate: dg.ResourceDependency[PublicationGate | None] = None  # type: ignore[assignment]
    default_namespace: str = "warehouse"

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Publish a value: the run's days, or the whole table of an asset without partitions.

        Raises:
            dg.Failure: The value cannot be published (other columns, other days, refused rows),
                which repeating will not change.
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
                    lambda session, changes: self._write_along(context, obj, session, changes)
                )
            except Exception as error:  # whatever it is, the days that it failed have to be known
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
            dg.Failure: Nothing was ever published, or a column cannot be read.
        """
        days = days_of(context)
        wanted = context.dagster_type.typing_type
        with permanent_errors_are_not_retried():
            if days is not None and self.gate is not None:
                days = sorted(self.gate.publishable(context.asset_key, days))
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

    def _write_along(
        self,
        context: dg.OutputContext,
        value: object,
        session: Session,
        changes: Mapping[str, Publication],
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
        return self.warehouse.warehouse().stage(table, replaced, _slices(table, replaced, rows))

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


def _slices(
    table: WarehouseTable, days: Collection[date], rows: pa.Table | pa.RecordBatchReader | RowsByDay
) -> Iterator[Slice]:
    names = table.schema.names
    if isinstance(rows, pa.RecordBatchReader):
        yield days, rows
    elif isinstance(rows, pa.Table):
        yield from month_slices(table, days, rows)
    elif table.column_of_days is None:
        yield (), rows.batches(None, names)
    else:
        for some in by_month({*days} & {*rows.days}).values():
            yield some, rows.batches(sorted(some), names)


def _names(value: object) -> tuple[str, ...]:
    """A column or a list of columns, as metadata gives it."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Sequence):
        return tuple(str(name) for name in value)
    raise UnknownColumnError(
        f"{value!r} names no columns", fix="give a column's name, or a list of names"
    )
