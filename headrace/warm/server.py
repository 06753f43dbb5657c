"""The warm process: everything imported, nothing else begun, a fork of it for each command.

Belongs here: listening, forking, passing signals and exit codes, ending when nobody asks any more.
Elsewhere: what a fork turns into (headrace.warm.caller), what is imported (headrace.warm.preload),
who starts it and talks to it (headrace.warm.client).

Why forking is sound here. A fork takes one thread along, and every lock as it is at that moment:
it fails where another thread held one. This process has no other thread, which is looked at before
each fork (the kernel's list, so threads of C libraries count), and never connects to anything,
starts no engine, opens no channel of gRPC and no session of libpq: it imports, and waits. Two
libraries start threads when they are imported, OpenBLAS its workers and Arrow's jemalloc one that
gives memory back: both are told not to, by variables that the commands do not see. Random states
are drawn anew in each fork (Python's and NumPy's); identifiers of runs come from the system.

What is kept on disk is a socket, which only its owner may open, and a lock; neither has content.
"""

import contextlib
import fcntl
import gc
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.warm import fit, wire
from headrace.warm.caller import Command
from headrace.warm.preload import preload

_LOOK_SECONDS = 2.0
_SPEAK_SECONDS = 5.0


@dataclass
class _Running:
    """A command in a fork: its process, and the connection of whoever waits for it."""

    process: int
    watch: int
    connection: socket.socket


class Server:
    """One warm process of one home."""

    def __init__(self, home: Path, stamp: str, minutes: float) -> None:
        self._home, self._stamp, self._idle_seconds = home, stamp, minutes * 60
        self._selector = selectors.DefaultSelector()
        self._running: dict[int, _Running] = {}
        self._ending: list[socket.socket] = []
        self._last_used = time.monotonic()
        self._listener: socket.socket | None = None
        self._process, self._served = os.getpid(), 0

    def serve(self) -> Command | None:
        """Listen and fork; a command in a fork, None in the warm process when it is to end."""
        with _listening(self._home) as listener:
            self._listener = listener
            self._selector.register(listener, selectors.EVENT_READ)
            inode = _inode(self._home / wire.SOCKET)
            while self._is_wanted(inode):
                for key, _ in self._selector.select(_LOOK_SECONDS):
                    if command := self._attend(key.fileobj):
                        return command
        for waiting in self._ending:
            waiting.close()
        return None

    def _is_wanted(self, inode: int | None) -> bool:
        if self._running:
            return True
        if self._listener is None or _inode(self._home / wire.SOCKET) != inode:
            return False
        return time.monotonic() - self._last_used < self._idle_seconds

    def _attend(self, source: Any) -> Command | None:
        self._last_used = time.monotonic()
        if source is self._listener:
            connection, _ = source.accept()
            connection.settimeout(_SPEAK_SECONDS)
            self._selector.register(connection, selectors.EVENT_READ)
        elif isinstance(source, int):
            self._say_end(source)
        else:
            return self._hear(source)
        return None

    def _hear(self, connection: socket.socket) -> Command | None:
        try:
            heard = wire.receive(connection) if wire.is_own(connection) else None
            if heard is None:
                self._forget(connection)
                return None
            message, files = heard
            if "arguments" in message:
                return self._start(connection, message, files)
            if "stamp" in message:
                fits = message["stamp"] == self._stamp and _threads() == 1
                fits = fits and self._listener is not None
                wire.send(connection, {"fits": fits, "served": self._served})
            elif "signal" in message:
                self._signal(connection, message["signal"])
            elif "end" in message:
                self._retire(connection)
        except (OSError, ValueError):
            self._forget(connection)
        return None

    def _start(
        self, connection: socket.socket, message: dict[str, Any], files: list[int]
    ) -> Command | None:
        if len(files) != wire.FILES or _threads() != 1:
            wire.send(connection, {"started": False})
            return None
        wire.send(connection, {"started": True})
        process = os.fork()
        if not process:
            self._let_go()
            return Command.of(message, files, self._process)
        for file in files:
            os.close(file)
        self._served += 1
        watch = os.pidfd_open(process)
        self._running[watch] = _Running(process, watch, connection)
        self._selector.register(watch, selectors.EVENT_READ)
        return None

    def _let_go(self) -> None:
        """In a fork: close what is the warm process's. Only close: both share one list of epoll."""
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
            else:
                os.close(key.fd)
        for waiting in self._ending:
            waiting.close()
        self._selector.close()

    def _say_end(self, watch: int) -> None:
        self._selector.unregister(watch)
        running = self._running.pop(watch)
        os.close(watch)
        _, status = os.waitpid(running.process, 0)
        code = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(OSError):
            wire.send(running.connection, {"signal": -code} if code < 0 else {"code": code})
        self._forget(running.connection)

    def _forget(self, connection: socket.socket) -> None:
        """Close a connection. Whoever waited for a command is gone: the command goes, too."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection)
        for running in self._running.values():
            if running.connection is connection:
                _kill(running.process, signal.SIGKILL)
        connection.close()

    def _signal(self, connection: socket.socket, number: int) -> None:
        for running in self._running.values():
            if running.connection is connection:
                _kill(running.process, number)

    def _retire(self, connection: socket.socket) -> None:
        """Take no more commands; the connection is closed when the last one has ended."""
        self._selector.unregister(connection)
        self._ending.append(connection)
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener = None


def main() -> None:
    """Serve a home until nobody asks any more; in a fork, run the command that was asked for."""
    home, stamp, minutes = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    own = {*sys.argv[4:]}
    given = {name: value for name, value in os.environ.items() if name not in own}
    with _alone(home) as lock:
        if lock is None:
            return
        preload()
        # Code that changed while it was imported: nobody knows what is in here.
        if fit.stamp(given, home) != stamp or _inode(home / wire.LOCK) != lock:
            return
        gc.collect()
        gc.freeze()
        command = Server(home, stamp, minutes).serve()
    if command:
        # Some modules set a variable when they are imported, which a new process would then have.
        set_by_imports = {k: v for k, v in os.environ.items() if k not in {*given, *own}}
        command.run(set_by_imports)


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[int | None]:
    """The inode of the lock that makes this the home's only warm process; None: another has it."""
    try:
        lock = os.open(home / wire.LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        yield None
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield None
    else:
        yield os.fstat(lock).st_ino
    finally:
        os.close(lock)


@contextlib.contextmanager
def _listening(home: Path) -> Iterator[socket.socket]:
    owner, path = os.getpid(), home / wire.SOCKET
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        folder = os.open(home, os.O_PATH | os.O_DIRECTORY)
        mask = os.umask(0o177)
        try:
            listener.bind(wire.address(folder))
        finally:
            os.umask(mask)
            os.close(folder)
        listener.listen()
        inode = _inode(path)
        try:
            yield listener
        finally:
            # In a fork, and where a later one has its own there, it is not this one's to remove.
            if os.getpid() == owner and _inode(path) == inode:
                path.unlink(missing_ok=True)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def _kill(process: int, number: int) -> None:
    if number == signal.SIGINT:
        # Ctrl-C goes to a command and to what it started, as from a terminal.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, number)
            return
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


if __name__ == "__main__":
    main()
