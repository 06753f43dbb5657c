"""`make bench`: the platform against the floor, over the same files, with equal contents."""

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
    """Run the rounds, print what they took, say what differs."""
    options = _options()
    # By default it would end us at once, and leave servers behind.
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
            messages.print(f"working in {scratch.root}, which stays")
        staged = stage_landing(scratch.landing)
        messages.print(f"staged {len(staged.files)} files, {staged.rows('transactions'):,} sales")
        floor = start_server(scratch.home("floor"))
        bench = Bench(scratch, floor, options.limit, messages.print)
        rounds = [bench.run_round(number) for number in range(1, options.rounds + 1)]
        messages.print(events.describe(_stored_events(scratch, floor)))
        return rounds


def _stored_events(scratch: Scratch, floor: Database) -> events.StoredEvents:
    """What the first round's year had Dagster remember, stored by itself on the floor's server."""
    home = start_server(scratch.home("home-1"))
    return events.store_again(replace(home, name="dagster"), floor.emptied("events"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description="Measure the platform against a script written by hand for the same files.",
    )
    parser.add_argument("--rounds", type=int, default=1, help="how often all is measured")
    parser.add_argument("--out", type=Path, help="also write all figures to this file, as JSON")
    parser.add_argument("--keep", action="store_true", help="leave the scratch folder")
    parser.add_argument(
        "--limit", type=float, default=900, help="seconds after which a command is ended"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
