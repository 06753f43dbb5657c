"""`headrace dev`: Dagster's code server, daemon and web server over the home, until a signal."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import yaml

from headrace.config.loader import load_project
from headrace.errors import ConfigError, HeadraceError
from headrace.project.demo_servers import start_servers
from headrace.project.home import Home
from headrace.project.home_lock import using
from headrace.project.home_setup import environment_of, prepare_home

_HOST = "127.0.0.1"
# The code location's module and name, as in pyproject.toml and workspace.yaml.
_MODULE, _LOCATION = "platform_assets.definitions", "platform"
# The daemon and the web server import this module while the code server loads the definitions.
_SERVICE = "platform_assets.processes.service"
_READY_SECONDS = 180
_END_SECONDS = 30
_POLL_SECONDS = 0.5
_RELOAD_SECONDS = 5.0
_LAST_PORT = 65_535
_STATUS_QUERY = """
{ instance { info } workspaceOrError { ... on Workspace { locationEntries {
    loadStatus locationOrLoadError { ... on PythonError {
        className message causes { message } } } } } } }
"""
# The error of the code location while its server starts or restarts.
_UNREACHABLE = "DagsterUserCodeUnreachableError"


class DagsterEndedError(HeadraceError):
    """One of Dagster's processes ended without a signal to `headrace dev`."""


def serve(port: int, say: Callable[[str], None]) -> None:
    """Serve the UI and run the daemon until a signal ends this process.

    Args:
        port: Of the UI, on 127.0.0.1.
        say: Prints a line: when the UI can be opened, and when definitions cannot be loaded.

    Raises:
        ConfigError: The configuration is invalid, the port is in use, or another `headrace dev`
            serves the installation.
        DagsterEndedError: Dagster did not start, or a process of it ended.
    """
    project = load_project()
    url = f"http://{_HOST}:{port}"
    with using(project.home, "dev", f"headrace dev at {url}") as lock:
        require_free(port)
        prepare_home(project)
        for name, where in start_servers(project).items():
            say(f"the demo's {name}: {where}")
        variables = {
            "PYTHONWARNINGS": "ignore",
            # As `dagster dev` sets it: Dagster and its integrations then use development defaults.
            "DAGSTER_IS_DEV_CLI": "1",
            **os.environ,
            **environment_of(project),
        }
        home = Home(project.home).dagster
        with _collected_signals() as signals, _dagster(home, port, variables, lock) as dagster:
            ui = Ui(url, home)
            if not _await_ready(ui, dagster, signals):
                return
            say(f"Dagster's UI: {url}  (Ctrl-C ends it)")
            _prepare_runs(dagster)
            _watch(ui, dagster, signals, say)


def require_free(port: int) -> None:
    """Check that this process can listen on the port.

    Raises:
        ConfigError: Another program listens on it, or this user is not allowed to.
    """
    if why := _port_problem(port):
        raise ConfigError(
            f"port {port} of {_HOST} cannot be used: {why}",
            fix=f"headrace dev --port {port + 1 if port < _LAST_PORT else port - 1}",
        )


def _port_problem(port: int) -> str | None:
    # Connected before it is bound: a program that also listens with SO_REUSEADDR lets others bind.
    with socket.socket() as client:
        client.settimeout(1)
        is_answered = client.connect_ex((_HOST, port)) == 0
    with socket.socket() as server:
        # Connections of a server that ended a moment ago may still hold the port in TIME_WAIT.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((_HOST, port))
        except OSError as error:
            return error.strerror or str(error)
    return "another program answers there" if is_answered else None


