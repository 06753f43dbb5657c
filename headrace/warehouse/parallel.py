"""A few sessions that share one queue of work.

Belongs here: threads, and stopping all of them when one fails.
Elsewhere: the work (headrace.warehouse.staging).
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from itertools import islice
from threading import Event, Lock
from typing import TypeVar

from headrace.warehouse.sessions import Connect, Session

Item = TypeVar("Item")

# A lost second costs a rerun, which the publishing commit's own flush rules out: the log is one
# sequence. So the load's commits need not wait for the disk.
_TUNING = (
    "set synchronous_commit = off; set maintenance_work_mem = '128MB';"
    "set max_parallel_maintenance_workers = 0;"
    # A month's statistics from 9,000 rows: a third of the time of 30,000, which the whole gets.
    "set default_statistics_target = 30"
)


class StoppedError(Exception):
    """Work was given up because other work of the same queue failed."""


class Workers:
    """Runs work on up to `sessions` sessions at a time."""

    def __init__(self, connect: Connect, sessions: int) -> None:
        self._connect = connect
        self._sessions = sessions
        self._stop = Event()

    def check(self) -> None:
        """To be called between pieces of long work; raises StoppedError once work has failed."""
        if self._stop.is_set():
            raise StoppedError

    def run(self, items: Iterable[Item], do: Callable[[Session, Item], None]) -> None:
        """`do` each item, in the order in which sessions become free.

        Items are taken from `items` one by one, as late as possible. When one fails, its error is
        raised, after the others have stopped.
        """
        queue, lock = iter(items), Lock()
        with ThreadPoolExecutor(self._sessions, "warehouse") as pool:
            futures = [pool.submit(self._drain, queue, lock, do) for _ in range(self._sessions)]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                # Also when the caller is interrupted: leaving the block waits for the threads.
                if not all(future.done() for future in futures):
                    self._stop.set()
        errors = [error for error in (future.exception() for future in futures) if error]
        for error in sorted(errors, key=lambda error: isinstance(error, StoppedError)):
            raise error

    def _drain(
        self, queue: Iterator[Item], lock: Lock, do: Callable[[Session, Item], None]
    ) -> None:
        session = None
        try:
            while not self._stop.is_set():
                with lock:
                    items = list(islice(queue, 1))
                if not items:
                    return
                if session is None:
                    session = self._connect()
                    session.execute(_TUNING)
                do(session, items[0])
        except BaseException:
            self._stop.set()
            raise
        finally:
            if session is not None:
                session.close()
