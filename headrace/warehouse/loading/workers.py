"""A few sessions that share one queue of work."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from itertools import chain, islice
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

_UNTUNED = "; ".join(f"reset {each.split()[1]}" for each in _TUNING.split(";"))


class StoppedError(Exception):
    """Work was given up because other work of the same queue failed."""


class Workers:
    """Runs work on up to `sessions` sessions at a time."""

    def __init__(self, connect: Connect, sessions: int, own: Session) -> None:
        """`own` is a session of the caller's that works too: a small load needs no other."""
        self._connect = connect
        self._sessions = sessions
        self._own = [own]
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
        first = list(islice(queue, 1))
        if not first:
            return
        queue = chain(first, queue)
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
        session: Session | None = None
        own: Session | None = None
        try:
            while not self._stop.is_set():
                with lock:
                    items = list(islice(queue, 1))
                if not items:
                    return
                if session is None:
                    own = self._taken()
                    session = own or self._connect()
                    session.execute(_TUNING)
                do(session, items[0])
        except BaseException:
            self._stop.set()
            raise
        finally:
            if own is not None:
                self._return(own)
            elif session is not None:
                session.close()

    def _taken(self) -> Session | None:
        try:
            return self._own.pop()
        except IndexError:
            return None

    def _return(self, own: Session) -> None:
        if not own.closed:
            own.execute(_UNTUNED)
        self._own.append(own)
