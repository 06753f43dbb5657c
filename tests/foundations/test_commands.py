import os
import re
import subprocess
import sys
from pathlib import Path

TARGETS = {
    *("setup", "demo", "ui", "fmt", "lint", "types", "imports", "bench", "check", "docs"),
    *("test", "test-fast", "test-contract", "test-property", "test-e2e", "test-spark"),
    *("test-crash", "test-orders", "test-nightly", "lock", "clean"),
}


def test_make_alone_lists_the_targets(root: Path) -> None:
    done = subprocess.run(["make"], cwd=root, capture_output=True, text=True, check=True)  # noqa: S607
    listed = re.findall(r"^ *make (\S+) +\S", done.stdout, flags=re.MULTILINE)
    assert set(listed) == TARGETS
    assert len(listed) == len(TARGETS)


def test_help_comes_within_a_second(root: Path) -> None:
    command = [str(Path(sys.executable).with_name("headrace")), "--help"]
    seconds = []
    for _ in range(3):
        before = os.times()
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        after = os.times()
        user, system = after.children_user - before.children_user, after.children_system
        seconds.append(user + system - before.children_system)
    assert "backfill" in done.stdout
    # Of the processor: other work on the machine does not count.
    assert min(seconds) < 1.0
