"""Latency of `headrace dev`: its start, launches, files to a mart; and its idle consumption."""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks.measure import CommandFailedError, end_group
from benchmarks.next_day import deliver_again
from benchmarks.scratch import PROJECT, Database, Scratch, headrace, scratch_folder, start_server
from demo.journey import DAY_AFTER_LAST, FIRST_DAY
from demo.stage import stage_landing
from headrace.cli.output import messages, print_error, print_json, print_table
from headrace.errors import HeadraceError

_POLL_SECONDS = 0.05
# A run still writes its last events when its marts are visible.
_SETTLE_SECONDS = 10
_END_SECONDS = 40
_START_SECONDS = 300
_SOLD_ON = date(2017, 12, 30)
_MIB = 2**20
_EMPTY_PROJECT = "import dagster as dg\n\ndefs = dg.Definitions()\n"
# Prefixes of variables of the caller's own installation, which the empty project must not inherit.
_FOREIGN = ("HEADRACE_", "DAGSTER_", "PIPELINE_ENV")

_HAS_DAY = "select exists (select from marts.mart_daily_department where date = %s)"
_PUBLISHED = """
select split_part(asset, '/', 1) as layer, max(published_at) as at
from platform.partition_ledger
where partition = %s and (asset like '%%transactions' or asset like '%%fact_sales')
group by layer
order by at
"""
_EVENTS = """
select
    extract(epoch from min(timestamp) filter (where dagster_event_type = 'STEP_START')),
    extract(epoch from max(timestamp) filter (where dagster_event_type = 'PIPELINE_SUCCESS')),
    extract(epoch from max(timestamp) filter (where dagster_event_type = 'PIPELINE_FAILURE'))
from (
    select dagster_event_type, timestamp at time zone 'utc' as timestamp
    from event_logs where run_id = %s
) as of_run
"""
_LOCATIONS = """
{ workspaceOrError { ... on Workspace { locationEntries {
    loadStatus locationOrLoadError { __typename } } } } }
"""
_ASSETS = "{ assetNodes { assetKey { path } } }"
_LAUNCH = """
mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on Error { message } } }
"""


@dataclass(frozen=True)
class Arrival:
    """Seconds from the appearance of a file to its publication in each layer and in the mart."""

    day: date
    layers: Mapping[str, float]
    mart_seconds: float


@dataclass(frozen=True)
class Launch:
    """A launch of a day of all assets from the UI: seconds to the first step and to the end."""

    first_step_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Idle:
    """Consumption of all processes, including Postgres, while no run is active.

    Attributes:
        cpu_share: CPU as a share of one core.
        memory_bytes: Proportional memory (PSS): a shared page counts once.
        log_bytes_a_minute: Bytes of Postgres's write-ahead log.
    """

    cpu_share: float
    memory_bytes: int
    log_bytes_a_minute: float


@dataclass(frozen=True)
class Latency:
    """All measurements, in seconds."""

    empty_project_usable_seconds: float
    usable_seconds: float
    idle: Idle
    launches: Sequence[Launch]
    arrivals: Sequence[Arrival]


