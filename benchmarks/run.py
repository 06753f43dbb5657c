"""`make bench`: the platform against the baseline, over the same files, with equal tables."""

import argparse
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks import events, report
from benchmarks.rounds import Bench, Round
from benchmarks.scratch import Database, Scratch, scratch_folder, start_server
from demo.stage import stage_landing
from headrace.cli.output import messages, print_error
from headrace.errors import HeadraceError


def main() -> int:
    """Run the rounds, print the figures and the differences."""
    options = _options()
    # The default handler would exit at once, and leave servers running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        rounds = _run(options)
    except HeadraceError as error:
        print_error(error)
        return 2
    report.print_rounds(rounds)
    if options.out:
        options.out.write_text(json.dumps(report.as_document(rounds), indent=2) + "\n")
    for one in rounds:
        for when, difference in one.differences:
            messages.print(
                f"[red]differs[/] after {when}: {difference.table}: {difference.what}",
                soft_wrap=True,
            )
    return 1 if any(one.differences for one in rounds) else 0


def _run(options: argparse.Namespace) -> list[Round]:
    with scratch_folder(keep=options.keep) as scratch:
        if options.keep:
            messages.print(f"working in {scratch.root}, which is kept")
        staged = stage_landing(scratch.landing)
        messages.print(f"staged {len(staged.files)} files, {staged.rows('transactions'):,} sales")
        baseline = start_server(scratch.home("baseline"))
        bench = Bench(
            scratch=scratch,
            limit_seconds=options.limit,
            say=messages.print,
            baseline=baseline,
        )
        rounds = [bench.run_round(number) for number in range(1, options.rounds + 1)]
        messages.print(events.describe(_stored_events(scratch, baseline)))
        return rounds


def _stored_events(scratch: Scratch, baseline: Database) -> events.StoredEvents:
    """Store the Dagster events of the first round again, on the baseline's server."""
    home = start_server(scratch.home("home-1"))
    return events.store_again(replace(home, name="dagster"), baseline.emptied("events"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description="Measure the platform against a hand-written script for the same files.",
    )
    parser.add_argument("--rounds", type=int, default=1, help="number of rounds")
    parser.add_argument("--out", type=Path, help="also write all figures to this file, as JSON")
    parser.add_argument("--keep", action="store_true", help="leave the scratch folder")
    parser.add_argument(
        "--limit", type=float, default=900, help="seconds after which a command is killed"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
