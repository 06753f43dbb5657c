"""`python -m benchmarks.external`: the platform on an external benchmark."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from benchmarks.external import report
from benchmarks.external.comparison import ExternalBench, ExternalComparison
from benchmarks.external.folder import BenchmarkFolder
from benchmarks.scratch import PROJECT, scratch_folder
from headrace.cli.output import messages, print_error
from headrace.errors import ConfigError, HeadraceError

_BENCH = "HEADRACE_EXTERNAL_BENCHMARK"


def main() -> int:
    """Measure, print the figures and the external benchmark's verdicts."""
    options = _options()
    # The default handler would exit at once, and leave servers running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        found, peers = _run(options)
    except HeadraceError as error:
        print_error(error)
        return 2
    report.print_comparison(found)
    if peers:
        report.print_peers(peers)
    if options.out:
        document = report.as_document(found, peers)
        options.out.write_text(json.dumps(document, indent=2) + "\n")
    return 0 if found.is_right else 1


def _run(options: argparse.Namespace) -> tuple[ExternalComparison, list[dict[str, Any]]]:
    if options.bench is None:
        raise ConfigError(
            "which benchmark? Its folder holds stage.py, peer_floor.py and verify.py",
            fix=f"--bench DIR, or {_BENCH}=DIR",
        )
    external = BenchmarkFolder(options.bench.resolve(), options.work.resolve())
    external.require()
    external.stage(messages.print)
    with scratch_folder(keep=options.keep) as scratch:
        if options.keep:
            messages.print(f"working in {scratch.root}, which is kept")
        bench = ExternalBench(
            scratch=scratch,
            limit_seconds=options.limit,
            say=messages.print,
            external=external,
        )
        found = bench.run()
        peers = []
        if options.peers:
            peers = external.run_peers(options.peers, scratch.root / "peers.json")
        return found, peers


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.external",
        description="Measure the platform on another benchmark's files and with its checks.",
    )
    given = os.environ.get(_BENCH)
    parser.add_argument(
        "--bench", type=Path, default=given and Path(given), help=f"its folder (default: {_BENCH})"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=PROJECT / ".external-benchmark",
        help="folder for its data (default: .external-benchmark in the project)",
    )
    parser.add_argument("--peers", help="also run these of its programs, such as dlt-tuned,polars")
    parser.add_argument("--out", type=Path, help="also write all figures to this file, as JSON")
    parser.add_argument("--keep", action="store_true", help="leave the scratch folder")
    parser.add_argument(
        "--limit", type=float, default=900, help="seconds after which a command is killed"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
