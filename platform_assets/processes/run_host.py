"""The host process: it owns one forkserver of the standard library and starts runs in its forks.

`multiprocessing` keeps one forkserver a process and has no public way to replace it. Code and
environment change while the daemon lives, so the launcher replaces the whole host process with its
forkserver. The host imports the standard library alone; the forkserver and the runs import Dagster.
"""

import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterInstance

# Threshold of the garbage collector's youngest generation, as in headrace/cli/backfill.py: Python's
# default of 700 costs 2 s in a run over a year.
_COLLECTION_THRESHOLD = 50_000
# Path to (modification time, size) of each file that the forkserver has loaded.
FileVersions = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class StartRun:
    """The launcher's message: start this run."""

    run_id: str
    instance_ref: str = field(repr=False)


@dataclass(frozen=True)
class Loaded:
    """The forkserver has imported everything, from these files."""

    files: FileVersions = field(repr=False)


@dataclass(frozen=True)
class Started:
    """The process of a run has started."""

    run_id: str
    pid: int


@dataclass(frozen=True)
class NotStarted:
    """The process of a run could not be started."""

    run_id: str
    error: str


@dataclass(frozen=True)
class Ended:
    """The process of a run has ended; the code is negative for a signal."""

    run_id: str
    exit_code: int


Message = Loaded | Started | NotStarted | Ended


def serve(descriptor: int, modules: Sequence[str]) -> None:
    """Start a run for each message of the launcher, until it closes and all runs have ended.

    Args:
        descriptor: One end of a pair of sockets; the launcher has the other.
        modules: What the forkserver imports before it forks.
    """
    # Ctrl-C signals the whole process group; the launcher decides which runs end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    host = _Host(context, Connection(descriptor))
    host.report_loaded_files()
    host.serve()


class _Host:
    """See `serve`."""

    def __init__(
        self, context: multiprocessing.context.ForkServerContext, launcher: Connection
    ) -> None:
        self._context, self._launcher = context, launcher
        self._running: dict[int, tuple[str, BaseProcess]] = {}
        self._is_open = True

    def report_loaded_files(self) -> None:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_send_loaded_files, args=(theirs,))
        with ours, theirs:
            process.start()
            theirs.close()
            self._send(Loaded(ours.recv()))
        process.join()

    def serve(self) -> None:
        while self._is_open or self._running:
            sources = [self._launcher] if self._is_open else []
            for source in wait([*sources, *self._running]):
                if source is self._launcher:
                    self._receive()
                elif isinstance(source, int):
                    self._report_end(source)

    def _receive(self) -> None:
        try:
            message: StartRun | None = self._launcher.recv()
        except (EOFError, OSError):
            message = None
        if message is None:
            self._is_open = False
        else:
            self._start(message)

    def _start(self, wanted: StartRun) -> None:
        process = self._context.Process(target=execute_run, args=(wanted,))
        try:
            process.start()
        except (OSError, EOFError) as error:
            self._send(NotStarted(wanted.run_id, f"{type(error).__name__}: {error}"))
            return
        self._running[process.sentinel] = (wanted.run_id, process)
        self._send(Started(wanted.run_id, process.pid or 0))

    def _report_end(self, sentinel: int) -> None:
        run_id, process = self._running.pop(sentinel)
        process.join()
        self._send(Ended(run_id, process.exitcode or 0))
        process.close()

    def _send(self, message: Message) -> None:
        try:
            self._launcher.send(message)
        except OSError:
            self._is_open = False  # The launcher has ended; runs go on to their end.


def _send_loaded_files(target: Connection) -> None:
    """In a fork: send the files of all imported modules with their modification times."""
    versions: FileVersions = {}
    for module in [*sys.modules.values()]:
        if path := getattr(module, "__file__", None):
            versions[path] = version_of(path)
    target.send(versions)


def version_of(path: str) -> tuple[int, int]:
    """Modification time and size of a file; zeros if it does not exist."""
    try:
        found = os.stat(path)  # noqa: PTH116  # 4,000 files at each launch: pathlib doubles the time
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def execute_run(wanted: StartRun) -> None:
    """In a fork: execute a run as Dagster's code server does in the process that it spawns."""
    # Without freeze, the collector traverses all imported objects and writes to their pages, which
    # the kernel then copies (copy on write): 1 s of a run's start.
    gc.freeze()
    gc.set_threshold(_COLLECTION_THRESHOLD)
    # Imported here, because the host imports the standard library alone.
    from dagster import DagsterInstance  # noqa: PLC0415
    from dagster._core.instance.ref import InstanceRef  # noqa: PLC0415
    from dagster._serdes import deserialize_value  # noqa: PLC0415
    from dagster._utils.interrupts import capture_interrupts  # noqa: PLC0415

    from platform_assets.processes.instance_connections import (  # noqa: PLC0415
        close_connections,
        pool_connections,
    )

    _seed_numpy()
    reference = deserialize_value(wanted.instance_ref, InstanceRef)
    with capture_interrupts(), DagsterInstance.from_ref(reference) as instance:
        pool_connections(instance)
        try:
            _execute(instance, wanted.run_id)
        finally:
            close_connections(instance)


def _execute(instance: "DagsterInstance", run_id: str) -> None:
    from dagster._core.errors import DagsterExecutionInterruptedError  # noqa: PLC0415
    from dagster._core.events import EngineEventData  # noqa: PLC0415
    from dagster._grpc.impl import core_execute_run  # noqa: PLC0415
    from dagster._utils.hosted_user_process import recon_job_from_origin  # noqa: PLC0415

    run = instance.get_run_by_id(run_id)
    if run is None or run.job_code_origin is None or run.is_finished:
        return
    pid = os.getpid()
    in_process = EngineEventData.in_process(pid)
    instance.report_engine_event(f"Started process for run (pid: {pid}).", run, in_process)
    job = recon_job_from_origin(run.job_code_origin)
    if run.asset_selection or run.asset_check_selection:
        # Without this selection `core_execute_run` makes it, for which it loads all definitions a
        # second time.
        job = job.get_subset(
            asset_selection=run.asset_selection,
            asset_check_selection=run.asset_check_selection,
        )
    # Dagster logs each error as an event of the run before it raises the error.
    with suppress(Exception, KeyboardInterrupt, DagsterExecutionInterruptedError):
        for _ in core_execute_run(job, run, instance, inject_env_vars=True):
            pass
    instance.report_engine_event(f"Process for run exited (pid: {pid}).", run)


def _seed_numpy() -> None:
    """Seed NumPy's generator, because forks inherit its state and would draw the same numbers.

    Python reseeds `random` in a fork by itself.
    """
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()


def host_command(descriptor: int, modules: Sequence[str]) -> list[str]:
    """The command that runs `serve`; with `-c`, forks have no main module to import again."""
    code = f"from {__name__} import serve; serve({descriptor}, {list(modules)!r})"
    return [sys.executable, "-c", code]
