"""The run launcher: starts each run in a fork of a process that has imported everything.

`dagster.yaml` names it. The daemon launches with it the queued runs of the UI, sensors, schedules
and backfills; the web server terminates runs with it.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import dagster as dg
from dagster._config.config_schema import UserConfigSchema
from dagster._core.launcher import DefaultRunLauncher
from dagster._core.launcher.base import (
    CheckRunHealthResult,
    LaunchRunContext,
    RunLauncher,
    WorkerStatus,
)
from dagster._core.storage.tags import HIDDEN_TAG_PREFIX
from dagster._serdes import ConfigurableClass, ConfigurableClassData, serialize_value
from typing_extensions import override

from platform_assets.processes.preload import PRELOAD_ENVIRONMENT, PRELOADED
from platform_assets.processes.run_host import (
    Ended,
    FileVersions,
    Loaded,
    Message,
    NotStarted,
    Started,
    StartRun,
    host_command,
    version_of,
)

# The UI does not show a hidden tag, and a run that is executed again does not inherit it.
WORKER_TAG = f"{HIDDEN_TAG_PREFIX}headrace_run_worker"
_START_SECONDS = 120.0
_log = logging.getLogger("dagster.daemon.ForkRunLauncher")


@dataclass(frozen=True)
class Worker:
    """The process of a run, identified so that every process of the same machine can find it.

    Attributes:
        machine: The machine's boot and the namespace of its process ids (a container has its own).
        pid: Process id, which the system may give to another process later.
        started: Clock ticks between the boot and the start of the process.
    """

    machine: str
    pid: int
    started: int

    @classmethod
    def of_process(cls, pid: int) -> Self | None:
        """The process with this id; None if there is none, or if it has ended."""
        try:
            # The name of the program, in parentheses, may hold spaces.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        state, started = fields[0], int(fields[19])
        return None if state in "ZX" else cls(_machine(), pid, started)

    @classmethod
    def of_run(cls, run: dg.DagsterRun) -> Self | None:
        """The process that was started for a run; None if this launcher started none."""
        stored = run.tags.get(WORKER_TAG)
        return cls(**json.loads(stored)) if stored else None

    def tags(self) -> dict[str, str]:
        """As a tag of its run."""
        return {WORKER_TAG: json.dumps(asdict(self))}

    def is_here(self) -> bool:
        """Whether it was started on this machine, since its last boot."""
        return self.machine == _machine()

    def is_alive(self) -> bool:
        """Whether it still runs, on this machine."""
        return self.is_here() and Worker.of_process(self.pid) == self

    def interrupt(self) -> bool:
        """Send it SIGINT, as Ctrl-C does; False if it has ended."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            # Checked after pidfd_open: the descriptor then refers to this process, and not to a
            # later one with the same id.
            if not self.is_alive():
                return False
            signal.pidfd_send_signal(descriptor, signal.SIGINT)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True


class ForkRunLauncher(RunLauncher[dg.DagsterInstance], ConfigurableClass):
    """Starts each run in a fork of a preloaded process, or else by Dagster's default launcher.

    The default launcher starts a run where forks are not safe (macOS), if the run's code belongs to
    another Python, and if the forkserver does not start. An event of the run gives the reason.
    """

    def __init__(
        self,
        preload_modules: Sequence[str] = PRELOADED,
        inst_data: ConfigurableClassData | None = None,
    ) -> None:
        self._hosts = _hosts(tuple(preload_modules))
        self._inst_data = inst_data
        self._default = DefaultRunLauncher()
        super().__init__()  # type: ignore[no-untyped-call]

    @property
    @override
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    @override
    def config_type(cls) -> UserConfigSchema:
        return {
            "preload_modules": dg.Field(
                [str],
                default_value=list(PRELOADED),
                description="What the forkserver imports before it forks.",
            )
        }

    @classmethod
    @override
    def from_config_value(
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]
    ) -> Self:
        return cls(config_value["preload_modules"], inst_data)

    @override
    def register_instance(self, instance: dg.DagsterInstance) -> None:
        super().register_instance(instance)
        self._default.register_instance(instance)

    def prepare(self) -> None:
        """Start the forkserver in the background, before the first run needs it."""
        if sys.platform == "linux":
            self._hosts.prepare()

    def host_process_ids(self) -> list[int]:
        """Process ids of the host processes, the current one first."""
        return self._hosts.process_ids()

    def end(self) -> None:
        """Start no more runs; those under way go on to their end."""
        self._hosts.end()

    @override
    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        try:
            _require_fork(run)
            worker = self._hosts.start_run(self._instance, run.run_id)
        except _CannotForkError as error:
            message = f"Dagster's default launcher starts this run: {error}"
            self._instance.report_engine_event(message, run, cls=self.__class__)
            self._default.launch_run(context)
        else:
            self._instance.add_run_tags(run.run_id, worker.tags())

    @override
    def terminate(self, run_id: str) -> bool:
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        worker = Worker.of_run(run)
        if worker is None:
            return bool(self._default.terminate(run_id))  # type: ignore[no-untyped-call]
        if not worker.is_here():
            self._report(
                run, "The run's process is on another machine, or ended with its container"
            )
            return False
        self._instance.report_run_canceling(run)
        if worker.interrupt():
            return True
        self._instance.report_run_canceled(run, "The run's process had ended before.")
        return False

    @property
    @override
    def supports_check_run_worker_health(self) -> bool:
        return True

    @override
    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        worker = Worker.of_run(run)
        if worker is None:
            # A run of the command line, or of Dagster's launcher, whose code server watches it.
            return CheckRunHealthResult(WorkerStatus.RUNNING, "started by another launcher")
        if worker.is_alive():
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(worker.pid))
        current = self._instance.get_run_by_id(run.run_id)
        if current is not None and current.is_finished:
            return CheckRunHealthResult(WorkerStatus.SUCCESS, run_worker_id=str(worker.pid))
        text = f"process {worker.pid} does not exist"
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, text, run_worker_id=str(worker.pid))

    @override
    def get_run_worker_debug_info(
        self, run: dg.DagsterRun, include_container_logs: bool | None = True
    ) -> str | None:
        del include_container_logs
        worker = Worker.of_run(run)
        return f"Process {worker.pid}, alive: {worker.is_alive()}" if worker else None

    @override
    def join(self, timeout: int = 30) -> None:
        self._hosts.join(timeout)
        self._default.join(timeout)  # type: ignore[no-untyped-call]

    def _report(self, run: dg.DagsterRun, message: str) -> None:
        self._instance.report_engine_event(message, run, cls=self.__class__)


