"""The process that starts runs: it owns the standard library's forkserver, one for its whole life.

`multiprocessing` keeps one forkserver a process and has no public way to replace it. Code and
environment change while the daemon lives, so each forkserver has a process of its own, which the
launcher replaces as a whole. This process imports the standard library alone; Dagster is imported
in the forkserver and in the runs.
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

# Objects between two collections, as a backfill by the command line has them; Python's 700 cost 2 s
# of a year.
_GARBAGE = 50_000
# Path to (time of change, size) of each file that the forkserver has loaded.
FileVersions = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class StartRun:
    """A run to start, as the launcher asks for it."""

    run_id: str
    instance_ref: str = field(repr=False)


@dataclass(frozen=True)
class Loaded:
    """The forkserver has imported everything: the files that it loaded."""

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
    """Start the runs that the launcher asks for, until it asks for no more and all have ended.

    Args:
        descriptor: One end of a pair of sockets; the launcher has the other.
        modules: What the forkserver imports before it forks.
    """
    # Ctrl-C reaches the whole group of processes; the launcher decides which runs end.
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
            self._is_open = False  # The launcher is gone; runs go on to their end.


def _send_loaded_files(target: Connection) -> None:
    """In a fork: send the files of all imported modules with their times of change."""
    versions: FileVersions = {}
    for module in [*sys.modules.values()]:
        if path := getattr(module, "__file__", None):
            versions[path] = version_of(path)
    target.send(versions)


def version_of(path: str) -> tuple[int, int]:
    """Time of change and size of a file; zeros if it is gone."""
    try:
        found = os.stat(path)  # noqa: PTH116  # 4,000 files at each launch: pathlib doubles the time
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def execute_run(wanted: StartRun) -> None:
    """In a fork: execute a run as Dagster's code server does in the process that it spawns."""
    # Without it, the garbage collector looks through all that was imported, and the kernel copies
    # each page that it touches: 1 s of a run's start.
    gc.freeze()
    gc.set_threshold(_GARBAGE)
    # Here, because the host itself must stay small.
    from dagster import DagsterInstance, DagsterRun  # noqa: PLC0415
    from dagster._core.errors import DagsterExecutionInterruptedError  # noqa: PLC0415
    from dagster._core.events import EngineEventData  # noqa: PLC0415
    from dagster._core.instance.ref import InstanceRef  # noqa: PLC0415
    from dagster._grpc.impl import core_execute_run  # noqa: PLC0415
    from dagster._serdes import deserialize_value  # noqa: PLC0415
    from dagster._utils.hosted_user_process import recon_job_from_origin  # noqa: PLC0415
    from dagster._utils.interrupts import capture_interrupts  # noqa: PLC0415

    from platform_assets.runtime.events import close_connections, pool_connections  # noqa: PLC0415

    _seed_numpy()
    reference = deserialize_value(wanted.instance_ref, InstanceRef)
    with capture_interrupts(), DagsterInstance.from_ref(reference) as instance:
        pool_connections(instance)
        try:
            run: DagsterRun | None = instance.get_run_by_id(wanted.run_id)
            if run is None or run.job_code_origin is None or run.is_finished:
                return
            pid = os.getpid()
            said = EngineEventData.in_process(pid)
            instance.report_engine_event(f"Started process for run (pid: {pid}).", run, said)
            job = recon_job_from_origin(run.job_code_origin)
            if run.asset_selection or run.asset_check_selection:
                # Dagster selects it later, from a second load of all definitions, if this is not
                # the same selection.
                job = job.get_subset(
                    asset_selection=run.asset_selection,
                    asset_check_selection=run.asset_check_selection,
                )
            # It logs each error as an event of the run before it raises it.
            with suppress(Exception, KeyboardInterrupt, DagsterExecutionInterruptedError):
                for _ in core_execute_run(job, run, instance, inject_env_vars=True):
                    pass
            instance.report_engine_event(f"Process for run exited (pid: {pid}).", run)
        finally:
            close_connections(instance)


def _seed_numpy() -> None:
    """Forks would all draw the same numbers; Python's own generator is seeded anew by itself."""
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()


def host_command(descriptor: int, modules: Sequence[str]) -> list[str]:
    """The command that runs `serve`, in whose forks no main module is imported again."""
    code = f"from {__name__} import serve; serve({descriptor}, {list(modules)!r})"
    return [sys.executable, "-c", code]
