"""Reports of the benchmark: tables, and one JSON document."""

import os
import platform
import statistics
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.measure import Measured
from benchmarks.rounds import Backfill, Round
from headrace.cli.output import messages, print_table
from headrace.project.version import VERSION

_MIB = 2**20


def print_rounds(rounds: Sequence[Round]) -> None:
    """Print the medians of the rounds, then the seconds of each step."""
    baselines = [baseline for one in rounds for baseline in one.baselines]
    baseline_seconds = _median(rounds, lambda one: one.baseline_seconds)
    columns = ("", "seconds", "x baseline", "CPU s", "RSS MiB", "Postgres MiB", "aim")
    rows = [
        _row("baseline: the year", baselines, baseline_seconds, ""),
        _row(
            "platform: the year",
            [one.year.measured for one in rounds],
            baseline_seconds,
            "5 x, 2,048 MiB",
        ),
        _row(
            "platform: one more day",
            [one.next_day.measured for one in rounds],
            baseline_seconds,
            "6 s",
        ),
        _row("platform: a day again", [one.rerun.measured for one in rounds], baseline_seconds, ""),
    ]
    print_table(columns, rows, title=_title(rounds))
    first_start = _median(rounds, lambda one: one.first_start_seconds)
    messages.print(f"Not included: the first start of a home's Postgres, {first_start:.1f} s")
    for title, pick in _BACKFILLS.items():
        print_table(
            ("step", "seconds", "share"),
            _steps([pick(one) for one in rounds]),
            title=f"\nWhere the time goes: {title}",
        )


def as_document(rounds: Sequence[Round]) -> dict[str, Any]:
    """All measurements, in seconds and bytes; the medians come first."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": VERSION,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "ratio": round(_median(rounds, lambda one: one.ratio), 2),
        "cpu_ratio": round(_median(rounds, lambda one: one.cpu_ratio), 2),
        "baseline_seconds": round(_median(rounds, lambda one: one.baseline_seconds), 2),
        "year_seconds": round(_median(rounds, lambda one: one.year.seconds), 2),
        "next_day_seconds": round(_median(rounds, lambda one: one.next_day.seconds), 2),
        "rerun_seconds": round(_median(rounds, lambda one: one.rerun.seconds), 2),
        "peak_rss_bytes": max(one.year.measured.rss_bytes for one in rounds),
        "is_equal": not any(one.differences for one in rounds),
        "rounds": [_round_document(one) for one in rounds],
    }


_BACKFILLS: dict[str, Callable[[Round], Backfill]] = {
    "the year": lambda one: one.year,
    "one more day": lambda one: one.next_day,
}


def _title(rounds: Sequence[Round]) -> str:
    ratio = _median(rounds, lambda one: one.ratio)
    return (
        f"The platform's cold year takes {ratio:.1f} times the baseline's "
        f"(rounds: {len(rounds)}, cores: {os.cpu_count()})"
    )


def _row(name: str, runs: Sequence[Measured], baseline_seconds: float, aim: str) -> tuple[str, ...]:
    seconds = statistics.median(run.seconds for run in runs)
    postgres = [run.postgres_bytes for run in runs if run.postgres_bytes]
    return (
        name,
        f"{seconds:.2f}",
        f"{seconds / baseline_seconds:.2f}",
        f"{statistics.median(run.cpu_seconds for run in runs):.1f}",
        f"{max(run.rss_bytes for run in runs) / _MIB:,.0f}",
        f"{max(postgres) / _MIB:,.0f}" if postgres else "unknown",
        aim,
    )


def _steps(runs: Sequence[Backfill]) -> list[tuple[str, str, str]]:
    """The median of each step over the rounds, longest first, and the time outside of steps."""
    whole = statistics.median(run.seconds for run in runs)
    seconds: dict[str, list[float]] = {}
    for run in runs:
        for name, taken in run.steps:
            seconds.setdefault(name, []).append(taken)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    longest_first = sorted(medians.items(), key=lambda step: -step[1])
    outside = statistics.median(run.seconds_outside_steps for run in runs)
    rows = [*longest_first, ("process start, between steps", outside)]
    return [(name, f"{taken:.2f}", f"{taken / whole:.0%}") for name, taken in rows]


def _median(rounds: Sequence[Round], value: Callable[[Round], float]) -> float:
    return statistics.median(value(one) for one in rounds)


def _round_document(one: Round) -> dict[str, Any]:
    return {
        "ratio": round(one.ratio, 2),
        "first_start_of_postgres_seconds": round(one.first_start_seconds, 2),
        "baselines": [_measured_document(baseline) for baseline in one.baselines],
        "year": _backfill_document(one.year),
        "next_day": _backfill_document(one.next_day),
        "rerun": _backfill_document(one.rerun),
        "differences": [
            {"after": when, "table": found.table, "what": found.what}
            for when, found in one.differences
        ],
    }


def _backfill_document(run: Backfill) -> dict[str, Any]:
    steps = {name: round(seconds, 3) for name, seconds in run.steps}
    return _measured_document(run.measured) | {
        "steps": steps,
        "seconds_outside_steps": round(run.seconds_outside_steps, 3),
    }


def _measured_document(run: Measured) -> dict[str, Any]:
    return {
        "seconds": round(run.seconds, 3),
        "cpu_seconds": round(run.cpu_seconds, 2),
        "peak_rss_bytes": run.rss_bytes,
        "postgres_pss_bytes": run.postgres_bytes,
    }
