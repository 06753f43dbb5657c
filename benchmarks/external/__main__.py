"""`python -m benchmarks.external`: the platform before a referee that is not ours."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from benchmarks.external import report
from benchmarks.external.folder import Referee
from benchmarks.external.match import Arena, Match
from benchmarks.scratch import PROJECT, scratch_folder
from headrace.cli.output import messages, print_error
from headrace.errors import ConfigError, HeadraceError

_BENCH = "HEADRACE_REFEREE"


def main() -> int:
    """Run the match, print what it took and what the referee says."""
    options = _options()
    # By default it would end us at once, and leave servers behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        match, peers = _run(options)
    except HeadraceError as error:
        print_error(error)
        return 2
    report.print_match(match)
    if peers:
        report.print_peers(peers)
    if options.out:
        document = report.as_document(match, peers)
        options.out.write_text(json.dumps(document, indent=2) + "\n")
    return 0 if match.is_right else 1


def _run(options: argparse.Namespace) -> tuple[Match, list[dict[str, Any]]]:
    if options.bench is None:
        raise ConfigError(
            "which benchmark? Its folder holds stage.py, peer_floor.py and verify.py",
            fix=f"--bench DIR, or {_BENCH}=DIR",
        )
    referee = Referee(options.bench.resolve(), options.work.resolve())
    referee.require()
    referee.stage(messages.print)
    with scratch_folder(keep=options.keep) as scratch:
        if options.keep:
            messages.print(f"working in {scratch.root}, which stays")
        arena = Arena(scratch, referee, options.limit, messages.print)
        match = arena.run()
        peers = []
        if options.peers:
            peers = referee.run_peers(options.peers, scratch.root / "peers.json")
        return match, peers


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.external",
        description="Measure the platform on another benchmark's files, and have that judge it.",
    )
    given = os.environ.get(_BENCH)
    parser.add_argument(
        "--bench", type=Path, default=given and Path(given), help=f"its folder (default: {_BENCH})"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=PROJECT / ".referee",
        help="folder for its data, made if missing (default: .referee in the project)",
    )
    parser.add_argument("--peers", help="also run these of its programs, such as dlt-tuned,polars")
    parser.add_argument("--out", type=Path, help="also write all figures to this file, as JSON")
    parser.add_argument("--keep", action="store_true", help="leave the scratch folder")
    parser.add_argument(
        "--limit", type=float, default=900, help="seconds after which a command is ended"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
