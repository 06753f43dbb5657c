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
    """Cut `days` into runs whose sizes add up to at most `max_bytes`; a larger day stands alone."""
    slices: list[list[date]] = []
    room = 0
    for day in sorted(days):
        size = sizes.get(day, 0)
        if not slices or size > room:
            slices.append([])
            room = max_bytes
        slices[-1].append(day)
        room -= size
    return slices


def stage_partition_batches(
    asset: str | None,
    slices: Sequence[Sequence[date]],
    stage: Callable[[Sequence[date]], Result],
) -> tuple[list[Result], dict[date, str]]:
    """Stage every slice; a slice that fails is halved until the day that fails is alone.

    One bad day must not block the others, and an engine does not say which row broke its query.

    Args:
        asset: Name for progress; None for work on days that were reported already.
        slices: Consecutive days each.
        stage: Stages some days together; called again with fewer after an error.

    Returns:
        What `stage` returned, and why each day failed that could not be staged.

    Raises:
        TransientError: Repeating may help; no day is to blame.
    """
    total, done = sum(map(len, slices)), 0
    results: list[Result] = []
    failed: dict[date, str] = {}
    queue = [list(days) for days in slices]
    if asset:
        progress.report(asset, 0, total)
    while queue:
        days = queue.pop(0)
        try:
            results.append(stage(days))
        except TransientError:
            raise
        except (HeadraceError, PySparkException) as error:
            # An engine that is gone fails every day alike: that is said once.
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
    """The error's text, unless an engine wrote it at run time: then it may quote a row."""
    if isinstance(error, HeadraceError):
        return f"{error} ({error.fix})"
    if isinstance(error, AnalysisException):
        return f"the engine refused the query: {str(error).splitlines()[0]}"
    return f"the engine failed on this day's rows ({type(error).__name__})"
