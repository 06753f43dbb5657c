"""What commands import: those that only look need neither Dagster nor the engine."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.e2e import installation
from tests.e2e.installation import FIRST, Installation

HEAVY = {"dagster", "dbt", "pyspark", "pysail", "pandas", "pyiceberg"}
_MODULES = """
import json, sys
from headrace.cli.app import main
try:
    main()
except SystemExit as ended:
    print(json.dumps([ended.code, *{name.partition(".")[0] for name in sys.modules}]))
"""


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    # pytest's own folders are closed to the account that runs PostgreSQL for root.
    with tempfile.TemporaryDirectory(prefix="headrace-cold-") as name:
        Path(name).chmod(0o755)
        made = installation.make(Path(name), end=FIRST + timedelta(days=1))
        # dbt's project is parsed and the engine has read the conditions: once a home.
        run(made, "check")
        run(made, "status")
        yield made
        installation.end(made)


def run(shop: Installation, *words: str) -> "subprocess.CompletedProcess[str]":
    with shop.active():
        return subprocess.run(
            [sys.executable, "-c", _MODULES, *words],
            cwd=shop.root,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            check=True,
        )


def cpu_of_children() -> float:
    used = os.times()
    return used.children_user + used.children_system


@pytest.mark.parametrize(
    "words", [("sql", "select 1"), ("status",), ("check",), ("--help",)], ids=lambda w: w[0]
)
def test_a_command_that_only_looks_imports_nothing_heavy_and_is_there_within_a_second(
    shop: Installation, words: tuple[str, ...]
) -> None:
    seconds = []
    for _ in range(3):
        before = cpu_of_children()
        done = run(shop, *words)
        seconds.append(cpu_of_children() - before)
    code, *modules = json.loads(done.stdout.splitlines()[-1])
    assert code in (0, None), done.stderr
    assert HEAVY.isdisjoint(modules), HEAVY.intersection(modules)
    # Of the processor, which a busy machine lengthens, too: 0.7 to 1.2 s where nothing else runs.
    # Dagster or the engine alone would add more than is left.
    assert min(seconds) < 2
