"""Progress of long steps: steps report, and listeners such as the command line display it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, int, int], None]

_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener(asset, partitions done, partitions in all)` while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def report(asset: str, done: int, total: int) -> None:
    """Report that `done` of `total` partitions of `asset` are staged."""
    for listener in _listeners:
        listener(asset, done, total)
