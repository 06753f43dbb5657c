"""`python -m benchmarks.sources`: rates of sources to raw, beside the least that reads the rows."""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import CommandFailedError
from benchmarks.scratch import python, scratch_folder, start_server
from benchmarks.sources import dlt_load, rows
from headrace.cli.output import messages, print_error, print_table
from headrace.errors import HeadraceError

_MYSQL = "HEADRACE_BENCHMARK_MYSQL"
# Of PyMySQL, and of files, so many fewer rows: they take as long then.
_FEWER = 5


@dataclass(frozen=True)
class Rate:
    """What one task took.

    Attributes:
        task: What read the rows.
        of: The task that its rate is compared to; empty: none.
        aim: The least ratio of the rates.
        rows: How many rows.
        peak_bytes: Peak memory of the process; None: not measured.
    """

    task: str
    rows: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int | None
    of: str = ""
    aim: float | None = None

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


@dataclass(frozen=True)
class SourceBench:
    """Runs tasks one after another."""

    folder: Path
    limit_seconds: float
    dlt_python: str | None

    def postgres(self, url: str, count: int) -> Iterator[Rate]:
        """A table of PostgreSQL."""
        rows.fill_postgres(url, count)
        least = self._task("psql", url, "psql: copy to stdout, to nothing", count)
        yield least
        yield self._task("postgres", url, "PostgreSQL to raw", count, of=least.task, aim=0.8)
        yield from self._dlt("postgres", url, "PostgreSQL to raw")

    def mysql(self, url: str, count: int) -> Iterator[Rate]:
        """A table of MySQL or MariaDB."""
        rows.fill_mysql(url, count)
        least = self._task("pymysql", url, "PyMySQL: all rows, to nothing", count)
        yield least
        yield self._task("mysql", url, "MySQL to raw", count, of=least.task, aim=3)
        yield from self._dlt("mysql", url, "MySQL to raw")

    def files(self, count: int) -> Iterator[Rate]:
        """A file of JSON Lines, and a CSV file a day."""
        lines, days = self._made("lines"), self._made("days")
        rows.write_json_lines(lines, count)
        least = self._task("duckdb", str(lines), "DuckDB: read_json, as Arrow", count)
        yield least
        yield self._task("json_lines", str(lines), "JSON Lines to raw", count, least.task, 0.5)
        yield from self._dlt("json_lines", str(lines), "JSON Lines to raw")
        rows.write_csv(days, count)
        yield self._task("csv", str(days), f"{rows.DAYS} CSV files to raw", count)

    def _dlt(self, task: str, source: str, of: str) -> Iterator[Rate]:
        """The same by dlt; its ratio is to be at most a half."""
        if self.dlt_python is None:
            return
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            command = [self.dlt_python, dlt_load.__file__, task, source, folder]
            found = self._run(command)
        yield _rate(f"dlt {found['version']}: {task}", found, found["rows"], of, None)

    def _task(
        self, task: str, source: str, name: str, count: int, of: str = "", aim: float | None = None
    ) -> Rate:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            found = self._run(python("benchmarks.sources.tasks", task, source, folder))
        if found["rows"] not in (None, count):
            raise CommandFailedError(
                f"{name}: {found['rows']} of {count} rows", fix="run it again with fewer --rows"
            )
        return _rate(name, found, count, of, aim)

    def _run(self, command: list[str]) -> dict[str, Any]:
        try:
            done = subprocess.run(  # noqa: S603
                command, capture_output=True, text=True, timeout=self.limit_seconds, check=False
            )
        except subprocess.TimeoutExpired:
            raise CommandFailedError(
                f"{command[-3]} took more than {self.limit_seconds:.0f} s",
                fix="give it a higher --limit, or fewer --rows",
            ) from None
        if done.returncode:
            raise CommandFailedError(
                f"{command[-3]} ended with code {done.returncode}:\n{done.stderr[-2000:]}",
                fix="correct what it says",
            )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def _made(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder


def measured(options: argparse.Namespace) -> Iterator[Rate]:
    """All figures, each as soon as it is there."""
    with scratch_folder() as scratch:
        bench = SourceBench(scratch.root, options.limit, options.dlt)
        if "postgres" in options.only:
            yield from bench.postgres(start_server(scratch.home("home")).url, options.rows)
        fewer = max(options.rows // _FEWER, 1)
        if "mysql" in options.only and options.mysql:
            yield from bench.mysql(options.mysql, fewer)
        if "files" in options.only:
            yield from bench.files(fewer)


def main() -> int:
    """Measure and print the figures."""
    options = _options()
    # The default handler would exit at once, and leave servers running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    rates = []
    try:
        for rate in measured(options):
            rates.append(rate)
            messages.print(f"{rate.task}: {rate.seconds:.1f} s")
    except HeadraceError as error:
        print_error(error)
        return 2
    if not options.mysql and "mysql" in options.only:
        messages.print(f"MySQL is left out: give its URL as --mysql or {_MYSQL}")
    if options.dlt is None:
        messages.print(
            "dlt is left out: it is not installed, and --dlt names no Python that has it"
        )
    print_rates(rates)
    if options.out:
        options.out.write_text(json.dumps([asdict(rate) for rate in rates], indent=2) + "\n")
    return 0


def print_rates(rates: list[Rate]) -> None:
    """As a table; a ratio is that of the rates."""
    known = {rate.task: rate for rate in rates}
    lines: list[list[object]] = []
    for rate in rates:
        base = known.get(rate.of)
        ratio = f"{rate.rate / base.rate:.2f} of {base.task.partition(':')[0]}" if base else ""
        aim = f"at least {rate.aim}" if rate.aim else ""
        peak = round(rate.peak_bytes / 2**20) if rate.peak_bytes else ""
        lines.append(
            [
                rate.task,
                rate.rows,
                f"{rate.seconds:.2f}",
                f"{rate.cpu_seconds:.2f}",
                round(rate.rate),
                ratio,
                aim,
                peak,
            ]
        )
    columns = ["task", "rows", "seconds", "CPU s", "rows/s", "ratio", "aim", "peak MiB"]
    print_table(columns, lines)


def _rate(name: str, found: dict[str, Any], count: int, of: str, aim: float | None) -> Rate:
    return Rate(name, count, found["seconds"], found["cpu_seconds"], found["peak_bytes"], of, aim)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sources",
        description="Measure how fast sources become raw. CPU s is that of the reading process.",
    )
    parser.add_argument("--rows", type=int, default=5_000_000, help="rows of the table in Postgres")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=("postgres", "mysql", "files"),
        default=("postgres", "mysql", "files"),
    )
    parser.add_argument(
        "--mysql", default=os.environ.get(_MYSQL), help=f"URL of a MySQL (default: {_MYSQL})"
    )
    has_dlt = importlib.util.find_spec("dlt") is not None
    parser.add_argument(
        "--dlt",
        default=sys.executable if has_dlt else None,
        help="a Python that has dlt, psycopg2 and PyMySQL (default: this one, if it has)",
    )
    parser.add_argument("--out", type=Path, help="also write all figures to this file, as JSON")
    parser.add_argument(
        "--limit", type=float, default=900, help="seconds after which a task is killed"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
