"""How long from a file that arrives to its sales in a mart, with Dagster's daemon watching.

Belongs here: `python -m benchmarks.latency`, which drops files and waits for their days.
Elsewhere: how long a day takes by itself (benchmarks.run).
"""

import argparse
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg

from benchmarks.measure import CommandFailedError, end_group
from benchmarks.next_day import deliver_again
from benchmarks.scratch import PROJECT, Database, Scratch, headrace, scratch_folder, start_server
from demo.journey import DAY_AFTER_LAST, FIRST_DAY
from demo.stage import stage_landing
from headrace.cli.output import messages, print_error, print_json, print_table
from headrace.errors import HeadraceError

_POLL_SECONDS = 0.05
# The run that brought the history still writes its last events when its marts are there.
_CALM_SECONDS = 10
_END_SECONDS = 20
_SOLD_ON = date(2017, 12, 30)

_HAS_DAY = "select exists (select from marts.mart_daily_department where date = %s)"
_PUBLISHED = """
select split_part(asset, '/', 1) as layer, max(published_at) as at
from platform.partition_ledger
where partition = %s and (asset like '%%transactions' or asset like '%%fact_sales')
group by layer
order by at
"""


@dataclass(frozen=True)
class Arrival:
    """One file's way: seconds from its appearance to each layer, and to the mart's rows."""

    day: date
    layers: Mapping[str, float]
    mart_seconds: float


def main() -> int:
    """Drop files one by one; print how long each took."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with scratch_folder(keep=options.keep) as scratch:
            arrivals = _measure(scratch, options.history, options.files, options.limit)
    except HeadraceError as error:
        print_error(error)
        return 2
    if options.json:
        print_json([asdict(arrival) for arrival in arrivals])
    else:
        _print(arrivals)
    return 0


def _print(arrivals: Sequence[Arrival]) -> None:
    layers = list(arrivals[0].layers)
    rows = []
    for arrival in arrivals:
        seconds = (*(arrival.layers.get(layer, 0.0) for layer in layers), arrival.mart_seconds)
        rows.append((str(arrival.day), *(f"{taken:.1f}" for taken in seconds)))
    columns = ("day", *layers, "rows in the mart")
    print_table(columns, rows, title="Seconds after the file appeared")
    median = statistics.median(arrival.mart_seconds for arrival in arrivals)
    messages.print(f"file to mart: {median:.1f} s (median of {len(arrivals)})")


def _measure(scratch: Scratch, history: int, files: int, limit: float) -> list[Arrival]:
    first = DAY_AFTER_LAST
    start = max(FIRST_DAY, first - timedelta(days=history))
    # The day that is sold again must be among the files, however short the history is.
    stage_landing(scratch.landing, start=min(start, _SOLD_ON))
    scratch.configure(end=first + timedelta(days=files))
    home = scratch.home("home")
    warehouse = start_server(home)
    environment = _dagster_environment(scratch.environment(home))
    with _daemon(environment, scratch.root / "daemon.log") as daemon:
        watch = _Watch(warehouse, daemon, scratch.root / "daemon.log", limit)
        messages.print("waiting for the sensor to bring the history")
        messages.print(f"history: {watch.until_there(first - timedelta(days=1)):.1f} s")
        time.sleep(_CALM_SECONDS)
        return [_drop(scratch, watch, first + timedelta(days=number)) for number in range(files)]


def _drop(scratch: Scratch, watch: "_Watch", day: date) -> Arrival:
    appeared_at = datetime.now(UTC)
    deliver_again(scratch.landing, _SOLD_ON, day)
    seconds = watch.until_there(day)
    messages.print(f"{day}: {seconds:.1f} s")
    time.sleep(_CALM_SECONDS)
    with psycopg.connect(watch.warehouse.url) as session:
        published = session.execute(_PUBLISHED, (day,)).fetchall()
    return Arrival(
        day, {layer: (at - appeared_at).total_seconds() for layer, at in published}, seconds
    )


@dataclass(frozen=True)
class _Watch:
    """Waits for days to appear in the mart."""

    warehouse: Database
    daemon: "subprocess.Popen[str]"
    log: Path
    limit_seconds: float

    def until_there(self, day: date) -> float:
        """Seconds until the mart has rows of the day."""
        began = time.monotonic()
        with psycopg.connect(self.warehouse.url, autocommit=True) as session:
            while not _has_day(session, day):
                if self.daemon.poll() is not None:
                    raise self._failure("Dagster's daemon ended")
                if time.monotonic() - began > self.limit_seconds:
                    raise self._failure(f"{day} did not reach the mart")
                time.sleep(_POLL_SECONDS)
        return time.monotonic() - began

    def _failure(self, what: str) -> CommandFailedError:
        last = "\n".join(self.log.read_text().splitlines()[-20:])
        return CommandFailedError(
            f"{what}:\n{last}", fix="run it again with --keep, and read its log"
        )


def _has_day(session: psycopg.Connection, day: date) -> bool:
    try:
        row = session.execute(_HAS_DAY, (day,)).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return False  # the first run makes the marts
    return bool(row and row[0])


def _dagster_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What `headrace env` says, on top of `environment`."""
    answer = subprocess.run(  # noqa: S603 - our own command
        headrace("env"), check=True, env=environment, cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    exports = [line.removeprefix("export ") for line in answer.stdout.splitlines()]
    pairs = [shlex.split(line)[0].split("=", 1) for line in exports if "=" in line]
    # PATH is for a shell: it refers to the one before.
    return {**environment, **{name: value for name, value in pairs if name != "PATH"}}


@contextmanager
def _daemon(environment: Mapping[str, str], log: Path) -> Iterator["subprocess.Popen[str]"]:
    """Dagster's daemon, with sensors and the code location, as `headrace dev` has it without UI."""
    program = str(Path(sys.executable).with_name("dagster-daemon"))
    with log.open("w") as lines:
        process = subprocess.Popen(  # noqa: S603 - Dagster's own program
            [program, "run", "-w", "workspace.yaml"],
            cwd=PROJECT,
            env=environment,
            stdout=lines,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                messages.print("the daemon did not end by itself")
            end_group(process)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency",
        description="Measure how long a new file takes to reach a mart.",
    )
    parser.add_argument("--history", type=int, default=366, help="days that are there before")
    parser.add_argument("--files", type=int, default=3, help="files to drop, one by one")
    parser.add_argument("--limit", type=float, default=600, help="seconds to wait for each")
    parser.add_argument("--json", action="store_true", help="print data as JSON")
    parser.add_argument("--keep", action="store_true", help="leave the scratch folder")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
