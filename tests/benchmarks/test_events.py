import tempfile
from pathlib import Path

import dagster as dg
import pytest

from benchmarks import events
from benchmarks.scratch import Database
from tests import servers

DAYS = dg.DailyPartitionsDefinition("2017-01-01", end_date="2017-01-04")


@dg.asset(partitions_def=DAYS, check_specs=[dg.AssetCheckSpec("sound", asset="sales")])
def sales() -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads it, and takes none
    """An asset of one day, with a check."""
    return dg.MaterializeResult(
        metadata={"rows": 3}, check_results=[dg.AssetCheckResult(passed=True, check_name="sound")]
    )


@pytest.fixture(scope="module")
def recorded() -> Database:
    """Dagster's database after a run."""
    database = Database(servers.postgres()).emptied("recorded_events")
    url = database.postgres.uri(database.name, driver="psycopg2")
    with tempfile.TemporaryDirectory() as folder:
        configuration = f'storage: {{postgres: {{postgres_url: "{url}"}}}}\n'
        (Path(folder) / "dagster.yaml").write_text(configuration)
        with dg.DagsterInstance.from_config(folder) as instance:
            dg.materialize([sales], instance=instance, partition_key="2017-01-02")
    return database


def test_a_runs_events_are_stored_once_more_and_timed(recorded: Database) -> None:
    stored = events.store_again(recorded, Database(servers.postgres()).emptied("events_again"))
    assert stored.count > len(("materialization", "check", "run began", "run ended"))
    assert stored.seconds > 0
    assert f"{stored.count}" in events.describe(stored)
