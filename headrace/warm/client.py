"""The `headrace` command: handed to a warm process that fits, or else run here.

Belongs here: deciding that, passing on what the command has, its signals and its exit code;
starting a warm process for the next command once this one is over.
Elsewhere: the commands (headrace.cli.app), the warm process (headrace.warm.server), what fits
(headrace.warm.fit).

Of the standard library, and little of that: it runs before each command. Whatever is wrong with the
warm process before it has the command, the command runs here, as if there were none.
"""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from headrace.engine.allocator import ALLOCATOR
from headrace.warm import fit, wire

_ANSWER_SECONDS = 1.0
_END_SECONDS = 10.0
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)


# What a warm process has for itself; the commands in its forks never see it.
OWN_VARIABLES = {
    # Read as the engine is imported.
    **ALLOCATOR,
    # Threads that would be there before any fork.
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


def main() -> None:
    """Entry point of the `headrace` command."""
    given = dict(os.environ)
    minutes = fit.minutes(given)
    if not minutes or not fit.may_run_warm(sys.argv[1:]):
        _run_here()
        return
    home = fit.home(given)
    stamp = fit.stamp(given, home)
    if connection := _find(home, stamp):
        with connection:
            if _hand_over(connection, given):
                _wait(connection)
    try:
        _run_here()
    finally:
        _start_server(given, home, stamp, minutes)


def end(home: Path) -> bool:
    """End the warm process of a home, if there is one; waits until it is gone.

    Commands that it runs go on: they end it when they are done. One that still imports ends when it
    finds its lock gone.
    """
    (home / wire.LOCK).unlink(missing_ok=True)
    connection = _connect(home)
    if connection is None:
        return False
    with connection:
        try:
            wire.send(connection, {"end": True})
            connection.settimeout(_END_SECONDS)
            connection.recv(1)
        except TimeoutError:
            return True
        except OSError:
            return False
    return True


def process_of(home: Path) -> int | None:
    """Process id of the warm process of a home, if there is one that listens."""
    connection = _connect(home)
    if connection is None:
        return None
    with connection:
        return wire.process_of(connection)


def _run_here() -> None:
    from headrace.cli.app import main as run  # noqa: PLC0415  # a warm process has it already

    run()


def _find(home: Path, stamp: str) -> socket.socket | None:
    """A connection to a warm process that fits; one that does not is told to end."""
    connection = _connect(home)
    if connection is None:
        return None
    try:
        wire.send(connection, {"stamp": stamp})
        answer = wire.receive(connection)
        if answer is not None and answer[0].get("fits"):
            return connection
        wire.send(connection, {"end": True})
    except OSError:
        pass
    connection.close()
    return None


def _connect(home: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_ANSWER_SECONDS)
    try:
        folder = os.open(home, os.O_PATH | os.O_DIRECTORY)
        try:
            connection.connect(wire.address(folder))
        finally:
            os.close(folder)
        if wire.is_own(connection):
            return connection
    except OSError:
        pass
    connection.close()
    return None


def _hand_over(connection: socket.socket, given: Mapping[str, str]) -> bool:
    """Give the command away: its words, environment, open files and folder.

    Returns:
        Whether it was taken. If not, it has to be run here: nobody else does. The warm process
        says that it takes a command before it starts it.
    """
    mask = os.umask(0)
    os.umask(mask)
    command = {"arguments": sys.argv, "environment": dict(given), "umask": mask}
    try:
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        wire.send(connection, command, [0, 1, 2, folder])
        # From here on it may be running: there is no going back for being slow.
        connection.settimeout(None)
        answer = wire.receive(connection)
    except OSError:
        return False
    finally:
        os.close(folder)
    return answer is not None and bool(answer[0].get("started"))


def _wait(connection: socket.socket) -> NoReturn:
    """Pass signals on until the command ends; then end as it did."""
    noticed = _notice_signals()
    try:
        while True:
            ready, _, _ = select.select([connection, noticed], [], [])
            if connection in ready:
                answer = wire.receive(connection)
                _end_as(answer[0] if answer else None)
            for number in noticed.recv(64) if noticed in ready else b"":
                _pass_on(connection, number)
    except OSError:
        _end_as(None)


def _notice_signals() -> socket.socket:
    """A socket on which the numbers of signals arrive, instead of what they do otherwise."""
    noticed, notice = socket.socketpair()
    notice.setblocking(False)  # noqa: FBT003  # a C function: it has no names
    signal.set_wakeup_fd(notice.detach())
    for number in (*_PASSED_ON, signal.SIGTSTP):
        # Whoever ignores a signal (nohup) goes on doing so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    return noticed


def _pass_on(connection: socket.socket, number: int) -> None:
    if number != signal.SIGTSTP:
        wire.send(connection, {"signal": number})
        return
    # Ctrl-Z: the command stops and goes on with this process. It would not stop by SIGTSTP, being
    # the first of a session of its own.
    wire.send(connection, {"signal": int(signal.SIGSTOP)})
    os.kill(os.getpid(), signal.SIGSTOP)
    wire.send(connection, {"signal": int(signal.SIGCONT)})


def _end_as(ended: Mapping[str, Any] | None) -> NoReturn:
    if ended is None:
        sys.stderr.write(
            "error: the warm process ended before the command did, and the command with it\n"
            "hint: run it again; what was not finished was not published\n"
        )
        _leave(1)
    if number := ended.get("signal"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    _leave(int(ended.get("code", 1)))


def _leave(code: int) -> NoReturn:
    # Nothing of this process is left to be done; its own buffers are all that it has.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _start_server(given: Mapping[str, str], home: Path, stamp: str, minutes: float) -> None:
    """Start a warm process for the next command; it finds out itself if it is not needed."""
    if not home.is_dir():
        return
    options = [f"-W{option}" for option in sys.warnoptions if not given.get("PYTHONWARNINGS")]
    command = [sys.executable, "-P", *options, "-m", "headrace.warm.server", str(home), stamp]
    # Whoever has used the engine has its allocator's variables already, and hands them on.
    own = {name: value for name, value in OWN_VARIABLES.items() if given.get(name) != value}
    subprocess.Popen(  # noqa: S603  # our own program
        [*command, str(minutes), *own],
        env={**given, **own},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        restore_signals=True,
    ).returncode = 0  # It stays: no ResourceWarning that it does.


if __name__ == "__main__":
    main()
