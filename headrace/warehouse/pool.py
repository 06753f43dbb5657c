"""A connection pool for short statements: safe for threads, and after a fork."""

import atexit
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache

import psycopg
from psycopg.pq import TransactionStatus

from headrace.warehouse.sessions import Connect, Session, connection_factory

# Borrows a session for the length of a block.
Borrow = Callable[[], AbstractContextManager[Session]]

# Steps rarely query the ledger more than two at a time.
_MAX_IDLE_SESSIONS = 2
# An idle session is reused without a ping within this time.
_PING_AFTER_SECONDS = 1.0
# Processes such as the daemon live for weeks: the server ends sessions that they do not use.
_END_IDLE = "set idle_session_timeout = '5min'"


class SessionPool:
    """The idle sessions of one process with one database.

    psycopg_pool is not used: it reports an unreachable server after a timeout and without the
    reason, and costs each command 20 ms of imports and two threads (decisions/0036).
    """

    def __init__(self, connect: Connect) -> None:
        """Open sessions by `connect`, when they are needed."""
        self._connect = connect
        self._idle: list[tuple[float, Session]] = []
        self._process = os.getpid()
        atexit.register(self.close)

    @contextmanager
    def borrow(self) -> Iterator[Session]:
        """A session in autocommit mode; it is closed if the block fails or leaves a transaction.

        Raises:
            WarehouseUnavailableError: The server cannot be reached, or rejects the login.
        """
        session = self._take() or self._open()
        try:
            yield session
        except BaseException:
            session.close()
            raise
        self._give_back(session)

    def close(self) -> None:
        """Close the idle sessions."""
        while self._process == os.getpid() and self._idle:
            self._idle.pop()[1].close()

    def _open(self) -> Session:
        session = self._connect()
        # psycopg prepares statements that repeat in a session; poolers in front of a server, such
        # as PgBouncer, do not support that.
        session.prepare_threshold = None
        session.execute(_END_IDLE)
        return session

    def _take(self) -> Session | None:
        if self._process != os.getpid():
            # After a fork the sessions belong to the parent: closing them here would end its own.
            self._idle, self._process = [], os.getpid()
        while True:
            try:
                since, session = self._idle.pop()
            except IndexError:
                return None
            if time.monotonic() - since < _PING_AFTER_SECONDS or _answers(session):
                return session

    def _give_back(self, session: Session) -> None:
        is_idle = session.info.transaction_status == TransactionStatus.IDLE
        if is_idle and len(self._idle) < _MAX_IDLE_SESSIONS:
            self._idle.append((time.monotonic(), session))
        else:
            session.close()


@cache
def session_pool(url: str) -> Borrow:
    """Borrows from this process's pool of sessions with the database at `url`."""
    return SessionPool(connection_factory(url)).borrow


def _answers(session: Session) -> bool:
    with suppress(psycopg.Error):
        session.execute("select 1")
        return True
    session.close()
    return False
