"""Batches of partitions, sized by bytes and bisected when one of them fails."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import TypeVar

from pyspark.errors import AnalysisException, PySparkException

from headrace import progress
from headrace.engine.outage import outage_of
from headrace.errors import HeadraceError, TransientError

Result = TypeVar("Result")


def plan_batches(
    days: Sequence[date], sizes: Mapping[date, int], max_bytes: int
) -> list[list[date]]:
    """Group `days`, in order, into batches of up to `max_bytes`; a larger day is its own batch."""
    batches: list[list[date]] = []
    free_bytes = 0
    for day in sorted(days):
        size = sizes.get(day, 0)
        if not batches or size > free_bytes:
            batches.append([])
            free_bytes = max_bytes
        batches[-1].append(day)
        free_bytes -= size
    return batches


def stage_partition_batches(
    asset: str | None,
    batches: Sequence[Sequence[date]],
    stage: Callable[[Sequence[date]], Result],
) -> tuple[list[Result], dict[date, str]]:
    """Stage every batch; a batch that fails is bisected until the failing day is alone.

    One failing day must not block the others, and engines do not say which row broke a query.

    Args:
        asset: Asset to report progress of; None reports none.
        batches: Consecutive days each.
        stage: Stages some days together; called again with fewer days after an error.

    Returns:
        The results of `stage`, and the error of each day that could not be staged.

    Raises:
        TransientError: Repeating may help; no single day caused it.
    """
    total, done = sum(map(len, batches)), 0
    results: list[Result] = []
    failed: dict[date, str] = {}
    queue = [list(days) for days in batches]
    if asset:
        progress.report(asset, 0, total)
    while queue:
        days = queue.pop(0)
        try:
            results.append(stage(days))
        except TransientError:
            raise
        except (HeadraceError, PySparkException) as error:
            # An outage fails every day alike: stop at once.
            if isinstance(error, PySparkException) and (outage := outage_of(error)):
                raise outage from None
            if len(days) > 1:
                middle = len(days) // 2
                queue[:0] = [days[:middle], days[middle:]]
                continue
            failed[days[0]] = _without_values(error)
        done += len(days)
        if asset:
            progress.report(asset, done, total)
    return results, failed


def _without_values(error: HeadraceError | PySparkException) -> str:
    """The error's text; of an engine's run-time error only the class: its text may quote rows."""
    if isinstance(error, HeadraceError):
        return f"{error} ({error.fix})"
    if isinstance(error, AnalysisException):
        return f"the engine refused the query: {str(error).splitlines()[0]}"
    return f"the engine failed on this day's rows ({type(error).__name__})"
