"""What a run knows of itself, in the library's words.

Belongs here: translating Dagster's run into values that the library takes.
Elsewhere: partitions (platform_assets.partitions), events (platform_assets.events).
"""

from datetime import UTC, datetime

import dagster as dg

from headrace.standardize.rows import RunStamp


def stamp_of(run: dg.DagsterRun, code_version: str) -> RunStamp:
    """The audit columns' values for rows that this run writes now."""
    return RunStamp(run.run_id, code_version, datetime.now(UTC).isoformat(sep=" ").split("+")[0])


def properties_of(run: dg.DagsterRun, code_version: str) -> dict[str, str]:
    """What a snapshot records of the run that published it."""
    return {"headrace.run-id": run.run_id, "headrace.code-version": code_version}
