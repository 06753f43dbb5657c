"""A child process that imports dbt while the layers before the marts run.

dbt needs 3 s of CPU to import and to compile its first node, which a thread would take from the run
(docs/decisions/0042-dbt-in-a-child-process.md). Tasks, results and the environment, which may hold
secrets, go over a socket pair. The process ends when its parent does.
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
# Exit code of the child when the parent has ended.
_PARENT_ENDED = 1
_END_SECONDS = 5.0

Task = Callable[..., Any]


def may_select_marts(select: str) -> bool:
    """Whether a selection in Dagster's syntax may contain a mart, judging by its text alone."""
    return select == "*" or "mart" in select or "+" in select


def start() -> "DbtWorker":
    """This process's worker; started on first use, and again after it ended."""
    own = _own()
    if own.worker is None or not own.worker.is_alive:
        own.worker = DbtWorker()
        atexit.register(own.worker.end)
    return own.worker


def running() -> "DbtWorker | None":
    """This process's worker, if it runs."""
    worker = _own().worker
    return worker if worker is not None and worker.is_alive else None


class DbtEndedError(TransientError):
    """dbt's process ended before it returned a result."""


class DbtWorker:
    """One child process that has imported dbt and runs functions one after the other."""

    def __init__(self) -> None:
        """Start the process; it imports dbt at once."""
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = _spawn(theirs)
        self.process_id = self._process.pid
        self._connection = Connection(ours.detach())
        self.is_alive = True

    def run(self, task: Task, *arguments: Any) -> Any:
        """Run `task(*arguments)` in the process, with this process's environment.

        Args:
            task: A function of a module that both processes can import.
            arguments: Picklable values.

        Raises:
            DbtEndedError: The process ended before it returned.
        """
        with self._lock:
            try:
                self._connection.send((dict(os.environ), task, arguments))
                result, error = self._connection.recv()
            except (EOFError, OSError):
                self.is_alive = False
                raise DbtEndedError(
                    "dbt's process ended before its task",
                    fix="run it again; each mart is whole, old or new",
                ) from None
        if error is not None:
            raise _raised(*error)
        return result

    def prepare(self, task: Task, *arguments: Any) -> None:
        """Run `task(*arguments)` without waiting for it; its result or error is dropped."""

        def run_and_drop() -> None:
            with suppress(Exception):  # The build will raise the same error.
                self.run(task, *arguments)

        threading.Thread(target=run_and_drop, name="dbt-prepare", daemon=True).start()

    def end(self) -> None:
        """End the process, even during a task."""
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
    """The worker of this process, if one was started."""

    worker: DbtWorker | None = None


@cache
def _own() -> _Own:
    return _Own()


def _spawn(theirs: socket.socket) -> "subprocess.Popen[bytes]":
    number = theirs.fileno()
    command = [sys.executable, "-m", "headrace.marts.dbt_worker", str(number)]
    return subprocess.Popen(command, pass_fds=[number])  # noqa: S603  # our own program


def _serve(connection: Connection) -> NoReturn:
    """Run tasks until the parent closes its socket."""
    # Ctrl-C reaches both processes; the parent handles it and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Python's resource tracker removes dbt's semaphores after this process and would warn of it.
    sys.warnoptions.append("ignore")
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, tasks), daemon=True).start()
    _import_dbt()
    while True:
        environment, task, arguments = tasks.get()
        os.environ.clear()
        os.environ.update(environment)
        connection.send(_answer(task, arguments))


def _listen(connection: Connection, tasks: "queue.SimpleQueue[Any]") -> None:
    """Queue tasks; end this process when the parent's socket closes, even during a task."""
    while True:
        try:
            tasks.put(connection.recv())
        except (EOFError, OSError):
            os._exit(_PARENT_ENDED)


def _import_dbt() -> None:
    # Garbage collections would slow the imports down.
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
