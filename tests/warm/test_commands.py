"""The warm process: a command that it runs is the command that was typed, or none at all.

The code is a copy, so that a test can change it, and so that its warm process imports only what
`check` needs. A configuration with a pipe in the place of a source makes a command that waits.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from headrace.warm import fit, wire

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("headrace", "resources", "io_managers", "platform_assets", "sensors", "jobs", "demo")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="there is no warm process elsewhere"),
]
WAIT_SECONDS = 60
QUICK_PRELOAD = """
def preload():
    import headrace.config.loading, numpy.random, rich.table, typer
"""


# Heeds signals, whatever the test's own process ignores or blocks, and then becomes the command.
# (A function between fork and exec would run gRPC's handlers in a process that has its threads.)
AS_FROM_A_SHELL = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_SETMASK, [])
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


@dataclass(frozen=True)
class Shell:
    """A folder with code and configuration, from which commands are typed."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def socket(self) -> Path:
        return self.home / wire.SOCKET

    def environment(self, **changed: str) -> dict[str, str]:
        own = {
            "HEADRACE_HOME": str(self.home),
            "PYTHONPATH": str(self.root / "code"),
            fit.MINUTES: "5",
        }
        foreign = ("HEADRACE_", "PIPELINE_ENV", "DAGSTER_", "DBT_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        return {**kept, **own, **changed}

    def start(self, *words: str, folder: str = ".", **changed: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [
                *(sys.executable, "-c", AS_FROM_A_SHELL),
                *(sys.executable, "-m", "headrace.warm.client", *words),
            ],
            cwd=self.root / folder,
            env=self.environment(**changed),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, folder: str = ".", **changed: str) -> tuple[int, str, str]:
        """Exit code, output, errors."""
        with self.start(*words, folder=folder, **changed) as process:
            out, err = process.communicate(timeout=WAIT_SECONDS)
        return process.returncode, out, err

    def served(self) -> int:
        """How many commands the warm process ran."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            wire.send(connection, {"stamp": "of nobody"})
            answer = wire.receive(connection)
        assert answer is not None
        return int(answer[0]["served"])

    def servers(self) -> list[psutil.Process]:
        """Warm processes, and no forks of one."""
        found = []
        for process in psutil.process_iter():
            try:
                words, parent = process.cmdline(), process.parent()
                of_parent = parent.cmdline() if parent else []
            except psutil.Error:
                continue
            if "headrace.warm.server" in words and str(self.home) in words and words != of_parent:
                found.append(process)
        return found

    def server(self) -> psutil.Process:
        """The one warm process."""
        (process,) = self.servers()
        return process

    def stop(self) -> None:
        self.run("stop", folder="here")
        until(lambda: not self.servers())

    def warm_up(self, **changed: str) -> None:
        """Have a warm process, as after a first command."""
        if not self.socket.exists():
            self.run("check", **changed)
            until(self.socket.exists)


def until(true: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    ends_at = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends_at, "waited in vain"
        time.sleep(0.05)


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    made = Shell(Path(tempfile.mkdtemp(prefix="headrace-warm-")))
    for package in PACKAGES:
        shutil.copytree(
            REPOSITORY / package,
            made.root / "code" / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    (made.root / "code/headrace/warm/preload.py").write_text(QUICK_PRELOAD)
    for folder in ("here", "there"):
        shutil.copytree(REPOSITORY / "config", made.root / folder / "config")
    shutil.copytree(REPOSITORY / "config", made.root / "waiting" / "config")
    os.mkfifo(made.root / "waiting" / "config" / "sources" / "zz.yaml")
    made.home.mkdir()
    yield made
    # The warm process ends by itself when it is not asked for by this name any more.
    shutil.rmtree(made.root)


def is_idle(process: psutil.Process) -> bool:
    """Whether a process did nothing for half a second."""
    before = process.cpu_times()
    time.sleep(0.5)
    return bool(process.cpu_times() == before)


@pytest.fixture
def waiting(shell: Shell) -> Iterator["subprocess.Popen[str]"]:
    """A command that the warm process runs and that does not end."""
    shell.warm_up(HEADRACE_CONFIG="here/config")
    with shell.start("check", folder="waiting") as process:
        until(lambda: shell.server().children())
        # It has read what it is, and waits for the pipe: it works no more.
        until(lambda: all(is_idle(child) for child in shell.server().children()))
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (("check",), {}),
        (("check", "--json"), {"PIPELINE_ENV": "staging"}),
        (("check",), {"HEADRACE_CONFIG": "nowhere"}),
        (("backfill", "--from", "2017-13-01", "--to", "2017-01-01"), {}),
        (("refill",), {}),
        (("check",), {"FORCE_COLOR": "1"}),
    ],
)
def test_a_warm_command_says_and_returns_what_a_cold_one_does(
    shell: Shell, words: tuple[str, ...], changed: Mapping[str, str]
) -> None:
    shell.warm_up(HEADRACE_CONFIG="here/config")
    before = shell.served()
    warm = shell.run(*words, folder="here", **changed)
    assert shell.served() == before + 1
    assert warm == shell.run(*words, folder="here", **{**changed, fit.MINUTES: "0"})
    assert shell.served() == before + 1


def test_folder_and_environment_are_the_callers(shell: Shell) -> None:
    shell.warm_up(HEADRACE_CONFIG="here/config")
    before = shell.served()
    for folder, environment in (("here", "development"), ("there", "production")):
        _, out, _ = shell.run("check", "--json", folder=folder, PIPELINE_ENV=environment)
        assert json.loads(out)["config"] == str(shell.root / folder / "config")
        assert json.loads(out)["environment"] == environment
    assert shell.served() == before + 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_warm_command_as_it_ends_a_cold_one(
    shell: Shell, waiting: "subprocess.Popen[str]", number: signal.Signals
) -> None:
    (fork,) = shell.server().children()
    waiting.send_signal(number)
    out, err = waiting.communicate(timeout=WAIT_SECONDS)
    until(lambda: is_gone(fork))
    cold = shell.start("check", folder="waiting", **{fit.MINUTES: "0"})
    time.sleep(2)
    cold.send_signal(number)
    assert (out, err) == cold.communicate(timeout=WAIT_SECONDS)
    assert waiting.returncode == cold.returncode


def test_a_command_ends_with_its_caller_that_is_killed(
    shell: Shell, waiting: "subprocess.Popen[str]"
) -> None:
    (fork,) = shell.server().children()
    waiting.kill()
    until(lambda: is_gone(fork), 5)
    assert shell.run("check", folder="here")[0] == 0


def test_a_caller_says_so_when_the_warm_process_dies(
    shell: Shell, waiting: "subprocess.Popen[str]"
) -> None:
    server = shell.server()
    (fork,) = server.children()
    server.kill()
    _, err = waiting.communicate(timeout=WAIT_SECONDS)
    assert waiting.returncode == 1
    assert "the warm process ended before the command did" in err
    assert "hint: " in err
    until(lambda: is_gone(fork), 5)
    # A socket that nobody listens on is passed by.
    assert shell.run("check", folder="here", **{fit.MINUTES: "0.0001"})[0] == 0
    until(lambda: not shell.socket.exists())


def test_changed_code_is_run_and_the_process_that_has_the_old_one_ends(shell: Shell) -> None:
    shell.warm_up(HEADRACE_CONFIG="here/config")
    old = shell.server()
    module = shell.root / "code" / "headrace" / "config" / "loading.py"
    module.write_text(module.read_text().replace("no base.yaml here", "nothing at all here"))
    _, _, err = shell.run("check", folder="here", HEADRACE_CONFIG="nowhere")
    assert "nothing at all here" in err
    until(lambda: is_gone(old), 10)


def test_an_idle_process_ends_after_its_minutes_and_leaves_no_socket(shell: Shell) -> None:
    shell.stop()
    shell.warm_up(HEADRACE_CONFIG="here/config", **{fit.MINUTES: "0.05"})
    server = shell.server()
    until(lambda: is_gone(server), 15)
    assert not shell.socket.exists()


def test_only_its_owner_may_use_it_and_nothing_is_written(shell: Shell) -> None:
    shell.stop()
    shell.warm_up(HEADRACE_CONFIG="here/config", SOME_SECRET="canary-7f3a")  # noqa: S106
    assert shell.socket.stat().st_mode & 0o777 == 0o600
    contents = [path.read_bytes() for path in shell.home.rglob("*") if path.is_file()]
    assert not any(b"canary-7f3a" in content for content in contents)


def test_stop_ends_it_and_so_does_a_home_that_is_gone(shell: Shell) -> None:
    shell.warm_up(HEADRACE_CONFIG="here/config")
    server = shell.server()
    assert shell.run("stop", folder="here") == (0, "", "stopped\n")
    until(lambda: is_gone(server), 5)
    shell.warm_up(HEADRACE_CONFIG="here/config")
    server = shell.server()
    shutil.rmtree(shell.home)
    until(lambda: is_gone(server), 10)
    shell.home.mkdir()


@pytest.mark.parametrize(
    ("environment", "minutes"),
    [
        ({}, 15),
        ({"PIPELINE_ENV": "development"}, 15),
        ({"PIPELINE_ENV": "production"}, 0),
        ({"PIPELINE_ENV": "staging"}, 0),
        ({"CI": "true"}, 0),
        ({"CI": "true", fit.MINUTES: "2.5"}, 2.5),
        ({fit.MINUTES: "0"}, 0),
        ({fit.MINUTES: "soon"}, 0),
    ],
)
def test_when_there_is_a_warm_process(environment: dict[str, str], minutes: float) -> None:
    assert fit.minutes(environment) == minutes


def test_what_a_backfill_imports_starts_no_thread() -> None:
    code = (
        "from headrace.warm.preload import preload; preload()\n"
        "import os; print(len(os.listdir('/proc/self/task')))"
    )
    alone = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, **alone},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "1\n"


def test_handing_a_command_over_imports_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import headrace.warm.client\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert found.stdout == "['headrace']\n"
