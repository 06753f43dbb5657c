"""The Iceberg IO manager: publishes an asset's value as days of a table, and reads them."""

from collections.abc import Callable, Collection, Mapping
from datetime import date
from functools import partial
from typing import Any, Protocol

import dagster as dg
import pyarrow as pa

from headrace.errors import StagedFileRejectedError
from headrace.lake.commit import Commit
from headrace.lake.scan import LakeScan
from headrace.lake.staging import stage_batches, stage_frame
from headrace.lake.table import LakeTable
from headrace.schema import PARTITION_COLUMN
from headrace.staged import StagedPartition, StagedPartitions, StagedTable, new_token
from io_managers.contexts import (
    PublicationGate,
    days_of,
    form_of,
    is_rebuild,
    metadata_of,
    permanent_errors_are_not_retried,
)
from resources.lake import LakeResource

_NAMED = 10


class CommitRecorder(Protocol):
    """Wraps every publication: it may check it, record it, and fail the step."""

    def publish(
        self,
        context: dg.OutputContext,
        output: StagedPartitions | StagedTable,
        commit: Callable[[StagedPartitions | StagedTable], Commit | None],
    ) -> Commit | None:
        """Called with the staged output; publishes all of it or a part, by calling `commit`.

        Args:
            context: Context of the step's output.
            output: The staged days, and the days that are held.
            commit: Publishes its argument; returns None if there is nothing to publish.

        Returns:
            The result of `commit`; None if it was not called, or failed.
        """


class HasSparkSession(Protocol):
    """Such as `dagster_pyspark.PySparkResource`."""

    @property
    def spark_session(self) -> Any:  # Spark need not be installed
        """The session that creates frames."""


