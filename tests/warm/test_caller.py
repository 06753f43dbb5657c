"""What a fork takes over from its caller, seen by a command that tells what it has."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from headrace.warm import client, fit, wire
from tests.warm import shell as shell_of
from tests.warm.shell import WAIT_SECONDS, Shell, is_gone, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="there is no warm process elsewhere"),
]
# In the place of the command line: `tell` says what it has, `stay` stays until it is ended, `end`
# leaves something to be done.
COMMAND = """
def main():
    import json, os, random, subprocess, sys, time
    import numpy.random
    if sys.argv[1] == "stay":
        child = subprocess.Popen(["sleep", "600"]) if sys.argv[2:] else None
        print("stays", flush=True)
        while True:
            time.sleep(0.05)
    if sys.argv[1] == "end":
        import atexit, threading
        atexit.register(print, "at the exit")
        threading.Timer(0.5, print, ["in a thread"]).start()
        print("at once")
        sys.exit({"3": 3, "none": None, "said": "why"}[sys.argv[2]])
    umask = os.umask(0)
    print(json.dumps({
        "umask": umask,
        "noon": time.strftime("%H:%M", time.localtime(12 * 3600)),
        "given": sys.stdin.read(),
        "arguments": sys.argv[1:],
        "variables": {k: v for k, v in os.environ.items() if k in ("LEFT_OUT", "ODD")},
        "own": [name for name in OWN if name in os.environ],
        "set_by_imports": os.environ.get("SET_BY_IMPORTS"),
        "drawn": [random.random(), numpy.random.random()],
    }))
"""
SETS_A_VARIABLE = """
    import os
    os.environ["SET_BY_IMPORTS"] = "yes"