@dataclass(frozen=True)
class Ui:
    """Dagster's web server, queried over GraphQL.

    Attributes:
        url: Its address.
        home: DAGSTER_HOME of the installation that it has to serve.
    """

    url: str
    home: Path

    def answer(self) -> Mapping[str, Any] | None:
        """Its status; None if it does not answer or serves another installation."""
        body = json.dumps({"query": _STATUS_QUERY}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/graphql", body, headers)  # noqa: S310  # ours
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                found: Mapping[str, Any] = json.load(answer)["data"]
            is_ours = str(self.home) in found["instance"]["info"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if is_ours else None


def _await_ready(ui: Ui, dagster: "_Processes", signals: list[int]) -> bool:
    """Wait until the UI has loaded the code location; False if a signal arrives first."""
    deadline = time.monotonic() + _READY_SECONDS
    while not signals:
        _require_alive(dagster)
        if (answer := ui.answer()) and _is_loaded(answer):
            return True
        if time.monotonic() > deadline:
            raise DagsterEndedError(
                f"{ui.url} did not answer for {_READY_SECONDS} s",
                fix="read Dagster's messages above, or try another port",
            )
        time.sleep(_POLL_SECONDS)
    return False


def _watch(ui: Ui, dagster: "_Processes", signals: list[int], say: Callable[[str], None]) -> None:
    """Print why reloaded definitions cannot be loaded, until a signal arrives."""
    printed, next_query_at = "", time.monotonic()
    while not signals:
        _require_alive(dagster)
        if time.monotonic() >= next_query_at:
            error = _load_error(ui.answer())
            if error and error != printed:
                say(f"error: the definitions cannot be loaded:\n{error}")
            elif printed and error == "":
                say("the definitions are loaded again")
            printed = printed if error is None else error
            next_query_at = time.monotonic() + _RELOAD_SECONDS
        time.sleep(_POLL_SECONDS)


def _is_loaded(answer: Mapping[str, Any]) -> bool:
    entries = answer["workspaceOrError"].get("locationEntries") or ()
    return bool(entries) and all(
        entry["loadStatus"] == "LOADED"
        and (entry["locationOrLoadError"] or {}).get("className") != _UNREACHABLE
        for entry in entries
    )


def _load_error(answer: Mapping[str, Any] | None) -> str | None:
    """Why the code location cannot be loaded; empty if it is loaded, None if that is not known."""
    if answer is None or not _is_loaded(answer):
        return None
    for entry in answer["workspaceOrError"]["locationEntries"]:
        error = entry["locationOrLoadError"] or {}
        if message := error.get("message"):
            causes = [cause["message"] for cause in error.get("causes") or ()]
            return str([message, *causes][-1]).strip()
    return ""


def _prepare_runs(dagster: "_Processes") -> None:
    """Have the daemon start its forkserver; its imports would have delayed the start of the UI."""
    stdin = dagster["daemon"].stdin
    if stdin is not None:
        with suppress(BrokenPipeError):
            stdin.write(b"\n")
            stdin.flush()


def _require_alive(dagster: "_Processes") -> None:
    for name, process in dagster.items():
        if (code := process.poll()) is not None:
            raise DagsterEndedError(
                f"Dagster's {name} ended with code {code}",
                fix="read its messages above, then run headrace dev again",
            )


_Processes = dict[str, "subprocess.Popen[bytes]"]


@contextmanager
def _dagster(
    home: Path, port: int, variables: Mapping[str, str], lock: int
) -> Iterator[_Processes]:
    """Start Dagster's processes in one process group; end the group with the block.

    The processes inherit the descriptor `lock`, so the home stays locked while one of them runs.
    """
    processes: _Processes = {}
    # A Unix socket's path has at most 107 bytes, which a path below the home may exceed.
    with TemporaryDirectory(prefix="headrace-") as folder:
        try:
            socket_path = Path(folder) / "code.sock"
            workspace = _write_workspace(home, socket_path)
            for name, command in _commands(workspace, port, socket_path).items():
                group = next((process.pid for process in processes.values()), 0)
                processes[name] = subprocess.Popen(  # noqa: S603  # our own programs
                    [sys.executable, "-m", *command],
                    env=variables,
                    cwd=home,
                    process_group=group,
                    pass_fds=[lock],
                    stdin=subprocess.PIPE if name == "daemon" else subprocess.DEVNULL,
                )
            yield processes
        finally:
            _end(processes)


def _write_workspace(home: Path, socket_path: Path) -> Path:
    """Write the workspace file that leads to the code server's socket."""
    workspace = home / "workspace.yaml"
    server = {"host": "localhost", "socket": str(socket_path), "location_name": _LOCATION}
    workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
    return workspace


def _commands(workspace: Path, port: int, socket_path: Path) -> dict[str, list[str]]:
    """By process: its arguments after `python -m`."""
    return {
        "code server": [
            *("dagster", "code-server", "start"),
            *("--module-name", _MODULE, "--working-directory", str(_packages_folder())),
            *("--socket", str(socket_path), "--location-name", _LOCATION),
            *("--inject-env-vars-from-instance", "--use-python-environment-entry-point"),
        ],
        "daemon": [
            *(_SERVICE, "daemon", str(socket_path)),
            *("--workspace", str(workspace)),
        ],
        "web server": [
            *(_SERVICE, "web_server", str(socket_path)),
            *("--host", _HOST, "--port", str(port), "--workspace", str(workspace)),
        ],
    }


def _end(processes: _Processes) -> None:
    """Interrupt the processes; kill processes, runs included, that do not end in time."""
    if not processes:
        return
    group = next(iter(processes.values())).pid
    deadline = time.monotonic() + _END_SECONDS
    for process in processes.values():
        process.send_signal(signal.SIGINT)
    for process in processes.values():
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
    # Runs are processes of the group, too; on SIGTERM they end like terminated runs.
    _signal_group(group, signal.SIGTERM)
    while time.monotonic() < deadline and _signal_group(group, 0):
        time.sleep(_POLL_SECONDS)
    _signal_group(group, signal.SIGKILL)
    for process in processes.values():
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; False if it has no process."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _packages_folder() -> Path:
    """The folder that contains the project's packages."""
    found = find_spec(_MODULE.split(".", maxsplit=1)[0])
    if found is None or not found.submodule_search_locations:
        raise ConfigError(f"{_MODULE} is not installed", fix="run make setup in its folder")
    return Path(found.submodule_search_locations[0]).parent


@contextmanager
def _collected_signals() -> Iterator[list[int]]:
    """Collect signals in the yielded list instead of ending this process."""
    received: list[int] = []

    def take(number: int, _: FrameType | None) -> None:
        received.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, take) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