def main() -> int:
    """Measure and print."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with scratch_folder(keep=options.keep) as scratch:
            found = _measure(scratch, options)
    except HeadraceError as error:
        print_error(error)
        return 2
    if options.json:
        print_json(asdict(found))
    else:
        _print(found)
    return 0


def _print(found: Latency) -> None:
    arrivals, launches, idle = found.arrivals, found.launches, found.idle
    layers = list(arrivals[0].layers)
    rows = []
    for arrival in arrivals:
        seconds = (*(arrival.layers.get(layer, 0.0) for layer in layers), arrival.mart_seconds)
        rows.append((str(arrival.day), *(f"{taken:.1f}" for taken in seconds)))
    columns = ("day", *layers, "rows in the mart")
    print_table(columns, rows, title="Seconds after the file appeared")
    to_mart = statistics.median(arrival.mart_seconds for arrival in arrivals)
    to_step = statistics.median(launch.first_step_seconds for launch in launches)
    to_end = statistics.median(launch.end_seconds for launch in launches)
    ratio = found.usable_seconds / found.empty_project_usable_seconds
    log = idle.log_bytes_a_minute / 1e6
    figures = [
        ("a file to its rows in the mart, p50", f"{to_mart:.1f} s", "8 s"),
        ("launch of a day of all assets to its first step, p50", f"{to_step:.2f} s", "1.5 s"),
        ("launch of a day of all assets to its end, p50", f"{to_end:.1f} s", "7 s"),
        ("headrace dev usable", f"{found.usable_seconds:.1f} s", ""),
        ("an empty project usable", f"{found.empty_project_usable_seconds:.1f} s", ""),
        ("ratio", f"{ratio:.2f}", "1.3"),
        ("idle: CPU of one core", f"{idle.cpu_share:.1%}", "4 %"),
        ("idle: memory", f"{idle.memory_bytes / _MIB:,.0f} MiB", ""),
        ("idle: write-ahead log a minute", f"{log:.2f} MB", "0.2 MB"),
    ]
    print_table(("", "measured", "at most"), figures, title="\nheadrace dev")


def _measure(scratch: Scratch, options: argparse.Namespace) -> Latency:
    first = DAY_AFTER_LAST
    start = max(FIRST_DAY, first - timedelta(days=options.history))
    # The files must include the day whose sales are delivered again.
    stage_landing(scratch.landing, start=min(start, _SOLD_ON))
    # Runs of a day without a file would be retried, and occupy the queue.
    scratch.configure(start=start, end=first + timedelta(days=options.files))
    home = scratch.home("home")
    warehouse = start_server(home)
    environment = scratch.environment(home)
    messages.print("building the history")
    last = str(first - timedelta(days=1))
    subprocess.run(  # noqa: S603 - our own command
        headrace("backfill", "--from", str(start), "--to", last, "--json"),
        check=True,
        env=environment,
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
    )
    with _empty_project(scratch.root / "empty") as (_, empty_seconds):
        messages.print(f"an empty project: usable after {empty_seconds:.1f} s")
    command = headrace("dev")
    with _serving(command, environment, scratch.root / "dev.log") as (ui, usable_seconds):
        messages.print(f"headrace dev: usable after {usable_seconds:.1f} s")
        watch = _Watch(warehouse, ui, options.limit)
        # Exclude the forkserver's imports and the sensors' first tick.
        time.sleep(3 * _SETTLE_SECONDS)
        idle = _idle(ui, warehouse, options.idle)
        launches = [_launch(watch, _SOLD_ON) for _ in range(options.launches)]
        days = [first + timedelta(days=number) for number in range(options.files)]
        arrivals = [_drop(scratch, watch, day) for day in days]
    return Latency(empty_seconds, usable_seconds, idle, launches, arrivals)


def _idle(ui: "_Ui", warehouse: Database, seconds: float) -> Idle:
    """Measure the idle consumption over some seconds."""
    roots = (ui.process.pid, warehouse.server_pid)
    before, position, began = _cpu(roots), _log_position(warehouse), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    written = _log_position(warehouse) - position
    memory = 0
    for process in _processes(roots):
        with suppress(psutil.NoSuchProcess):  # A backend of Postgres may end meanwhile.
            memory += process.memory_full_info().pss
    return Idle((_cpu(roots) - before) / passed, memory, written / passed * 60)


def _processes(roots: Sequence[int]) -> list[psutil.Process]:
    trees = [psutil.Process(root) for root in roots]
    return [process for tree in trees for process in (tree, *tree.children(recursive=True))]


def _cpu(roots: Sequence[int]) -> float:
    """CPU seconds of all processes, including child processes that have ended."""
    total = 0.0
    for process in _processes(roots):
        with suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            total += used.user + used.system + used.children_user + used.children_system
    return total


def _log_position(warehouse: Database) -> int:
    with psycopg.connect(warehouse.url) as session:
        row = session.execute("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')").fetchone()
    return int(row[0]) if row else 0


def _launch(watch: "_Watch", day: date) -> Launch:
    """Launch a day of all assets as the UI's dialog does, and wait for its end."""
    selection = [{"path": node["assetKey"]["path"]} for node in watch.ui.ask(_ASSETS)["assetNodes"]]
    params = {
        "selector": {
            "repositoryLocationName": "platform",
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": selection,
        },
        "runConfigData": {},
        "mode": "default",
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": str(day)}]},
    }
    began = time.time()
    launched = watch.ui.ask(_LAUNCH, params=params)["launchPipelineExecution"]
    if launched["__typename"] != "LaunchRunSuccess":
        raise watch.failure(f"the run was not launched: {launched}")
    first_step, end = watch.until_run_ended(launched["run"]["runId"])
    launch = Launch(first_step - began, end - began)
    messages.print(
        f"launch: first step {launch.first_step_seconds:.2f} s, end {launch.end_seconds:.1f} s"
    )
    time.sleep(_SETTLE_SECONDS)
    return launch


def _drop(scratch: Scratch, watch: "_Watch", day: date) -> Arrival:
    appeared_at = datetime.now(UTC)
    deliver_again(scratch.landing, _SOLD_ON, day)
    seconds = watch.until_there(day)
    messages.print(f"{day}: {seconds:.1f} s")
    time.sleep(_SETTLE_SECONDS)
    with psycopg.connect(watch.warehouse.url) as session:
        published = session.execute(_PUBLISHED, (day,)).fetchall()
    return Arrival(
        day, {layer: (at - appeared_at).total_seconds() for layer, at in published}, seconds
    )


