"""Liveness of runs: each run holds an advisory lock, which ends with its process."""

import atexit
import os
import threading
from collections.abc import Collection
from contextlib import suppress
from functools import cache

import psycopg

from headrace.warehouse.sessions import Connect, Session, advisory_key, map_errors

_KIND = "run"
# Threads of one process, which run the first steps of a run, acquire its lock at the same time.
_ACQUIRING = threading.Lock()
_HELD = """
select (classid::bigint << 32) | objid::bigint
from pg_locks
where locktype = 'advisory' and objsubid = 1 and granted
    and database = (select oid from pg_database where datname = current_database())
"""


def acquire(connect: Connect, run_id: str) -> None:
    """Acquire the lock of a run, until `release` or the end of this process.

    It is a shared lock, because the steps of a run may have their own processes.
    """
    held = _sessions(os.getpid())
    with _ACQUIRING:
        if run_id in held:
            return
        with map_errors("acquiring the lock of a run"):
            session = connect()
            session.execute("set idle_session_timeout = 0")
            session.execute("select pg_advisory_lock_shared(%s)", (advisory_key(_KIND, run_id),))
        held[run_id] = session


def release(run_id: str) -> None:
    """Release this process's lock of a run, if it holds one."""
    if session := _sessions(os.getpid()).pop(run_id, None):
        session.close()


def alive(session: Session, run_ids: Collection[str]) -> frozenset[str]:
    """The runs among `run_ids` whose lock a process holds."""
    if not run_ids:
        return frozenset()
    held = {row[0] for row in session.execute(_HELD)}
    return frozenset(run_id for run_id in run_ids if advisory_key(_KIND, run_id) in held)


@cache
def _sessions(process: int) -> dict[str, Session]:
    """The sessions of one process, by run; a forked process starts without any."""
    sessions: dict[str, Session] = {}
    atexit.register(_close_all, process, sessions)
    return sessions


def _close_all(process: int, sessions: dict[str, Session]) -> None:
    if process != os.getpid():
        return  # A forked process must not close its parent's sessions.
    for session in sessions.values():
        with suppress(psycopg.Error):
            session.close()
