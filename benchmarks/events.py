"""What Dagster's events of a run cost by themselves: the run's own events, stored once more."""

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import dagster as dg
import psycopg
from dagster._serdes import deserialize_value

from benchmarks.scratch import Database
from headrace.errors import PermanentError
from platform_assets.runtime import events

_Value = int | float | str

# Of the run that stored most: the year's, whatever was run on the home since.
_OF_LARGEST_RUN = """
select event from event_logs
where run_id = (select run_id from event_logs group by run_id order by count(*) desc limit 1)
order by id
"""


class EventsDifferError(PermanentError):
    """What was stored is not what the run had stored."""


@dataclass(frozen=True)
class StoredEvents:
    """How many events of a run were stored, and the seconds that storing them took."""

    count: int
    seconds: float


@dataclass
class _Recorded:
    """A run's events, in the form in which the platform's steps hand them over."""

    materialized: dict[dg.AssetKey, dict[str | None, events.Materialization]] = field(
        default_factory=dict
    )
    checked: dict[dg.AssetKey, list[events.CheckEvaluation]] = field(default_factory=dict)
    others: list[dg.EventLogEntry] = field(default_factory=list)

    def add(self, entry: dg.EventLogEntry) -> None:
        data = entry.dagster_event.event_specific_data if entry.dagster_event else None
        if isinstance(data, dg.AssetCheckEvaluation):
            self.checked.setdefault(data.asset_key, []).append(_judged(data))
        elif materialization := entry.asset_materialization:
            values = {n: cast(_Value, v.value) for n, v in materialization.metadata.items()}
            days = self.materialized.setdefault(materialization.asset_key, {})
            version = (materialization.tags or {}).get("dagster/data_version")
            days[materialization.partition] = events.Materialization(values, version)
        else:
            self.others.append(entry)


def _judged(found: dg.AssetCheckEvaluation) -> events.CheckEvaluation:
    values = {name: cast(_Value, value.value) for name, value in found.metadata.items()}
    return events.CheckEvaluation(
        found.asset_key, found.check_name, found.passed, found.partition, values
    )


def store_again(recorded: Database, empty: Database) -> StoredEvents:
    """Store the events of the largest run of one database in another, and time that alone.

    They go the way they went: an asset's materializations and checks by the day in few statements,
    Dagster's own (a step began, a step ended) one by one.

    Args:
        recorded: Dagster's database of a home.
        empty: Where they are stored again.

    Raises:
        EventsDifferError: Not as many were stored as were read.
    """
    found = _Recorded()
    with psycopg.connect(recorded.url) as session:
        rows = session.execute(_OF_LARGEST_RUN).fetchall()
    for (event,) in rows:
        found.add(deserialize_value(event, dg.EventLogEntry))
    with tempfile.TemporaryDirectory() as folder:
        url = empty.postgres.uri(empty.name, driver="psycopg2")
        (Path(folder) / "dagster.yaml").write_text(
            f'storage: {{postgres: {{postgres_url: "{url}"}}}}\ntelemetry: {{enabled: false}}\n'
        )
        with dg.DagsterInstance.from_config(folder) as instance:
            events.pool_connections(instance)
            stored = _store(instance, empty, found)
    if stored.count != len(rows):
        raise EventsDifferError(
            f"{len(rows)} events were read, {stored.count} stored", fix="see benchmarks/events.py"
        )
    return stored


def _store(instance: dg.DagsterInstance, database: Database, recorded: _Recorded) -> StoredEvents:
    measured: list[StoredEvents] = []

    @dg.op
    def store(context: dg.OpExecutionContext) -> None:
        step, before = context.get_step_execution_context(), _count(database)
        began = time.perf_counter()
        for key, days in recorded.materialized.items():
            events.log_materializations(step, key, days)
        for evaluations in recorded.checked.values():
            events.log_checks(step, evaluations)
        for entry in recorded.others:
            instance.event_log_storage.store_event(entry)
        seconds = time.perf_counter() - began
        measured.append(StoredEvents(_count(database) - before, seconds))

    @dg.job
    def storing() -> None:
        store()

    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    storing.execute_in_process(instance=instance, run_config=quiet)
    return measured[0]


def _count(database: Database) -> int:
    with psycopg.connect(database.url) as session:
        [(count,)] = session.execute("select count(*) from event_logs")
    return int(count)


def describe(stored: StoredEvents) -> str:
    """One line for people."""
    return (
        f"Dagster's events of the year, stored by themselves: {stored.count:,} in "
        f"{stored.seconds:.1f} s (aim: under 4 s)"
    )
