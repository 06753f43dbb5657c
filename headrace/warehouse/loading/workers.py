"""A pool of threads, each with a session, that share one queue of work."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from itertools import chain, islice
from threading import Event, Lock
from typing import TypeVar

from headrace.warehouse.sessions import Connect, Session

Item = TypeVar("Item")

# Commits of staging need not wait for the disk: the publishing commit waits, and flushes the whole
# write-ahead log before it.
_TUNING = (
    "set synchronous_commit = off; set maintenance_work_mem = '128MB';"
    "set max_parallel_maintenance_workers = 0;"
    # Statistics of a month from 9,000 rows take a third of the time of 30,000.
    "set default_statistics_target = 30"
)

_RESET = "; ".join(f"reset {each.split()[1]}" for each in _TUNING.split(";"))


class StoppedError(Exception):
    """Work was abandoned because other work of the same queue failed."""


class Workers:
    """Runs work on up to `sessions` sessions in parallel."""

    def __init__(self, connect: Connect, sessions: int, own: Session) -> None:
        """`own` is the caller's session, which is used first: a small load opens no other."""
        self._connect = connect
        self._sessions = sessions
        self._own = [own]
        self._stop = Event()

    def check(self) -> None:
        """Raise StoppedError if other work has failed; call it between steps of long work."""
        if self._stop.is_set():
            raise StoppedError

    def run(self, items: Iterable[Item], do: Callable[[Session, Item], None]) -> None:
        """Call `do` for each item; sessions take the next item when they are free.

        When a call fails, its error is raised after the other calls have stopped.
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
                # Also on an interrupt of the caller: the end of the block waits for the threads.
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
                    own = self._take_own()
                    session = own or self._connect()
                    session.execute(_TUNING)
                do(session, items[0])
        except BaseException:
            self._stop.set()
            raise
        finally:
            if own is not None:
                self._give_back(own)
            elif session is not None:
                session.close()

    def _take_own(self) -> Session | None:
        try:
            return self._own.pop()
        except IndexError:
            return None

    def _give_back(self, own: Session) -> None:
        if not own.closed:
            own.execute(_RESET)
        self._own.append(own)
