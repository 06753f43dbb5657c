"""What IO managers find out from Dagster's contexts and from the types of values."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from typing import Literal

import dagster as dg
import pyarrow as pa

from headrace.errors import PermanentError

# Tag of a run that makes tables anew, with other columns or types if so declared.
REBUILD_TAG = "headrace/rebuild"

Form = Literal["table", "reader", "pandas", "spark", "other"]


def days_of(context: dg.OutputContext | dg.InputContext) -> list[date] | None:
    """The days of the run, or those an input asks for; None for an asset without partitions."""
    if not context.has_asset_partitions:
        return None
    form = getattr(context.asset_partitions_def, "fmt", "%Y-%m-%d")
    # A key is a label of a day in UTC, not an instant.
    return [datetime.strptime(key, form).date() for key in context.asset_partition_keys]  # noqa: DTZ007


def metadata_of(context: dg.OutputContext | dg.InputContext) -> Mapping[str, object]:
    """The metadata that the asset was defined with, as plain values."""
    if isinstance(context, dg.InputContext):
        # An input has the metadata of the asset that it reads in its upstream output.
        found = context.upstream_output.definition_metadata if context.upstream_output else {}
    else:
        found = context.definition_metadata
    return {name: getattr(value, "value", value) for name, value in found.items()}


def is_rebuild(context: dg.OutputContext) -> bool:
    """Whether the run makes tables anew, with other columns or types if so declared."""
    return context.has_asset_key and REBUILD_TAG in context.step_context.dagster_run.tags


def form_of(kind: object) -> Form:
    """What a type is, by its module: neither pandas nor Spark need be installed."""
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
    """Raise Dagster's failure without retries for errors that repeating cannot help."""
    try:
        yield
    except PermanentError as error:
        raise dg.Failure(f"{error}\nhint: {error.fix}", allow_retries=False) from error