class IcebergIOManager(dg.ConfigurableIOManager):
    """Publishes assets as Iceberg tables and reads them, one day or a window of days.

    The run of an asset with daily partitions replaces the run's days in one commit, days without
    rows included. The run of an asset without partitions replaces the whole table. The asset's
    metadata may set `table`, as `namespace.name` (default: the last part of its key, in the
    namespace of the parts before), and `partition_by`, the date column (default:
    `_partition_date`).

    An asset may return `StagedPartitions` or `StagedTable` (files that are written already), a
    Spark or pandas frame, an Arrow table or reader. An input is read as its annotation says:
    `LakeScan`, a Spark or pandas `DataFrame`, `pa.Table` or `pa.RecordBatchReader`.

    Attributes:
        lake: The lake with the tables.
        spark: Required for inputs that are Spark frames.
        recorder: Wraps every publication; without one, held days fail the step.
        gate: Decides which days may be read; without one, all days.
        default_namespace: The namespace of assets whose key has one part.
    """

    lake: dg.ResourceDependency[LakeResource]
    spark: dg.ResourceDependency[HasSparkSession | None] = None  # type: ignore[assignment]
    recorder: dg.ResourceDependency[CommitRecorder | None] = None  # type: ignore[assignment]
    gate: dg.ResourceDependency[PublicationGate | None] = None  # type: ignore[assignment]
    default_namespace: str = "main"

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Publish a value: the run's days, or the whole table of an asset without partitions.

        Raises:
            dg.Failure: Days are held and there is no recorder; or the value cannot be published
                (incompatible columns, days outside the run), and a retry cannot help.
        """
        with permanent_errors_are_not_retried():
            table = self._table(context)
            output = _staged(context, table, obj)
            commit = self._publish(context, table, output)
        if commit is not None:
            context.add_output_metadata({**commit.metadata(), "held": len(output.held)})
        if self.recorder is None and output.held:
            raise dg.Failure(_held_message(table.name, output.held), allow_retries=False)

    def load_input(self, context: dg.InputContext) -> object:
        """Read the input's days, or the whole table where the asset has none.

        Raises:
            dg.Failure: The table does not exist, or a published file is missing.
        """
        days = days_of(context)
        with permanent_errors_are_not_retried():
            if days is not None and self.gate is not None:
                days = sorted(self.gate.readable(context.asset_key, days))
            return self._as_annotated(self._table(context).scan(days), context)

    def _publish(
        self, context: dg.OutputContext, table: LakeTable, output: StagedPartitions | StagedTable
    ) -> Commit | None:
        publish = partial(_publish, table, rebuild=is_rebuild(context))
        if self.recorder is None:
            return publish(output)
        return self.recorder.publish(context, output, publish)

    def _table(self, context: dg.OutputContext | dg.InputContext) -> LakeTable:
        path, metadata = context.asset_key.path, metadata_of(context)
        by_key = f"{'.'.join(path[:-1]) or self.default_namespace}.{path[-1]}"
        namespace, _, name = str(metadata.get("table", by_key)).rpartition(".")
        column = str(metadata.get("partition_by", PARTITION_COLUMN))
        return self.lake.table(namespace or self.default_namespace, name, partition_column=column)

    def _as_annotated(self, scan: LakeScan, context: dg.InputContext) -> object:
        wanted = context.dagster_type.typing_type
        if wanted is LakeScan:
            return scan
        match form_of(wanted):
            case "reader":
                return scan.batches()
            case "table":
                return scan.batches().read_all()
            case "pandas":
                return scan.batches().read_all().to_pandas()
            case "spark" if self.spark is not None:
                return scan.frame(self.spark.spark_session)
            case "spark":
                raise TypeError(f"to load {context.name!r}, give IcebergIOManager a `spark`")
        raise TypeError(
            f"annotate {context.name!r}, now {wanted}, as LakeScan, a Spark or pandas DataFrame, "
            "pa.Table or pa.RecordBatchReader"
        )


def _publish(
    table: LakeTable, output: StagedPartitions | StagedTable, *, rebuild: bool
) -> Commit | None:
    schema, properties = output.schema, output.properties
    if isinstance(output, StagedTable):
        if output.held:
            return None  # Published as a whole, or unchanged.
        return table.overwrite(output.files, schema=schema, properties=properties, rebuild=rebuild)
    if not output.partitions:
        return None
    if output.mode == "append":
        return table.append(output.partitions, schema=schema, properties=properties)
    return table.replace(output.partitions, schema=schema, properties=properties, rebuild=rebuild)


def _staged(
    context: dg.OutputContext, table: LakeTable, value: object
) -> StagedPartitions | StagedTable:
    if isinstance(value, StagedPartitions | StagedTable):
        return value
    days = days_of(context)
    column = None if days is None else table.partition_column
    token = new_token()
    folder = table.staging_uri(token)
    if form_of(type(value)) == "spark":
        schema = stage_frame(value, folder, partition_column=column)  # type: ignore[arg-type]
    else:
        schema = stage_batches(_reader(value), table.storage, folder, partition_column=column)
    properties = {"dagster.run_id": context.run_id}
    if days is None:
        return StagedTable(schema, table.staged_files(token), properties)
    partitions = _of_run(table, days, table.staged(token))
    return StagedPartitions(schema, partitions, properties=properties)


def _of_run(
    table: LakeTable, days: Collection[date], staged: Mapping[date, StagedPartition]
) -> dict[date, StagedPartition]:
    """The staged partition of each day of the run; empty for a day without rows."""
    if foreign := sorted(staged.keys() - set(days)):
        raise StagedFileRejectedError(
            f"{table.name}: the rows have {_listed(foreign)} in {table.partition_column}, "
            f"which are not partitions of this run ({_listed(sorted(days))})",
            fix="return rows of the run's partitions only, or run these partitions too",
        )
    return {day: staged.get(day, StagedPartition(day)) for day in days}


def _reader(value: object) -> pa.RecordBatchReader:
    if isinstance(value, pa.RecordBatchReader):
        return value
    if form_of(type(value)) == "pandas":
        value = pa.Table.from_pandas(value, preserve_index=False)
    if isinstance(value, pa.Table):
        return value.to_reader()
    raise TypeError(
        f"IcebergIOManager cannot publish a {type(value).__name__}: return StagedPartitions, "
        "StagedTable, a Spark or pandas DataFrame, pa.Table or pa.RecordBatchReader"
    )


def _held_message(table: str, held: Mapping[date, str]) -> str:
    lines = [f"{day}: {reason}" for day, reason in sorted(held.items())[:_NAMED]]
    more = [f"… and {len(held) - _NAMED} more"] if len(held) > _NAMED else []
    what = f"{table}: {len(held)} days are held and keep their published state"
    return "\n".join([what, *lines, *more])


def _listed(days: list[date]) -> str:
    more = f" … {days[-1]}, {len(days)} days" if len(days) > _NAMED else ""
    return ", ".join(str(day) for day in days[:_NAMED]) + more
