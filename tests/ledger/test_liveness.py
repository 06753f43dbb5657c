"""The lock of a run: one session a process, however many of its threads begin at once."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import cast
from uuid import uuid4

from headrace.ledger import liveness
from headrace.ledger.ledger import Ledger
from headrace.warehouse.sessions import Connect, Session


def test_threads_that_begin_a_run_at_once_share_its_lock(ledger: Ledger) -> None:
    connect_to_it, opened = cast("Connect", ledger.connect), list[Session]()

    def connect() -> Session:
        opened.append(connect_to_it())
        time.sleep(0.2)
        return opened[-1]

    run_id = f"run-{uuid4()}"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: liveness.acquire(connect, run_id), range(4)))
    assert len(opened) == 1
    with connect_to_it() as session:
        assert liveness.alive(session, [run_id]) == {run_id}
        liveness.release(run_id)
        assert opened[0].closed
