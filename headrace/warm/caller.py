"""A fork of the warm process becomes the command that was typed elsewhere.

Belongs here: taking over the caller's files, folder, environment, words; nothing of the warm
process's own may be seen.
Elsewhere: when that happens (headrace.warm.server).
"""

import atexit
import ctypes
import io
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Command:
    """What was typed, and where.

    Attributes:
        words: The program's name and its arguments.
        environment: All of the caller's variables.
        umask: The caller's.
        files: Standard input, output and error, and the folder.
        server: Process id of the warm process: this one ends with it.
    """

    words: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    umask: int
    files: Sequence[int]
    server: int

    @classmethod
    def of(cls, message: Mapping[str, Any], files: Sequence[int], server: int) -> Self:
        """From what the caller sent."""
        return cls(message["arguments"], message["environment"], message["umask"], files, server)

    def run(self, set_by_imports: Mapping[str, str]) -> None:
        """Become that command and run it; ends as the command does."""
        os.setsid()
        _end_with(self.server)
        _take_files(self.files)
        os.umask(self.umask)
        os.environ.clear()
        os.environ.update({**set_by_imports, **self.environment})
        time.tzset()
        sys.argv = [*self.words]
        random.seed()
        sys.modules["numpy.random"].seed()
        _take_streams()
        # As in a new process: imported here, it sees the caller's terminal and variables.
        from headrace.cli.app import main as run  # noqa: PLC0415

        try:
            run()
        except SystemExit as ended:
            if isinstance(ended.code, int | None):
                _leave(ended.code or 0)
            raise
        _leave(0)


def _leave(code: int) -> None:
    """End as Python does, but for the last of it: taking all objects apart, one by one.

    Each that it touches is on a page of the warm process, which the kernel copies first: 0.3 s.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
    atexit._run_exitfuncs()  # noqa: SLF001
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return  # Python finds it, too, and says what it says of a reader that is gone.
    os._exit(code)


def _end_with(server: int) -> None:
    """Have the kernel kill this process when the warm process ends, however it does."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != server:
        os.kill(os.getpid(), signal.SIGKILL)


def _take_files(files: Sequence[int]) -> None:
    """Put the caller's files in the place of the warm process's own."""
    for number, file in enumerate(files[:3]):
        os.dup2(file, number, inheritable=True)
    os.fchdir(files[3])
    for file in files:
        os.close(file)


def _take_streams() -> None:
    """New streams over the new files: a terminal is buffered by lines, a pipe is not."""
    is_unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    encoding = sys.stdout.encoding
    sys.stdin = open(0, encoding=encoding, closefd=False)  # noqa: SIM115
    out, err = open(1, "wb", closefd=False), open(2, "wb", closefd=False)  # noqa: SIM115
    sys.stdout = io.TextIOWrapper(
        out,
        encoding,
        errors=sys.stdout.errors,
        line_buffering=is_unbuffered or os.isatty(1),
        write_through=is_unbuffered,
    )
    sys.stderr = io.TextIOWrapper(
        err, encoding, errors="backslashreplace", line_buffering=True, write_through=is_unbuffered
    )
