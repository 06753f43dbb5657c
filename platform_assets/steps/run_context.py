"""What tables store of the run that wrote them: audit columns and snapshot properties."""

from datetime import UTC, datetime

import dagster as dg

from headrace.standardize.schemas import RunStamp


def stamp_of(run: dg.DagsterRun, code_version: str) -> RunStamp:
    """The audit columns' values for rows that this run writes now."""
    return RunStamp(run.run_id, code_version, datetime.now(UTC).isoformat(sep=" ").split("+")[0])


def properties_of(run: dg.DagsterRun, code_version: str) -> dict[str, str]:
    """The snapshot properties that name the run and its code version."""
    return {"headrace.run-id": run.run_id, "headrace.code-version": code_version}