@dataclass(frozen=True)
class _Ui:
    """Dagster's web server, started by `process`."""

    process: "subprocess.Popen[str]"
    url: str
    log: Path

    def ask(self, query: str, **variables: object) -> Any:
        """The `data` of the response to a GraphQL query."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url, body, headers)  # noqa: S310 - our own server
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.load(answer)["data"]

    def is_usable(self) -> bool:
        """Whether the code location is loaded."""
        try:
            entries = self.ask(_LOCATIONS)["workspaceOrError"]["locationEntries"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return bool(entries) and all(
            (entry["locationOrLoadError"] or {}).get("__typename") == "RepositoryLocation"
            for entry in entries
        )


@dataclass(frozen=True)
class _Watch:
    """Waits for runs to end and for days to appear in the mart."""

    warehouse: Database
    ui: _Ui
    limit_seconds: float

    def until_there(self, day: date) -> float:
        """Seconds until the mart has rows of the day."""
        began = time.monotonic()
        with psycopg.connect(self.warehouse.url, autocommit=True) as session:
            while not _has_day(session, day):
                self._require_time(began, f"{day} did not reach the mart")
                time.sleep(_POLL_SECONDS)
        return time.monotonic() - began

    def until_run_ended(self, run_id: str) -> tuple[float, float]:
        """When its first step started and when it ended; seconds of the epoch."""
        began = time.monotonic()
        url = self.warehouse.postgres.uri("dagster")
        with psycopg.connect(url, autocommit=True) as session:
            while True:
                row = session.execute(_EVENTS, (run_id,)).fetchone()
                first_step, succeeded, failed = row or (None, None, None)
                if failed is not None:
                    raise self.failure(f"run {run_id} failed")
                if first_step is not None and succeeded is not None:
                    return float(first_step), float(succeeded)
                self._require_time(began, f"run {run_id} did not end")
                time.sleep(_POLL_SECONDS)

    def _require_time(self, began: float, what: str) -> None:
        if self.ui.process.poll() is not None:
            raise self.failure("Dagster ended")
        if time.monotonic() - began > self.limit_seconds:
            raise self.failure(what)

    def failure(self, what: str) -> CommandFailedError:
        """An error with the end of the log."""
        last = "\n".join(self.ui.log.read_text().splitlines()[-20:])
        return CommandFailedError(
            f"{what}:\n{last}", fix="run it again with --keep, and read its log"
        )


def _has_day(session: psycopg.Connection, day: date) -> bool:
    try:
        row = session.execute(_HAS_DAY, (day,)).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return False  # the first run creates the marts
    return bool(row and row[0])


@contextmanager
def _empty_project(folder: Path) -> Iterator[tuple[_Ui, float]]:
    """`dagster dev` with empty definitions, on its own instance."""
    folder.mkdir()
    (folder / "empty.py").write_text(_EMPTY_PROJECT)
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    command = [sys.executable, "-m", "dagster", "dev", "-f", str(folder / "empty.py")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
    environment |= {"DAGSTER_HOME": str(folder), "PYTHONWARNINGS": "ignore"}
    with _serving(command, environment, folder / "dev.log") as served:
        yield served


@contextmanager
def _serving(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> Iterator[tuple[_Ui, float]]:
    """A command that serves Dagster's UI, and the seconds until the UI was usable."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()
    with log.open("w") as lines:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*command, "--port", str(port)],
            cwd=log.parent,
            env=environment,
            stdout=lines,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        ui = _Ui(process, f"http://127.0.0.1:{port}/graphql", log)
        try:
            while not ui.is_usable():
                if process.poll() is not None or time.monotonic() - began > _START_SECONDS:
                    raise CommandFailedError(
                        f"it did not start:\n{log.read_text()[-2000:]}",
                        fix="run it again with --keep, and read its log",
                    )
                time.sleep(_POLL_SECONDS)
            yield ui, time.monotonic() - began
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                messages.print("it did not stop after SIGINT, and is killed")
            end_group(process)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency",
        description="Measure headrace dev: its start, idle consumption, launches, files to a mart.",
    )
    parser.add_argument("--history", type=int, default=366, help="days that are loaded before")
    parser.add_argument("--files", type=int, default=5, help="files to drop, one by one")
    parser.add_argument("--launches", type=int, default=5, help="runs to launch, one by one")
    parser.add_argument("--idle", type=float, default=120, help="seconds of idling to measure")
    parser.add_argument("--limit", type=float, default=600, help="seconds to wait for each")
    parser.add_argument("--json", action="store_true", help="print data as JSON")
    parser.add_argument("--keep", action="store_true", help="leave the scratch folder")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
