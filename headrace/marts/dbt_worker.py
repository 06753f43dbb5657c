"""dbt in a process of its own, so that it gets ready while the layers before the marts run.

dbt takes three seconds to import and to read its project: beside the run, in a thread, it would
only take turns with it. Questions and answers go over a pair of sockets; so does the environment,
secrets among it, which is in no file and on no command line. The process ends when its end of the
pair says that the other is gone, however that came about.
"""

import atexit
import gc
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from headrace.errors import HeadraceError, TransientError

_DBT = "dbt.cli.main"
# Exit code of a process whose parent is gone; nobody is left to read it.
_ORPHANED = 1
_END_SECONDS = 5.0

Task = Callable[..., Any]


def may_be_needed(select: str) -> bool:
    """Whether a selection of assets, in Dagster's syntax, may hold a mart; told at once."""
    return select == "*" or "mart" in select or "+" in select


def start() -> "DbtWorker":
    """This process's worker; started when first asked for, and again after it ended."""
    own = _own()
    if own.worker is None or not own.worker.is_alive:
        own.worker = DbtWorker()
        atexit.register(own.worker.end)
    return own.worker


def running() -> "DbtWorker | None":
    """This process's worker, if it was started."""
    worker = _own().worker
    return worker if worker is not None and worker.is_alive else None


class DbtEndedError(TransientError):
    """dbt's process ended before it answered."""


class DbtWorker:
    """One process that runs functions of ours one after the other, with dbt imported."""

    def __init__(self) -> None:
        """Start it; it imports dbt at once."""
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = _spawn(theirs)
        self.process_id = self._process.pid
        self._connection = Connection(ours.detach())
        self.is_alive = True

    def run(self, task: Task, *arguments: Any) -> Any:
        """What `task(*arguments)` returns or raises over there, with this process's environment.

        Args:
            task: A function of a module, which both processes can import.
            arguments: Values that can be pickled.

        Raises:
            DbtEndedError: The process ended meanwhile.
        """
        with self._lock:
            try:
                self._connection.send((dict(os.environ), task, arguments))
                result, error = self._connection.recv()
            except (EOFError, OSError):
                self.is_alive = False
                raise DbtEndedError(
                    "dbt's process ended before it was done",
                    fix="run it again; each mart is whole, old or new",
                ) from None
        if error is not None:
            raise _raised(*error)
        return result

    def prepare(self, task: Task, *arguments: Any) -> None:
        """Start `task(*arguments)` and come back at once; what it returns or raises is dropped."""

        def drop() -> None:
            with suppress(Exception):  # it fails again, and is seen, when it matters
                self.run(task, *arguments)

        threading.Thread(target=drop, name="dbt-prepare", daemon=True).start()

    def end(self) -> None:
        """End the process, whatever it does."""
        if self._connection.closed:
            return
        self.is_alive = False
        self._connection.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass
class _Own:
    """What one process has."""

    worker: DbtWorker | None = None


@cache
def _own() -> _Own:
    return _Own()


def _spawn(theirs: socket.socket) -> "subprocess.Popen[bytes]":
    number = theirs.fileno()
    command = [sys.executable, "-m", "headrace.marts.dbt_worker", str(number)]
    return subprocess.Popen(command, pass_fds=[number])  # noqa: S603  # our own program


def _serve(connection: Connection) -> NoReturn:
    """Do what is asked until nobody can ask any more."""
    # Ctrl-C goes to both: the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # dbt makes semaphores, which a process of Python's own removes when this one is gone. It would
    # warn that this one did not: nothing is left to be done here, so it ends without ceremony.
    sys.warnoptions.append("ignore")
    questions: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, questions), daemon=True).start()
    _import_dbt()
    while True:
        environment, task, arguments = questions.get()
        os.environ.clear()
        os.environ.update(environment)
        connection.send(_answer(task, arguments))


def _listen(connection: Connection, questions: "queue.SimpleQueue[Any]") -> None:
    """Pass questions on; the parent's end ends this process, even in the midst of an answer."""
    while True:
        try:
            questions.put(connection.recv())
        except (EOFError, OSError):
            os._exit(_ORPHANED)


def _import_dbt() -> None:
    # Without the garbage collector, which looks through all that is there again and again.
    gc.disable()
    for module in (_DBT, "dbt.task.build", "dbt.adapters.postgres"):
        __import__(module)
    gc.freeze()
    gc.enable()


def _answer(task: Task, arguments: Sequence[Any]) -> tuple[Any, Any]:
    try:
        return task(*arguments), None
    except Exception as error:  # noqa: BLE001  # raised again in the parent
        return None, _described(error)


def _described(error: Exception) -> tuple[type[Exception], str, str | None]:
    if isinstance(error, HeadraceError):
        return type(error), str(error), error.fix
    return RuntimeError, "".join(traceback.format_exception(error)), None


def _raised(kind: type[Exception], what: str, fix: str | None) -> Exception:
    return kind(what) if fix is None else kind(what, fix=fix)  # type: ignore[call-arg]


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