class _CannotForkError(Exception):
    """Why a run cannot start in a fork."""


def _require_fork(run: dg.DagsterRun) -> None:
    if sys.platform != "linux":
        raise _CannotForkError(f"processes are not forked safely on {sys.platform}")
    origin = run.job_code_origin
    if origin is None:
        raise _CannotForkError("the run has no code origin")
    if origin.executable_path != sys.executable:
        raise _CannotForkError(
            f"its code runs under {origin.executable_path}, the daemon under {sys.executable}"
        )


class Hosts:
    """Host processes: the current one, which starts runs, and retired ones whose runs go on.

    The current host is replaced when code or environment have changed since it loaded them.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = modules
        self._lock = threading.Lock()
        self._current: _HostProcess | None = None
        self._retired: list[_HostProcess] = []

    def start_run(self, instance: dg.DagsterInstance, run_id: str) -> Worker:
        """Start the process of a run.

        Raises:
            _CannotForkError: The forkserver does not start.
        """
        wanted = StartRun(run_id, serialize_value(instance.get_ref()))
        with self._lock:
            host = self._current_host()
        try:
            return host.start(wanted, instance)
        except _HostEndedError:
            # The host ended after the check, and did not start the run.
            with self._lock:
                host = self._current_host()
        try:
            return host.start(wanted, instance)
        except _HostEndedError as error:
            raise _CannotForkError(str(error)) from None

    def prepare(self) -> None:
        """Start a host without waiting for its imports."""
        with self._lock:
            self._current_host()

    def process_ids(self) -> list[int]:
        """Process ids of the running hosts, the current one first."""
        with self._lock:
            hosts = [self._current, *self._retired]
        return [host.pid for host in hosts if host is not None and host.is_alive()]

    def join(self, timeout: float) -> None:
        """Wait until no run is under way."""
        deadline = time.monotonic() + timeout
        while any(host.has_runs() for host in [self._current, *self._retired] if host):
            if time.monotonic() > deadline:
                raise TimeoutError(f"runs are still under way after {timeout} s")
            time.sleep(0.05)

    def end(self) -> None:
        """End the hosts; their runs go on to their end."""
        with self._lock:
            if self._current is not None:
                self._current.retire()
                self._retired.append(self._current)
            self._current = None

    def _current_host(self) -> "_HostProcess":
        """The current host; a new one if code or environment have changed."""
        self._retired = [host for host in self._retired if host.is_alive()]
        if self._current is not None:
            if self._current.is_up_to_date():
                return self._current
            _log.info("Code or environment have changed: runs start in a new forkserver")
            self._current.retire()
            self._retired.append(self._current)
        self._current = _HostProcess(self._modules)
        return self._current


@cache
def _hosts(modules: tuple[str, ...]) -> Hosts:
    """The hosts of this process; a deployment has one daemon, and so one current host."""
    return Hosts(modules)


class _HostEndedError(Exception):
    """A host ended, or its code became outdated, before it could start a run."""


class RunStartLostError(Exception):
    """A host ended after it was sent a run: whether the run has started is unknown."""


class _HostProcess:
    """One host process (platform_assets.processes.run_host), and the messages that it sent."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._environment = dict(os.environ)
        self._began_at = time.time_ns()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  # our own program
                host_command(theirs.fileno(), modules),
                pass_fds=[theirs.fileno()],
                env={"PYTHONWARNINGS": "ignore", **PRELOAD_ENVIRONMENT, **self._environment},
            )
        self._connection = Connection(ours.detach())
        self._sending = threading.Lock()
        self._reports = threading.Condition()
        self._files: FileVersions | None = None
        self._started: dict[str, Started | NotStarted] = {}
        self._runs: dict[str, dg.DagsterInstance] = {}
        self._has_ended = False
        threading.Thread(target=self._listen, name="run-host", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def has_runs(self) -> bool:
        return bool(self._runs)

    def is_up_to_date(self) -> bool:
        """Whether it runs, with the current code and environment."""
        if not self.is_alive() or self._has_ended or self._environment != dict(os.environ):
            return False
        # While it imports, its files are not known yet; `start` checks them.
        return self._files is None or not self._has_old_files()

    def start(self, wanted: StartRun, instance: dg.DagsterInstance) -> Worker:
        """Start a run, after everything is imported.

        Raises:
            _HostEndedError: It ended before it got the run, or has loaded files that have changed.
            _CannotForkError: It could not start the run's process.
            RunStartLostError: It ended before it reported the start.
        """
        with self._reports:
            if self._files is None:
                self._await_report(lambda: self._files is not None)
                if self._has_old_files():
                    raise _HostEndedError("code changed while it was imported")
            self._runs[wanted.run_id] = instance
        try:
            with self._sending:
                self._connection.send(wanted)
        except OSError as error:
            self._runs.pop(wanted.run_id, None)
            raise _HostEndedError(str(error)) from None
        # From here on the run may have started, so it must not be started in another host.
        with self._reports:
            self._await_report(lambda: wanted.run_id in self._started, error=RunStartLostError)
            answer = self._started.pop(wanted.run_id)
        if isinstance(answer, NotStarted):
            self._runs.pop(wanted.run_id, None)
            raise _CannotForkError(answer.error)
        worker = Worker.of_process(answer.pid)
        # If the process has ended already, its start time is unknown; 0 matches no process.
        return worker or Worker(_machine(), answer.pid, 0)

    def retire(self) -> None:
        """Start no more runs; the host ends when its runs have ended."""
        with suppress(OSError), self._sending:
            self._connection.send(None)

    def _await_report(
        self, condition: Callable[[], bool], error: type[Exception] = _HostEndedError
    ) -> None:
        self._reports.wait_for(lambda: condition() or self._has_ended, _START_SECONDS)
        if not condition():
            why = "it ended" if self._has_ended else f"no answer within {_START_SECONDS:.0f} s"
            raise error(f"the process that starts runs: {why}")

    def _has_old_files(self) -> bool:
        """Whether a file has changed since it was loaded, or while it was being loaded."""
        now = time.time_ns()
        return any(
            version_of(path) != version or self._began_at < version[0] < now
            for path, version in (self._files or {}).items()
        )

    def _listen(self) -> None:
        """Receive its messages until it ends."""
        with suppress(EOFError, OSError):
            while True:
                self._receive(self._connection.recv())
        self._process.wait()
        with self._reports:
            self._has_ended = True
            self._reports.notify_all()

    def _receive(self, message: Message) -> None:
        if isinstance(message, Ended):
            self._end_run(message)
            return
        with self._reports:
            if isinstance(message, Loaded):
                self._files = message.files
            else:
                self._started[message.run_id] = message
            self._reports.notify_all()

    def _end_run(self, ended: Ended) -> None:
        """Record the failure of a run whose process ended while the run was not finished."""
        instance = self._runs.pop(ended.run_id, None)
        try:
            run = instance.get_run_by_id(ended.run_id) if instance else None
            if instance is None or run is None or run.is_finished:
                return
            worker = Worker.of_run(run)
            if worker is not None and worker.is_alive():
                return  # Only the forkserver was killed. Run monitoring watches the process.
            if run.status is dg.DagsterRunStatus.CANCELING:
                instance.report_run_canceled(run)
                return
            code = ended.exit_code
            ending = f"by signal {-code}" if code < 0 else f"with code {code}"
            instance.report_run_failed(run, f"The run's process ended unexpectedly, {ending}.")
        except Exception:  # noqa: BLE001
            # The database may be unavailable; run monitoring checks the run again.
            _log.exception("The end of the process of run %s could not be recorded", ended.run_id)


@cache
def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
