"""Locks that show which processes use a home; they end with their process."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from headrace.errors import ConfigError

Use = Literal["dev", "command"]

# `headrace dev` runs Dagster's daemon: two daemons would launch each scheduled run twice.
_EXCLUSIVE: frozenset[Use] = frozenset({"dev"})
_USES: tuple[Use, ...] = ("dev", "command")


@contextmanager
def using(home: Path, use: Use, note: str) -> Iterator[int]:
    """Hold a lock during the block; yields its file descriptor, for child processes.

    Args:
        home: HEADRACE_HOME.
        use: `dev` is exclusive, `command` is shared.
        note: The command, for messages of other processes.

    Raises:
        ConfigError: Another process holds the exclusive lock.
    """
    path = _path(home, use)
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = fcntl.LOCK_EX if use in _EXCLUSIVE else fcntl.LOCK_SH
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{_note(path)} runs on {home} already",
                fix="use that one, end it first, or set HEADRACE_HOME to another folder",
            ) from None
        lock.truncate(0)
        lock.write(f"{note} (process {os.getpid()})")
        lock.flush()
        yield lock.fileno()


def require_unused(home: Path) -> None:
    """Check that no process holds a lock on the home.

    Raises:
        ConfigError: A process does; the message names its command and process id.
    """
    held = [_note(_path(home, use)) for use in _USES if _is_held(home, use)]
    if held:
        raise ConfigError(
            f"{home} is in use: {', '.join(held)}",
            fix="end it first; headrace stop --force ends it at once",
        )


def _is_held(home: Path, use: Use) -> bool:
    try:
        with _path(home, use).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def _note(path: Path) -> str:
    return path.read_text(encoding="utf-8") or "another command"


def _path(home: Path, use: Use) -> Path:
    return home / "locks" / f"{use}.lock"
