"""The warm process: a command that it runs is the command that was typed, or none at all.

A configuration with a pipe in the place of a source makes a command that waits.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from headrace.engine.allocator import ALLOCATOR
from headrace.warm import fit
from tests.warm import shell as shell_of
from tests.warm.shell import REPOSITORY, WAIT_SECONDS, Shell, is_gone, is_idle, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="there is no warm process elsewhere"),
]


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    made = shell_of.make()
    for folder in ("here", "there"):
        shutil.copytree(REPOSITORY / "config", made.root / folder / "config")
        (made.root / folder / "dbt").symlink_to(REPOSITORY / "dbt")
        with (made.root / folder / "config" / "production.yaml").open("a") as production:
            # Without an end, days exist that the demo's calendar does not have.
            production.write("partitions: {end: 2018-01-02}\n")
    shutil.copytree(REPOSITORY / "config", made.root / "waiting" / "config")
    os.mkfifo(made.root / "waiting" / "config" / "sources" / "zz.yaml")
    yield made
    # The warm process ends by itself when it is not asked for by this name any more.
    shutil.rmtree(made.root)


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


def test_a_warm_process_imports_the_engine_with_its_allocators_variables(shell: Shell) -> None:
    shell.warm_up(HEADRACE_CONFIG="here/config")
    variables = Path(f"/proc/{shell.server().pid}/environ").read_text().split("\0")
    assert {f"{name}={value}" for name, value in ALLOCATOR.items()} <= {*variables}


def test_the_allocator_reads_its_variables_as_the_engine_is_imported() -> None:
    code = (
        "import ctypes; from pathlib import Path\n"
        "def huge(): return Path('/proc/self/status').read_text().partition('THP_enabled:')[2][1]\n"
        # A parent's choice is inherited: undone, so that what is seen is the import's.
        "ctypes.CDLL(None).prctl(41, 0, 0, 0, 0); before = huge()\n"
        "import pysail.spark; print(before, huge())"
    )
    for given, says in ((ALLOCATOR, "1 0\n"), ({"MIMALLOC_ALLOW_THP": "1"}, "1 1\n")):
        found = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **given},
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout == says


def test_who_has_used_the_engine_finds_a_warm_process_too(shell: Shell) -> None:
    shell.stop()
    shell.warm_up(HEADRACE_CONFIG="here/config", **ALLOCATOR)
    before = shell.served()
    shell.run("check", folder="here", **ALLOCATOR)
    assert shell.served() == before + 1
    shell.stop()


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
