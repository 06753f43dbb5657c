"""The tutorial about own files: its commands, run as written, show what it says they show.

In the Markdown, every block marked `bash` is run, one after the other, in one shell that stops at
the first command that fails; `bash keeps-running` is left out. A block marked `text` is what the
commands of the block before it printed; in it, `…` stands for any text, alone on a line for any
lines.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.embedded_postgres import server
from headrace.project.home import Home

pytestmark = pytest.mark.e2e

REPOSITORY = Path(__file__).parents[2]
TUTORIAL = REPOSITORY / "docs/tutorial/own-files.md"
_FENCED = re.compile(r"^```(\w+)( keeps-running)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = "=== block"
_SECONDS = 300


@dataclass(frozen=True)
class Block:
    """Commands that belong together.

    Attributes:
        commands: As written.
        shown: What the tutorial says they print; None if it does not say.
    """

    commands: str
    shown: str | None = None


def blocks_of(markdown: str) -> list[Block]:
    """The blocks that are run, in their order; text before the first one belongs to nothing."""
    blocks: list[Block] = []
    is_run = False
    for language, keeps_running, body in _FENCED.findall(markdown):
        if language == "bash":
            is_run = not keeps_running
            blocks += [Block(body)] if is_run else []
        elif language == "text" and is_run:
            blocks[-1] = Block(blocks[-1].commands, body)
            is_run = False
    return blocks


def agrees(shown: str, printed: str) -> bool:
    """Whether the commands printed what is shown, blanks at line ends and `…` apart."""
    lines = []
    for line in shown.splitlines():
        pieces = [re.escape(piece) for piece in line.rstrip().split("…")]
        lines.append(r"(?:.*\n)*?" if line.strip() == "…" else ".*".join(pieces) + r"\n")
    plain = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
    return re.fullmatch("".join(lines), plain) is not None


BLOCKS = blocks_of(TUTORIAL.read_text(encoding="utf-8"))
SHOWN = [number for number, block in enumerate(BLOCKS) if block.shown is not None]


@pytest.fixture(scope="module")
def printed() -> Iterator[dict[int, str]]:
    """What each block printed, by its number; all of them ran in a folder as a clone has it."""
    # pytest's own folders are closed to the account that runs PostgreSQL for root.
    clone = Path(tempfile.mkdtemp(prefix="headrace-tutorial-"))
    clone.chmod(0o755)
    try:
        (clone / ".venv").symlink_to(REPOSITORY / ".venv")
        made_by_dbt = shutil.ignore_patterns("target", "logs")
        shutil.copytree(REPOSITORY / "dbt", clone / "dbt", ignore=made_by_dbt)
        yield _run(clone)
    finally:
        server.stop(Home(clone / "shop/home").postgres)
        shutil.rmtree(clone, ignore_errors=True)


def _run(clone: Path) -> dict[int, str]:
    marked = [f"echo '{_MARK} {n}'\n{block.commands}" for n, block in enumerate(BLOCKS)]
    script = clone / "tutorial.sh"
    script.write_text("\n".join(marked), encoding="utf-8")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "PIPELINE_"))}
    done = subprocess.run(
        ["/bin/bash", "-e", script.name],
        cwd=clone,
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    parts = re.split(rf"^{_MARK} (\d+)\n", done.stdout, flags=re.MULTILINE)
    return {int(number): text for number, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_every_block_of_the_tutorial_runs(printed: dict[int, str]) -> None:
    assert list(printed) == list(range(len(BLOCKS)))


@pytest.mark.parametrize("number", SHOWN, ids=lambda n: BLOCKS[n].commands.splitlines()[0][:40])
def test_the_commands_print_what_the_tutorial_shows(printed: dict[int, str], number: int) -> None:
    shown = BLOCKS[number].shown or ""
    assert agrees(shown, printed[number]), f"shown:\n{shown}\nprinted:\n{printed[number]}"


def test_what_the_tutorial_shows_ends_in_a_mart() -> None:
    assert len(SHOWN) >= 8
    assert "marts.mart_daily_country" in BLOCKS[SHOWN[-1]].commands


@pytest.mark.parametrize(
    ("shown", "printed_text", "expected"),
    [
        ("a  1\nb  2\n", "a  1   \nb  2\n", True),
        ("a  1\nb  2\n", "a  1\nb  3\n", False),
        ("a  1\n", "a  1\nb  2\n", False),
        ("a …\n", "a 17:00\n", True),
        ("a …\n", "a 17:00\nb\n", False),
        ("…\nb\n", "1\n2\nb\n", True),
        ("…\nb\n", "b\n", True),
        ("…\nb\n", "1\nc\n", False),
        ("a.b\n", "axb\n", False),
    ],
)
def test_a_shown_output_is_compared_line_by_line(
    shown: str, printed_text: str, *, expected: bool
) -> None:
    assert agrees(shown, printed_text) is expected


def test_a_block_that_is_not_shown_or_keeps_running_is_not_compared() -> None:
    markdown = "```text\nx\n```\n```bash\na\n```\n```bash keeps-running\nb\n```\n```text\ny\n```\n"
    assert blocks_of(markdown) == [Block("a\n")]
