"""A pool of sessions for short statements.

A run asks the ledger some forty times. To open a session costs 5 ms each time, and ten times that
over TLS; a question costs half a millisecond.
"""

import atexit
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache

import psycopg
from psycopg.pq import TransactionStatus

from headrace.warehouse.sessions import Connect, Session, connection_factory

# A session for the length of a block.
Borrow = Callable[[], AbstractContextManager[Session]]

# As many as steps that ask at once, nearly always.
_KEPT = 2
# One that idled for longer is asked first whether it is still there.
_BELIEVED_SECONDS = 1.0
# The server ends one that nobody wants any more: a daemon's process may live for weeks.
_END_IDLE = "set idle_session_timeout = '5min'"


class SessionPool:
    """Sessions of one process with one database; safe for threads, and after a fork."""

    def __init__(self, connect: Connect) -> None:
        """Open sessions by `connect`, when they are needed."""
        self._connect = connect
        self._idle: list[tuple[float, Session]] = []
        self._process = os.getpid()
        atexit.register(self.close)

    @contextmanager
    def borrow(self) -> Iterator[Session]:
        """A session in autocommit mode; one whose block fails is closed.

        Raises:
            WarehouseUnavailableError: Nobody answers, or not to us.
        """
        session = self._idle_one() or self._new()
        try:
            yield session
        except BaseException:
            session.close()
            raise
        self._keep(session)

    def close(self) -> None:
        """Close the sessions that idle."""
        while self._process == os.getpid() and self._idle:
            self._idle.pop()[1].close()

    def _new(self) -> Session:
        session = self._connect()
        # A session that lives long would have its statements prepared, which poolers in front of a
        # server do not know.
        session.prepare_threshold = None
        session.execute(_END_IDLE)
        return session

    def _idle_one(self) -> Session | None:
        if self._process != os.getpid():
            # The parent's: it goes on talking over these connections.
            self._idle, self._process = [], os.getpid()
        while True:
            try:
                since, session = self._idle.pop()
            except IndexError:
                return None
            if time.monotonic() - since < _BELIEVED_SECONDS or _answers(session):
                return session

    def _keep(self, session: Session) -> None:
        is_idle = session.info.transaction_status == TransactionStatus.IDLE
        if is_idle and len(self._idle) < _KEPT:
            self._idle.append((time.monotonic(), session))
        else:
            session.close()


@cache
def session_pool(url: str) -> Borrow:
    """Borrows this process's kept sessions with the database at `url`."""
    return SessionPool(connection_factory(url)).borrow


def _answers(session: Session) -> bool:
    with suppress(psycopg.Error):
        session.execute("select 1")
        return True
    session.close()
    return False
