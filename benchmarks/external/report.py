"""What a match found: tables for people, one JSON document for programs."""

import os
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.external.match import Match
from benchmarks.measure import Measured
from benchmarks.rounds import Backfill
from headrace.cli.output import messages, print_table
from headrace.project.version import VERSION

_MIB = 2**20
_COLUMNS = ("", "seconds", "x floor", "CPU s", "RSS MiB", "Postgres MiB", "aim")


def print_match(match: Match) -> None:
    """The figures, where the platform's time goes, and the referee's verdicts."""
    floor, day = match.floor_seconds, match.floor_day.seconds
    rows = [
        *(_row("floor: the year", one, floor, "") for one in match.floors),
        _row("platform: the year", match.year.measured, floor, "4 x"),
        _row("floor: the day after", match.floor_day, day, ""),
        _row("platform: the day after", match.day.measured, day, "5 s"),
    ]
    title = f"The platform's year takes {match.ratio:.1f} times the referee's floor's"
    print_table(_COLUMNS, rows, title=f"{title} (cores: {os.cpu_count()})")
    for name, run in (("the year", match.year), ("the day after", match.day)):
        print_table(
            ("step", "seconds", "share"), _steps(run), title=f"\nWhere the time goes: {name}"
        )
    for (contender, state), wrong in match.verdicts.items():
        messages.print(f"verify.py, {contender}, {state}: {'OK' if not wrong else ''}")
        for line in wrong:
            messages.print(f"  [red]wrong[/] {line}", soft_wrap=True)


def print_peers(runs: Sequence[dict[str, Any]]) -> None:
    """Other programs, each in multiples of the floor as it ran between them."""
    floor = statistics.mean(run["year"]["wall_s"] for run in runs if run["name"] == "floor")
    rows = [
        (
            run["name"],
            f"{run['year']['wall_s']:.2f}",
            f"{run['year']['wall_s'] / floor:.2f}",
            f"{run['increment']['wall_s']:.2f}" if "increment" in run else "",
            f"{run['year']['peak_rss_mb']:,}",
            "OK" if run["year"]["verified"] else "wrong",
        )
        for run in runs
    ]
    columns = ("peer", "year s", "x floor", "day after s", "RSS MiB", "verify.py")
    print_table(columns, rows, title="\nPeers, by the referee's own runner and server settings")


def as_document(match: Match, peers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Everything measured; seconds and bytes."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": VERSION,
        "cores": os.cpu_count(),
        "ratio": round(match.ratio, 2),
        "cpu_ratio": round(match.cpu_ratio, 2),
        "floors": [_document(one) for one in match.floors],
        "floor_day": _document(match.floor_day),
        "year": _document(match.year.measured) | {"steps": dict(match.year.steps)},
        "day": _document(match.day.measured) | {"steps": dict(match.day.steps)},
        "verdicts": {f"{who} {state}": wrong for (who, state), wrong in match.verdicts.items()},
        "peers": list(peers),
    }


def _row(name: str, run: Measured, floor_seconds: float, aim: str) -> tuple[str, ...]:
    postgres = f"{run.postgres_bytes / _MIB:,.0f}" if run.postgres_bytes else "unknown"
    return (
        name,
        f"{run.seconds:.2f}",
        f"{run.seconds / floor_seconds:.2f}",
        f"{run.cpu_seconds:.1f}",
        f"{run.rss_bytes / _MIB:,.0f}",
        postgres,
        aim,
    )


def _steps(run: Backfill) -> list[tuple[str, str, str]]:
    longest_first = sorted(run.steps, key=lambda step: -step[1])
    rows = [*longest_first, ("process start, between steps", run.seconds_outside_steps)]
    return [(name, f"{taken:.2f}", f"{taken / run.seconds:.0%}") for name, taken in rows]


def _document(run: Measured) -> dict[str, Any]:
    return {
        "seconds": round(run.seconds, 3),
        "cpu_seconds": round(run.cpu_seconds, 2),
        "peak_rss_bytes": run.rss_bytes,
        "postgres_pss_bytes": run.postgres_bytes,
    }
