"""Runs a window of days in this process, for the command line."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import dagster as dg

from headrace.errors import ConfigError
from platform_assets.partitions import range_tags
from platform_assets.processes.instance_connections import close_connections, pool_connections
from platform_assets.steps.executor import execute_in_this_process

# Dagster's console logger prints every event, which the UI shows.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class RangeRun:
    """A finished run over a window.

    Attributes:
        run_id: Dagster's id.
        success: Whether every step succeeded.
        steps: Each successful step and its seconds.
        error: Message of the first failed step; None without one.
    """

    run_id: str
    success: bool
    steps: tuple[tuple[str, float], ...]
    error: str | None


def run_range(
    definitions: Callable[[], dg.Definitions],
    start: date,
    end: date,
    *,
    select: str = "*",
    rebuild: bool = False,
    only_stale: bool = False,
) -> RangeRun:
    """Run the selected assets for the days from `start` to `end`, both included, in one run.

    Args:
        definitions: Builds the definitions.
        start: First day.
        end: Last day.
        select: Assets, in Dagster's selection syntax.
        rebuild: Whether tables are rebuilt, possibly with incompatible columns or types.
        only_stale: Whether each asset builds only the days that are stale when its step starts.

    Raises:
        ConfigError: `select` names no asset.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # beta warnings, which require no action of a user
        job = _job(definitions(), select)
        tags = range_tags(
            start,
            end,
            rebuild=rebuild,
            only_stale=only_stale,
            are_days_partitions=_are_days_partitions(job),
        )
        with dg.DagsterInstance.get() as instance:
            pool_connections(instance)
            try:
                result = execute_in_this_process(job, instance, tags=tags, run_config=_QUIET)
                return RangeRun(
                    result.run_id, result.success, _step_seconds(result), _first_error(result)
                )
            finally:
                close_connections(instance)


def _job(definitions: dg.Definitions, select: str) -> dg.JobDefinition:
    try:
        selection = dg.AssetSelection.from_string(select)
        whole = definitions.resolve_implicit_global_asset_job_def()
        keys = selection.resolve(definitions.resolve_asset_graph())
    # Dagster has a class for each kind of invalid selection, and not all are public.
    except (dg.DagsterError, NotImplementedError, ValueError) as error:
        what = (str(error) or "Dagster does not support this attribute").splitlines()[0]
        raise ConfigError(
            f"--select {select}: {what}",
            fix='headrace status lists the assets; write key:"raw/shop_orders", key:"raw/*" or '
            'group:curated, a + before for all that is upstream (+key:"curated/fact_sales") and a '
            '+ after for all that is downstream (key:"raw/shop_orders"+)',
        ) from None
    if not keys:
        raise ConfigError(f"--select {select}: no such asset", fix="headrace status lists them")
    return whole.get_subset(asset_selection=keys)


def _are_days_partitions(job: dg.JobDefinition) -> bool:
    nodes = (job.asset_layer.get(key) for key in job.asset_layer.selected_asset_keys)
    found = {node.partitions_def for node in nodes if node.partitions_def is not None}
    return all(isinstance(each, dg.DailyPartitionsDefinition) for each in found)


def _step_seconds(result: dg.ExecuteInProcessResult) -> tuple[tuple[str, float], ...]:
    return tuple(
        (event.step_key or "", event.step_success_data.duration_ms / 1000)
        for event in result.all_events
        if event.is_step_success
    )


def _first_error(result: dg.ExecuteInProcessResult) -> str | None:
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error:
            error = event.step_failure_data.error
            while error.cause is not None and error.cls_name != "Failure":
                error = error.cause
            # Without the class name, such as dagster._core….Failure.
            return re.sub(rf"^[\w.]*\b{error.cls_name}: ", "", error.message.strip())
    return None
