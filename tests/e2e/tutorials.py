"""Tutorials whose commands are run as written, and show what they say they show.

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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.embedded_postgres import server
from headrace.project.home import Home
from tests import servers
from tests.e2e.installation import REPOSITORY

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


@dataclass(frozen=True)
class Tutorial:
    """A tutorial; its installation is in the folder `name`.

    Attributes:
        file: Its name in docs/tutorial.
        name: The folder that its commands make.
    """

    file: str
    name: str

    @property
    def blocks(self) -> list[Block]:
        """Its commands."""
        return blocks_of((REPOSITORY / "docs/tutorial" / self.file).read_text(encoding="utf-8"))

    @property
    def shown(self) -> list[int]:
        """Numbers of the blocks of which it says what they print."""
        return [number for number, block in enumerate(self.blocks) if block.shown is not None]

    @contextmanager
    def run(self) -> Iterator[dict[int, str]]:
        """What each block printed, by its number; all of them ran in a folder as a clone has it."""
        # pytest's own folders are closed to the account that runs PostgreSQL for root.
        clone = Path(tempfile.mkdtemp(prefix="headrace-tutorial-"))
        clone.chmod(0o755)
        postgres = Home(clone / self.name / "home").postgres
        try:
            (clone / ".venv").symlink_to(REPOSITORY / ".venv")
            made_by_dbt = shutil.ignore_patterns("target", "logs")
            shutil.copytree(REPOSITORY / "dbt", clone / "dbt", ignore=made_by_dbt)
            # The first command would make the server, which takes five seconds.
            servers.start_postgres(postgres)
            yield _run(clone, self.blocks)
        finally:
            server.stop(postgres)
            shutil.rmtree(clone, ignore_errors=True)


def _run(clone: Path, blocks: list[Block]) -> dict[int, str]:
    marked = [f"echo '{_MARK} {n}'\n{block.commands}" for n, block in enumerate(blocks)]
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
