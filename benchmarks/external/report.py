"""Reports of the comparison on an external benchmark: tables, and one JSON document."""

import os
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.external.comparison import ExternalComparison
from benchmarks.measure import Measured
from benchmarks.rounds import Backfill
from headrace.cli.output import messages, print_table
from headrace.project.version import VERSION

_MIB = 2**20
_COLUMNS = ("", "seconds", "x baseline", "CPU s", "RSS MiB", "Postgres MiB", "aim")


def print_comparison(found: ExternalComparison) -> None:
    """Print the figures, the seconds of each step, and the external benchmark's verdicts."""
    baseline, day = found.baseline_seconds, found.baseline_day.seconds
    rows = [
        *(_row("baseline: the year", one, baseline, "") for one in found.baselines),
        _row("platform: the year", found.year.measured, baseline, "4 x"),
        _row("baseline: the day after", found.baseline_day, day, ""),
        _row("platform: the day after", found.day.measured, day, "5 s"),
    ]
    title = f"The platform's year takes {found.ratio:.1f} times the baseline's"
    print_table(_COLUMNS, rows, title=f"{title} (cores: {os.cpu_count()})")
    for name, run in (("the year", found.year), ("the day after", found.day)):
        print_table(
            ("step", "seconds", "share"), _steps(run), title=f"\nWhere the time goes: {name}"
        )
    for (contender, state), wrong in found.verdicts.items():
        messages.print(f"verify.py, {contender}, {state}: {'OK' if not wrong else ''}")
        for line in wrong:
            messages.print(f"  [red]wrong[/] {line}", soft_wrap=True)


def print_peers(runs: Sequence[dict[str, Any]]) -> None:
    """Print other programs, as multiples of the runs of the baseline between them."""
    # The external benchmark's runner calls its baseline "floor".
    baseline = statistics.mean(run["year"]["wall_s"] for run in runs if run["name"] == "floor")
    rows = [
        (
            run["name"],
            f"{run['year']['wall_s']:.2f}",
            f"{run['year']['wall_s'] / baseline:.2f}",
            f"{run['increment']['wall_s']:.2f}" if "increment" in run else "",
            f"{run['year']['peak_rss_mb']:,}",
            "OK" if run["year"]["verified"] else "wrong",
        )
        for run in runs
    ]
    columns = ("peer", "year s", "x baseline", "day after s", "RSS MiB", "verify.py")
    print_table(
        columns, rows, title="\nPeers, by the external benchmark's own runner and server settings"
    )


def as_document(found: ExternalComparison, peers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All measurements, in seconds and bytes."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": VERSION,
        "cores": os.cpu_count(),
        "ratio": round(found.ratio, 2),
        "cpu_ratio": round(found.cpu_ratio, 2),
        "baselines": [_document(one) for one in found.baselines],
        "baseline_day": _document(found.baseline_day),
        "year": _document(found.year.measured) | {"steps": dict(found.year.steps)},
        "day": _document(found.day.measured) | {"steps": dict(found.day.steps)},
        "verdicts": {f"{who} {state}": wrong for (who, state), wrong in found.verdicts.items()},
        "peers": list(peers),
    }


def _row(name: str, run: Measured, baseline_seconds: float, aim: str) -> tuple[str, ...]:
    postgres = f"{run.postgres_bytes / _MIB:,.0f}" if run.postgres_bytes else "unknown"
    return (
        name,
        f"{run.seconds:.2f}",
        f"{run.seconds / baseline_seconds:.2f}",
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
