"""The connection pool: reuse, failed blocks, lost sessions, forks."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import psycopg
import pytest

from headrace.warehouse import pool
from headrace.warehouse.pool import SessionPool
from headrace.warehouse.sessions import Session, connection_factory


@pytest.fixture
def sessions(url: str) -> SessionPool:
    return SessionPool(connection_factory(url))


def backend(session: Session) -> int:
    return session.info.backend_pid


def test_queries_one_after_the_other_share_a_session(sessions: SessionPool) -> None:
    found = set()
    for _ in range(3):
        with sessions.borrow() as session:
            found.add(backend(session))
    assert len(found) == 1


def test_queries_at_the_same_time_have_sessions_of_their_own(sessions: SessionPool) -> None:
    together = Barrier(3)

    def ask(_: int) -> int:
        with sessions.borrow() as session:
            together.wait(10)
            return backend(session)

    with ThreadPoolExecutor(3) as threads:
        assert len({*threads.map(ask, range(3))}) == 3
    with sessions.borrow() as one, sessions.borrow() as other:
        assert backend(one) != backend(other)


def test_a_session_whose_block_failed_is_not_used_again(sessions: SessionPool) -> None:
    with pytest.raises(psycopg.Error), sessions.borrow() as failed:
        failed.execute("select 1 / 0")
    assert failed.closed
    with sessions.borrow() as left, left.transaction():
        left.execute("select 1")
    assert not left.closed


def test_a_session_left_in_a_transaction_is_not_used_again(sessions: SessionPool) -> None:
    with sessions.borrow() as session:
        session.execute("begin")
    assert session.closed


def test_a_session_that_the_server_ended_is_replaced(
    sessions: SessionPool, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_PING_AFTER_SECONDS", 0)
    with sessions.borrow() as ended:
        ended.execute("select 1")
    session.execute("select pg_terminate_backend(%s, 10000)", (backend(ended),))
    with sessions.borrow() as found:
        assert found.execute("select 2").fetchone() == (2,)
    assert ended.closed


FORKS = """
import os, sys
from headrace.warehouse.pool import session_pool
borrow = session_pool(sys.argv[1])
def ask():
    with borrow() as session:
        return session.execute("select pg_backend_pid()").fetchone()[0]
first = ask()
if not (child := os.fork()):
    os._exit(0 if ask() != first else 3)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.exit(code or (0 if ask() == first else 4))
"""


def test_a_forked_process_leaves_its_parents_sessions_alone(url: str) -> None:
    command = [sys.executable, "-c", FORKS, url]
    ended = subprocess.run(command, cwd=os.getcwd(), timeout=60, check=False)  # noqa: PTH109
    assert ended.returncode == 0