"""


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    made = shell_of.make()
    own = f"OWN = {list(client.OWN_VARIABLES)}\n"
    (made.root / "code/headrace/cli/app.py").write_text(own + COMMAND)
    with (made.root / "code/headrace/warm/preload.py").open("a") as preload:
        preload.write(SETS_A_VARIABLE)
    yield made
    client.end(made.home)
    shutil.rmtree(made.root)


def warm_up(shell: Shell, **changed: str) -> None:
    if not shell.socket.exists():
        shell.run("tell", **changed)
        until(shell.answers)


def told(shell: Shell, *words: str, given: str = "", **changed: str) -> dict[str, Any]:
    """What the command has, run in the warm process."""
    warm_up(shell)
    before = shell.served()
    with shell.start("tell", *words, **changed) as process:
        out, err = process.communicate(given, timeout=WAIT_SECONDS)
    assert shell.served() == before + 1, err
    found: dict[str, Any] = json.loads(out)
    return found


@contextmanager
def stay(shell: Shell, *words: str, **changed: str) -> Iterator["subprocess.Popen[str]"]:
    """A command that the warm process runs and that does not end by itself."""
    with shell.start("stay", *words, **changed) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "stays\n"
            yield process
        finally:
            process.kill()


def test_a_command_has_what_its_caller_has(shell: Shell) -> None:
    found = told(
        shell, "ü", "", given="a\nb", umask="027", TZ="Asia/Tokyo", LEFT_OUT="1", ODD="\udcff"
    )
    assert (found["umask"], found["noon"], found["given"]) == (0o027, "21:00", "a\nb")
    assert found["arguments"] == ["tell", "ü", ""]
    assert found["variables"] == {"LEFT_OUT": "1", "ODD": "\udcff"}
    found = told(shell)
    assert (found["umask"], found["noon"], found["variables"]) == (0o022, "12:00", {})


def test_a_command_has_what_its_imports_set_and_nothing_of_the_warm_process(shell: Shell) -> None:
    found = told(shell)
    assert (found["set_by_imports"], found["own"]) == ("yes", [])


def test_no_two_commands_draw_the_same_numbers(shell: Shell) -> None:
    first, second = told(shell)["drawn"], told(shell)["drawn"]
    assert first[0] != second[0]
    assert first[1] != second[1]


@pytest.mark.parametrize(
    ("how", "code", "said"), [("3", 3, ""), ("none", 0, ""), ("said", 1, "why\n")]
)
def test_a_command_does_what_is_left_when_it_ends(
    shell: Shell, how: str, code: int, said: str
) -> None:
    warm_up(shell)
    before = shell.served()
    with shell.start("end", how) as process:
        out, err = process.communicate(timeout=WAIT_SECONDS)
    assert shell.served() == before + 1
    assert (process.returncode, err) == (code, said)
    assert out == "at once\nin a thread\nat the exit\n"


def test_a_command_whose_reader_is_gone_says_so(shell: Shell) -> None:
    warm_up(shell)
    with shell.start("end", "3") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "BrokenPipeError" in process.stderr.read()
        assert process.wait(WAIT_SECONDS) == 120


def test_signals_reach_the_command_that_they_are_for_and_no_other(shell: Shell) -> None:
    warm_up(shell)
    with stay(shell) as first, stay(shell) as second:
        mine, other = sorted(shell.server().children(), key=lambda process: process.create_time())
        first.send_signal(signal.SIGTSTP)
        until(lambda: mine.status() == psutil.STATUS_STOPPED)
        until(lambda: psutil.Process(first.pid).status() == psutil.STATUS_STOPPED)
        first.send_signal(signal.SIGCONT)
        until(lambda: mine.status() != psutil.STATUS_STOPPED)
        first.terminate()
        assert first.wait(WAIT_SECONDS) == -signal.SIGTERM
        assert is_gone(mine)
        assert not is_gone(other)
        assert other.status() != psutil.STATUS_STOPPED
        second.kill()
        until(lambda: is_gone(other))


def test_an_interrupt_goes_to_what_the_command_started_too(shell: Shell) -> None:
    warm_up(shell)
    with stay(shell, "and start") as process:
        (command,) = shell.server().children()
        (child,) = command.children()
        process.send_signal(signal.SIGINT)
        until(lambda: is_gone(command) and is_gone(child))


def test_who_ignores_a_signal_goes_on_doing_so(shell: Shell) -> None:
    warm_up(shell)
    with stay(shell, ignored=str(int(signal.SIGINT))) as process:
        (command,) = shell.server().children()
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        assert not is_gone(command)
        process.terminate()
        assert process.wait(WAIT_SECONDS) == -signal.SIGTERM


def test_there_is_one_warm_process_of_a_home(shell: Shell) -> None:
    warm_up(shell)
    server, inode = shell.server(), shell.socket.stat().st_ino
    # As the command starts it, after another look at the home: the code there says what fits.
    code = (
        "import os, sys; from pathlib import Path; from headrace.warm import fit, server\n"
        "home = Path(sys.argv[1])\n"
        "sys.argv[1:] = [str(home), fit.stamp(os.environ, home), '5']; server.main()"
    )
    subprocess.run(
        [sys.executable, "-P", "-c", code, str(shell.home)],
        env=shell.environment(),
        timeout=WAIT_SECONDS / 2,
        check=True,
    )
    assert (shell.server(), shell.socket.stat().st_ino) == (server, inode)


def test_a_command_that_takes_longer_than_the_idle_minutes_is_not_cut_off(shell: Shell) -> None:
    client.end(shell.home)
    until(lambda: not shell.servers())
    warm_up(shell, **{fit.MINUTES: "0.02"})
    server = shell.server()
    with stay(shell) as process:
        time.sleep(2.5)  # it looks every two seconds, and 1.2 are allowed
        assert process.poll() is None
        assert not is_gone(server)
        process.terminate()
    until(lambda: is_gone(server), 10)


def test_a_home_may_have_a_long_path(shell: Shell) -> None:
    home = shell.root / ("h" * 120)
    home.mkdir()
    shell.run("tell", HEADRACE_HOME=str(home))
    until((home / wire.SOCKET).exists)
    try:
        assert client.process_of(home) is not None
        assert (home / wire.SOCKET).stat().st_mode & 0o777 == 0o600
    finally:
        client.end(home)
