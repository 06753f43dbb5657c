"""Partitions of reference data: a table or list that is read whole and whose rows have no day."""

from datetime import date, timedelta

from headrace.grain import WHOLE, Grain
from headrace.sources.base import CapturedVersion, CaptureRun, CaptureState, current_versions


def day_of_state(grain: Grain, state: CaptureState, run: CaptureRun) -> date:
    """The partition to which the state that is read now belongs.

    The first state belongs to the first partition, because nothing better is known of earlier days.
    A later state belongs to the day of its capture.
    """
    if grain == Grain.NONE:
        return WHOLE
    before = _latest_day(state)
    if before is None:
        return run.partitions.start
    captured = run.captured_at.date()
    # No day follows a declared end. Without one, a partition of the captured day will exist.
    last = run.partitions.end - timedelta(days=1) if run.partitions.end else captured
    return max(before, min(captured, last))


def latest_state(state: CaptureState) -> CapturedVersion | None:
    """The version that was captured last; None before the first."""
    day = _latest_day(state)
    versions = current_versions(state.captured[day]).values() if day is not None else ()
    return max(versions, key=lambda version: version.captured_at, default=None)


def _latest_day(state: CaptureState) -> date | None:
    return max((day for day, versions in state.captured.items() if versions), default=None)
