"""A shell whose commands run a copy of the code, beside the warm process that takes them.

The code is a copy, so that a test can change it, and so that its warm process imports only what
`check` needs.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from headrace.warm import fit, wire

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("headrace", "resources", "io_managers", "platform_assets", "sensors", "jobs", "demo")
WAIT_SECONDS = 60
QUICK_PRELOAD = """
def preload():
    import headrace.config.loading, numpy.random, rich.table, typer
"""


# Heeds signals but those that it is told to ignore, whatever the test's own process does, and then
# becomes the command. (A function between fork and exec would run gRPC's handlers in a process that
# has its threads.)
AS_FROM_A_SHELL = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_SETMASK, [])
for number in (signal.SIGINT, signal.SIGTERM):
    ignored = str(int(number)) in sys.argv[1].split()
    signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Shell:
    """A folder with code and configuration, from which commands are typed."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def socket(self) -> Path:
        return self.home / wire.SOCKET

    def environment(self, **changed: str) -> dict[str, str]:
        own = {
            "HEADRACE_HOME": str(self.home),
            "PYTHONPATH": str(self.root / "code"),
            fit.MINUTES: "5",
        }
        foreign = ("HEADRACE_", "PIPELINE_ENV", "DAGSTER_", "DBT_", "MIMALLOC_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        return {**kept, **own, **changed}

    def start(
        self,
        *words: str,
        folder: str = ".",
        umask: str = "022",
        ignored: str = "",
        **changed: str,
    ) -> "subprocess.Popen[str]":
        """A command, typed with this umask while these signals (numbers) are ignored."""
        return subprocess.Popen(
            [
                *(sys.executable, "-c", AS_FROM_A_SHELL, ignored),
                *(sys.executable, "-m", "headrace.warm.client", *words),
            ],
            cwd=self.root / folder,
            env=self.environment(**changed),
            umask=int(umask, 8),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, folder: str = ".", **changed: str) -> tuple[int, str, str]:
        """Exit code, output, errors."""
        with self.start(*words, folder=folder, **changed) as process:
            out, err = process.communicate(timeout=WAIT_SECONDS)
        return process.returncode, out, err

    def served(self) -> int:
        """How many commands the warm process ran."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            wire.send(connection, {"stamp": "of nobody"})
            answer = wire.receive(connection)
        assert answer is not None
        return int(answer[0]["served"])

    def answers(self) -> bool:
        """Whether the warm process listens: its socket has a name a moment earlier."""
        try:
            self.served()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def servers(self) -> list[psutil.Process]:
        """Warm processes, and no forks of one."""
        found = []
        for process in psutil.process_iter():
            try:
                words, parent = process.cmdline(), process.parent()
                of_parent = parent.cmdline() if parent else []
            except psutil.Error:
                continue
            if "headrace.warm.server" in words and str(self.home) in words and words != of_parent:
                found.append(process)
        return found

    def server(self) -> psutil.Process:
        """The one warm process."""
        (process,) = self.servers()
        return process

    def stop(self) -> None:
        self.run("stop", folder="here")
        until(lambda: not self.servers())

    def warm_up(self, **changed: str) -> None:
        """Have a warm process, as after a first command."""
        if not self.socket.exists():
            self.run("check", **changed)
            until(self.answers)


def until(true: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    ends_at = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends_at, "waited in vain"
        time.sleep(0.05)


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def is_idle(process: psutil.Process) -> bool:
    """Whether a process did nothing for half a second."""
    before = process.cpu_times()
    time.sleep(0.5)
    return bool(process.cpu_times() == before)


def make() -> Shell:
    """A shell in a new folder; whoever asked for it removes the folder."""
    made = Shell(Path(tempfile.mkdtemp(prefix="headrace-warm-")))
    for package in PACKAGES:
        shutil.copytree(
            REPOSITORY / package,
            made.root / "code" / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    (made.root / "code/headrace/warm/preload.py").write_text(QUICK_PRELOAD)
    made.home.mkdir()
    return made
