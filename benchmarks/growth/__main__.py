"""`python -m benchmarks.growth`: one more day after a history, and after one ten times as long."""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from random import Random
from time import perf_counter

import yaml

from benchmarks.scratch import PROJECT, Scratch, python, scratch_folder
from headrace.project.home import Home

FIRST = date(2016, 1, 1)
PRODUCTS, CHANGED, SOLD = 20_000, 2_000, 2_000
# The first of these is not reported: it includes the start-up work of the process.
NEXT_DAYS = 4
SELECT = "+group:warehouse"
_CONFIG = Path(__file__).parent / "config"


@dataclass(frozen=True)
class Day:
    """The measurements of one run.

    Attributes:
        seconds: Total seconds, and seconds of each step.
        bytes_read: Bytes that the process read from files (Linux's rchar).
        peak_bytes: Peak memory of the process (Linux's VmHWM).
    """

    seconds: dict[str, float]
    bytes_read: int
    peak_bytes: int


@dataclass(frozen=True)
class Grown:
    """A history that was loaded in one run, and some days after it."""

    history: Day
    days: list[Day]


def deliver(landing: Path, number: int) -> None:
    """Write the files of a day, numbered from 0; day 0 has all products."""
    random = Random(number)  # noqa: S311  # reproducible
    day = FIRST + timedelta(days=number)
    changed = range(PRODUCTS) if number == 0 else sorted(random.sample(range(PRODUCTS), CHANGED))
    products = [f"{n},{random.choice('ABCD')},{random.randrange(1000)}" for n in changed]
    sales = [
        f"{number * SOLD + n},{random.randrange(PRODUCTS)},{day} 12:00:00,{random.randrange(99)}.50"
        for n in range(SOLD)
    ]
    _write(landing / "products" / f"products-{day}.csv", "product_id,brand,size", products)
    _write(landing / "sales" / f"sales-{day}.csv", "sale_id,product_id,sold_at,amount", sales)


def measure(landing: Path, history: int) -> Grown:
    """Load a history of some days in this process, then the next days one by one."""
    # Imported here, after the environment is set.
    from headrace.cli.backfill import run_backfill  # noqa: PLC0415

    for number in range(history):
        deliver(landing, number)

    def run(start: int, end: int) -> Day:
        began, read = perf_counter(), _bytes_read()
        _reset_peak()
        days = (FIRST + timedelta(days=start), FIRST + timedelta(days=end))
        result = run_backfill(*days, select=SELECT, quiet=True)
        if result.exit_code:
            raise SystemExit(f"{days}: {result.summary}")
        seconds = {"in all": perf_counter() - began, **dict(result.steps)}
        return Day(seconds, _bytes_read() - read, _peak_bytes())

    loaded = run(0, history - 1)
    found = []
    for number in range(history, history + NEXT_DAYS):
        deliver(landing, number)
        found.append(run(number, number))
    return Grown(loaded, found[1:])


def report(found: dict[int, Grown]) -> list[str]:
    """Lines of a table: medians of the days after each history, and peak memory."""
    short, long = sorted(found)
    lines = [f"{'one more day after':<34}{short:>7} days{long:>7} days    ratio"]
    for step in found[short].days[0].seconds:
        values = [
            statistics.median(day.seconds[step] for day in found[days].days)
            for days in (short, long)
        ]
        lines.append(
            f"{step:<34}{values[0]:>10.2f} s{values[1]:>10.2f} s{values[1] / values[0]:>9.2f}"
        )
    for name, both in (
        ("read from files", [[day.bytes_read for day in found[d].days] for d in (short, long)]),
        ("peak memory", [[day.peak_bytes for day in found[d].days] for d in (short, long)]),
        ("peak memory, the history", [[found[d].history.peak_bytes] for d in (short, long)]),
    ):
        less, more = (statistics.median(some) / 2**20 for some in both)
        lines.append(f"{name:<34}{less:>8.1f} MiB{more:>8.1f} MiB{more / less:>9.2f}")
    return lines


def main(arguments: Sequence[str]) -> None:
    """Run both histories, each in its own process."""
    parser = argparse.ArgumentParser(prog="benchmarks.growth", description=__doc__)
    parser.add_argument("--days", type=int, default=36, help="days of the short history")
    parser.add_argument("--factor", type=int, default=10, help="how much longer the long one is")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.child:
        print(json.dumps(asdict(measure(chosen.child, chosen.days))))  # noqa: T201
        return
    with scratch_folder() as scratch:
        found = {
            days: _in_child(scratch, scratch.home(f"home-{days}"), days)
            for days in (chosen.days, chosen.days * chosen.factor)
        }
    print("\n".join(report(found)))  # noqa: T201


def _in_child(scratch: Scratch, home: Home, days: int) -> Grown:
    config = scratch.root / f"config-{days}"
    shutil.copytree(_CONFIG, config)
    overlay = {
        "partitions": {"end": FIRST + timedelta(days=days + NEXT_DAYS)},
        "landing": {"uri": str(home.root / "landing")},
        "dbt_project": str(PROJECT / "demo/files/dbt"),
    }
    (config / "development.yaml").write_text(yaml.safe_dump(overlay))
    landing = home.root / "landing"
    command = python("benchmarks.growth", "--child", str(landing), "--days", str(days))
    variables = scratch.environment(home) | {"HEADRACE_CONFIG": str(config)}
    print(f"loading {days} days", file=sys.stderr)  # noqa: T201
    done = subprocess.run(  # noqa: S603  # our own program
        command, env=variables, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return Grown(Day(**found["history"]), [Day(**day) for day in found["days"]])


def _write(path: Path, header: str, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}")
    scratch.write_text("\n".join([header, *lines, ""]))
    scratch.replace(path)


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(peak) * 1024


def _bytes_read() -> int:
    text = Path("/proc/self/io").read_text()
    return int(text.split("rchar:")[1].split()[0])


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main(sys.argv[1:])
