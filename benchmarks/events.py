"""The cost of Dagster's events: stores the events of a run again, and measures that."""

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
from platform_assets.processes import instance_connections
from platform_assets.steps import events

_Value = int | float | str

# Events of the run with the most events, which is the year's.
_OF_LARGEST_RUN = """
select event from event_logs
where run_id = (select run_id from event_logs group by run_id order by count(*) desc limit 1)
order by id
"""


class EventsDifferError(PermanentError):
    """The number of stored events differs from the run's."""


@dataclass(frozen=True)
class StoredEvents:
    """Number of stored events, and the seconds."""

    count: int
    seconds: float


@dataclass
class _Recorded:
    """A run's events, as arguments of `platform_assets.steps.events`."""

    materialized: dict[dg.AssetKey, dict[str | None, events.Materialization]] = field(
        default_factory=dict
    )
    checked: dict[dg.AssetKey, list[events.CheckEvaluation]] = field(default_factory=dict)
    others: list[dg.EventLogEntry] = field(default_factory=list)

    def add(self, entry: dg.EventLogEntry) -> None:
        data = entry.dagster_event.event_specific_data if entry.dagster_event else None
        if isinstance(data, dg.AssetCheckEvaluation):
            self.checked.setdefault(data.asset_key, []).append(_check_evaluation(data))
        elif materialization := entry.asset_materialization:
            values = {n: cast(_Value, v.value) for n, v in materialization.metadata.items()}
            days = self.materialized.setdefault(materialization.asset_key, {})
            version = (materialization.tags or {}).get("dagster/data_version")
            days[materialization.partition] = events.Materialization(values, version)
        else:
            self.others.append(entry)


def _check_evaluation(found: dg.AssetCheckEvaluation) -> events.CheckEvaluation:
    values = {name: cast(_Value, value.value) for name, value in found.metadata.items()}
    return events.CheckEvaluation(
        found.asset_key, found.check_name, found.passed, found.partition, values
    )


def store_again(recorded: Database, empty: Database) -> StoredEvents:
    """Store the events of a database's largest run in another one, and measure the seconds.

    As in a run, materializations and checks of an asset are stored in few statements, and Dagster's
    own events (such as start and end of a step) one by one.

    Args:
        recorded: Dagster's database of a home.
        empty: The other database.

    Raises:
        EventsDifferError: The number of stored events differs.
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
            instance_connections.pool_connections(instance)
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
    """One line for a report."""
    return (
        f"Dagster's events of the year, stored separately: {stored.count:,} in "
        f"{stored.seconds:.1f} s (aim: under 4 s)"
    )
