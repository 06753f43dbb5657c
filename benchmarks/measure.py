"""Measures a command: seconds, CPU seconds, peak memory."""

import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psutil

from headrace.errors import PermanentError

_SAMPLE_SECONDS = 0.1
# Only every tenth sample finds the processes, which reads the system's whole process table, and the
# memory of Postgres: more would slow the command down. Postgres shares its buffers, so that only
# PSS, which divides shared pages, can be summed.
_SAMPLES_BETWEEN_SCANS = 10


class CommandFailedError(PermanentError):
    """A command of the benchmark failed."""


@dataclass(frozen=True)
class Measured:
    """The measurements of one command.

    Attributes:
        seconds: From the start of its process to the end.
        cpu_seconds: CPU of its processes and the server's; depends little on other load.
        rss_bytes: Peak of the summed memory of its processes; shared pages count several times.
        postgres_bytes: Peak of the proportional memory of the server's processes; None if the
            system does not report it (macOS).
        stdout: Its output.
    """

    seconds: float
    cpu_seconds: float
    rss_bytes: int
    postgres_bytes: int | None
    stdout: str


def measure(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    server_pid: int,
    limit_seconds: float,
) -> Measured:
    """Run a command to its end, and measure it.

    Args:
        command: Program and arguments.
        environment: All of its variables.
        folder: Working directory.
        server_pid: The Postgres that it uses, which is not its child process.
        limit_seconds: It is killed after this time.

    Raises:
        CommandFailedError: Its exit code is not 0, or it was killed.
    """
    cpu_before = _own_cpu() + _server_cpu(server_pid)
    began = time.monotonic()
    process = subprocess.Popen(  # noqa: S603 - a command of ours
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    watch = _Watch(process.pid, server_pid)
    watch.start()
    try:
        stdout, stderr = process.communicate(timeout=limit_seconds)
        seconds = time.monotonic() - began
    except subprocess.TimeoutExpired:
        raise CommandFailedError(
            f"{_shown(command)} took more than {limit_seconds:.0f} s",
            fix="give it a higher --limit",
        ) from None
    finally:
        watch.end()
        end_group(process)
    if process.returncode:
        raise CommandFailedError(
            f"{_shown(command)} ended with code {process.returncode}:\n{stderr}{stdout}".rstrip(),
            fix="run it again with --keep, and read the logs in the folder that it names",
        )
    cpu_seconds = _own_cpu() + _server_cpu(server_pid) - cpu_before
    return Measured(seconds, cpu_seconds, watch.rss_bytes, watch.postgres_bytes, stdout)


def end_group(process: "subprocess.Popen[str]") -> None:
    """Kill the process group of a process with `start_new_session`."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


class _Watch(threading.Thread):
    """Samples the memory of a command and its server until `end`."""

    def __init__(self, command_pid: int, server_pid: int) -> None:
        super().__init__(daemon=True)
        self.rss_bytes = 0
        self.postgres_bytes: int | None = None
        self._command, self._postgres = command_pid, server_pid
        self._ended = threading.Event()

    def run(self) -> None:
        processes: list[psutil.Process] = []
        for sample in count():
            if self._ended.wait(_SAMPLE_SECONDS):
                return
            if sample % _SAMPLES_BETWEEN_SCANS == 0:
                processes = _tree(self._command)
                found = max(self.postgres_bytes or 0, _pss(_tree(self._postgres)))
                self.postgres_bytes = found or None
            self.rss_bytes = max(self.rss_bytes, _rss(processes))

    def end(self) -> None:
        self._ended.set()
        self.join()


def _own_cpu() -> float:
    """CPU seconds of all commands that have ended; one runs at a time."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _server_cpu(pid: int) -> float:
    """CPU seconds of a server's processes; on Linux including processes that have ended."""
    server, *sessions = _tree(pid)
    ended = server.cpu_times()
    total: float = getattr(ended, "children_user", 0.0) + getattr(ended, "children_system", 0.0)
    for process in (server, *sessions):
        try:
            used = process.cpu_times()
        except psutil.Error:
            continue
        total += used.user + used.system
    return total


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _rss(processes: Iterable[psutil.Process]) -> int:
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total


def _pss(processes: Iterable[psutil.Process]) -> int:
    total = 0
    for process in processes:
        try:
            total += getattr(process.memory_full_info(), "pss", 0)
        except (psutil.Error, OSError):
            continue
    return total


def _shown(command: Sequence[str]) -> str:
    return " ".join([Path(command[0]).name, *command[1:]])
