"""Servers that answered this process a moment ago: a run asks for its server fifty times.

Belongs here: whether what answered is running still.
Elsewhere: asking a server, which takes 3 ms, and waiting for one (headrace.warehouse.server).
"""

import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from headrace.warehouse import cluster

# One that runs may have stalled since, or have no session left: that is seen by asking alone.
_BELIEVED_SECONDS = 5.0


def remember(directory: Path, found: Any) -> None:
    """Keep what the server that works in a data directory just said."""
    with suppress(OSError):
        _known()[directory] = (time.monotonic(), _start_of(directory), found)


def recall(directory: Path) -> Any | None:
    """What it said, if that server runs and was not started anew; None if that was long ago."""
    if directory not in _known():
        return None
    since, start, found = _known()[directory]
    try:
        is_same = start == _start_of(directory)
    except OSError:
        return None
    is_fresh = time.monotonic() - since < _BELIEVED_SECONDS
    return found if is_fresh and is_same and cluster.is_served(directory) else None


@cache
def _known() -> dict[Path, tuple[float, str, Any]]:
    return {}


def _start_of(directory: Path) -> str:
    """The process, its data directory and when it started, as the server noted them."""
    return "\n".join((directory / "postmaster.pid").read_text().split("\n")[:3])
