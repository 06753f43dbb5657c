"""What both IO managers read from Dagster's contexts and from the types of values."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from typing import Literal, Protocol

import dagster as dg
import pyarrow as pa

from headrace.errors import PermanentError

# Tag of a run that rebuilds tables: columns and types may change incompatibly.
REBUILD_TAG = "headrace/rebuild"

Form = Literal["table", "reader", "pandas", "spark", "other"]


class PublicationGate(Protocol):
    """Decides which published days downstream assets may read."""

    def readable(self, key: dg.AssetKey, days: Collection[date]) -> Collection[date]:
        """Those of `days` that may be read."""


def days_of(context: dg.OutputContext | dg.InputContext) -> list[date] | None:
    """The days of the run or of the input; None for an asset without partitions."""
    if not context.has_asset_partitions:
        return None
    form = getattr(context.asset_partitions_def, "fmt", "%Y-%m-%d")
    # A partition key is the label of a day, not an instant: it has no time zone.
    return [datetime.strptime(key, form).date() for key in context.asset_partition_keys]  # noqa: DTZ007


def metadata_of(context: dg.OutputContext | dg.InputContext) -> Mapping[str, object]:
    """The metadata of the asset's definition, as plain values."""
    if isinstance(context, dg.InputContext):
        # The metadata of the asset that is read is in the upstream output.
        found = context.upstream_output.definition_metadata if context.upstream_output else {}
    else:
        found = context.definition_metadata
    return {name: getattr(value, "value", value) for name, value in found.items()}


def is_rebuild(context: dg.OutputContext) -> bool:
    """Whether the run rebuilds tables; see REBUILD_TAG."""
    return context.has_asset_key and REBUILD_TAG in context.step_context.dagster_run.tags


def form_of(kind: object) -> Form:
    """The form of rows that a type is, by its module: pandas and Spark need not be installed."""
    if not isinstance(kind, type):
        return "other"
    if issubclass(kind, pa.Table):
        return "table"
    if issubclass(kind, pa.RecordBatchReader):
        return "reader"
    if kind.__name__ != "DataFrame":
        return "other"
    package = kind.__module__.partition(".")[0]
    return {"pyspark": "spark", "pandas": "pandas"}.get(package, "other")  # type: ignore[return-value]


@contextmanager
def permanent_errors_are_not_retried() -> Iterator[None]:
    """Raise `dg.Failure` without retries for a PermanentError."""
    try:
        yield
    except PermanentError as error:
        raise dg.Failure(f"{error}\nhint: {error.fix}", allow_retries=False) from error
