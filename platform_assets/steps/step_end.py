"""How a step ends: retries of transient errors, and the failure that turns a run red."""

import traceback
from collections.abc import Collection, Sequence
from datetime import date

import dagster as dg
from pyspark.errors import PySparkException

from headrace.engine.outage import outage_of
from headrace.errors import HeadraceError, TransientError
from headrace.ledger.causes import UnpublishedPartition, group_by_cause
from headrace.ledger.ledger import Ledger
from headrace.quality.report import PartitionReport
from platform_assets.partitions import grains_in, takes_stale_days_only
from platform_assets.steps.events import Step

_CAUSES_SHOWN = 5


def end_step(
    ledger: Ledger,
    step: Step,
    keys: Sequence[dg.AssetKey],
    reports: Collection[PartitionReport],
) -> None:
    """Fail the run's last step if any partition of the run is bad; other steps succeed.

    Dagster skips all steps downstream of a failed one, with their good partitions. So only a step
    without selected children fails, with a message that names the bad partitions. A step with
    transient errors is retried first, as its policy allows. A retry is safe: published partitions
    stay published, and raw does not capture an object twice.

    Raises:
        dg.Failure: A retry may help; or the step is the run's last and partitions are bad.
    """
    transient = [report for report in reports if report.is_transient]
    if takes_stale_days_only(step.dagster_run):
        # The landing sensor starts a run when the file arrives. A run of stale partitions would
        # occupy a slot of the run queue while it sleeps until the retry.
        transient = [report for report in transient if not report.waits]
    if transient and _may_retry(step):
        raise dg.Failure(f"{len(transient)} partitions failed, to be retried: {transient[0].why()}")
    if _has_selected_children(step, keys):
        return
    bad = ledger.held_or_failed_of_run(step.run_id) or ledger.skipped_of_run(step.run_id)
    if not bad:
        return
    grains = grains_in(step.job_def)
    causes = group_by_cause(
        UnpublishedPartition(r.asset, r.partition, r.status, r.error or "", grains(r.asset))
        for r in bad
    )
    lines = [cause.line() for cause in causes[:_CAUSES_SHOWN]]
    if len(causes) > _CAUSES_SHOWN:
        lines.append(f"… and {len(causes) - _CAUSES_SHOWN} more causes")
    what = f"{len(bad)} partitions were not published; they keep their last published state"
    raise dg.Failure("\n".join([what, *lines]), allow_retries=False)


def failed_reports(
    step: Step, days: Sequence[date], error: Exception
) -> dict[date, PartitionReport]:
    """A failed report of each partition; raises a transient error if the step may be retried.

    Raises:
        Exception: `error`, if it is transient and the step's policy allows a retry.
    """
    if isinstance(error, PySparkException):
        error = outage_of(error) or error
    is_transient = isinstance(error, TransientError | OSError)
    if is_transient and _may_retry(step):
        raise error
    if isinstance(error, HeadraceError):
        why = f"{error} ({error.fix})"
    else:
        # Without the error's text, which may quote a row.
        why = f"unexpected {type(error).__name__} (the run's log shows where; please report it)"
        where = "".join(traceback.format_tb(error.__traceback__))
        step.log.error("unexpected %s\n%s", type(error).__name__, where)
    return {day: PartitionReport(day, error=why, is_transient=is_transient) for day in days}


def _may_retry(step: Step) -> bool:
    policy = step.op_retry_policy
    return policy is not None and step.previous_attempt_count < policy.max_retries


def _has_selected_children(step: Step, keys: Sequence[dg.AssetKey]) -> bool:
    layer = step.job_def.asset_layer
    selected = layer.selected_asset_keys
    children = {child for key in keys for child in layer.get(key).child_keys}
    return bool((children - {*keys}) & selected)
