"""Progress of long steps: steps report, and listeners such as the command line display it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, int, int], None]

_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener(name, done, total)` while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def report(asset: str, done: int, total: int) -> None:
    """Report that `done` of `total` parts of the work on `asset`, such as partitions, are done."""
    for listener in _listeners:
        listener(asset, done, total)
