"""Runs start in forks of a preloaded process, on Dagster's storage in a real Postgres."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.monitoring import execute_run_monitoring_iteration

from platform_assets.processes.run_launcher import ForkRunLauncher, Worker
from tests import servers

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere runs start by Dagster's own launcher"
)
WAIT_SECONDS = 60
CODE = """
import os, random, time
import dagster as dg
import numpy.random

VERSION = "{version}"

@dg.op(config_schema={{"do": str}})
def work(context):
    print("printed by the op", flush=True)
    context.add_output_metadata({{
        "version": VERSION, "pid": os.getpid(), "variable": os.environ.get("OF_THE_TEST", ""),
        "drawn": f"{{random.random()}} {{numpy.random.random()}}",
    }})
    if context.op_config["do"] == "sleep":
        time.sleep(600)
    if context.op_config["do"] == "die":
        os._exit(7)

@dg.job(executor_def=dg.in_process_executor)
def job():
    work()

defs = dg.Definitions(jobs=[job])
"""


class Deployment:
    """An instance whose launcher is ours, and a module of code that it preloads."""

    def __init__(self, instance: dg.DagsterInstance, folder: Path) -> None:
        self.instance, self.folder = instance, folder
        launcher = instance.run_launcher
        assert isinstance(launcher, ForkRunLauncher)
        self.launcher = launcher

    def write_code(self, version: str) -> None:
        target = self.folder / "small_runs.py"
        scratch = target.with_suffix(".new")
        scratch.write_text(CODE.format(version=version))
        scratch.replace(target)

    def launch(self, do: str = "end", *, executable: str = sys.executable) -> str:
        """Launch a run of the module's job; its id."""

        @dg.op(config_schema={"do": str})
        def work() -> None: ...

        @dg.job
        def job() -> None:
            work()

        # pytest changes it for each test, and a changed environment is a new forkserver.
        os.environ.pop("PYTEST_CURRENT_TEST", None)
        code = ModuleCodePointer("small_runs", "defs", working_directory=str(self.folder))
        repository = RepositoryPythonOrigin(executable, code)
        run = self.instance.create_run_for_job(
            job,
            run_config={"ops": {"work": {"config": {"do": do}}}},
            job_code_origin=JobPythonOrigin("job", repository),
        )
        self.instance.launch_run(run.run_id, None)  # type: ignore[arg-type]
        return run.run_id

    def run(self, run_id: str) -> dg.DagsterRun:
        found = self.instance.get_run_by_id(run_id)
        assert found is not None
        return found

    def worker(self, run_id: str) -> Worker:
        found = Worker.of_run(self.run(run_id))
        assert found is not None
        return found

    def events(self, run_id: str) -> str:
        entries = [entry.dagster_event for entry in self.instance.all_logs(run_id)]
        return "\n".join(event.message or "" for event in entries if event is not None)

    def await_status(self, run_id: str, status: dg.DagsterRunStatus) -> None:
        until(lambda: self.run(run_id).status is status or self.run(run_id).is_finished)
        assert self.run(run_id).status is status, self.events(run_id)

    def await_started(self, run_id: str) -> None:
        until(lambda: "Started execution of step" in self.events(run_id))

    def results(self, run_id: str) -> dict[str, object]:
        """What the run's op said of itself, once it has ended well."""
        self.await_status(run_id, dg.DagsterRunStatus.SUCCESS)
        [output] = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_OUTPUT)
        assert output.dagster_event is not None
        metadata = output.dagster_event.step_output_data.metadata
        return {name: value.value for name, value in metadata.items()}

    def host(self) -> psutil.Process:
        [current, *_] = self.launcher.host_process_ids()
        return psutil.Process(current)

    def forkserver(self) -> psutil.Process:
        [found] = [p for p in self.host().children() if "forkserver" in " ".join(p.cmdline())]
        return found


def until(true: Callable[[], object]) -> None:
    ends_at = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < ends_at, "waited in vain"
        time.sleep(0.05)


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    home: Path = tmp_path_factory.mktemp("dagster")
    code: Path = tmp_path_factory.mktemp("code")
    url = servers.postgres().uri("dagster", driver="psycopg2")
    (home / "dagster.yaml").write_text(
        f"""
storage: {{postgres: {{postgres_url: "{url}"}}}}
telemetry: {{enabled: false}}
run_monitoring: {{enabled: true}}
run_launcher:
  module: platform_assets.processes.run_launcher
  class: ForkRunLauncher
  config: {{preload_modules: [small_runs, psycopg2, dagster_postgres, dagster._grpc.impl]}}
"""
    )
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.from_config(str(home)) as made:
        patch.setenv("PYTHONPATH", str(code))
        found = Deployment(made, code)
        found.write_code("1")
        yield found
        found.launcher.end()


def test_a_run_starts_in_a_fork_of_the_forkserver(deployment: Deployment) -> None:
    run_id = deployment.launch()
    results = deployment.results(run_id)
    assert results["version"] == "1"
    assert results["pid"] == deployment.worker(run_id).pid
    assert f"Started process for run (pid: {results['pid']})" in deployment.events(run_id)
    exited = f"Process for run exited (pid: {results['pid']})"
    until(lambda: exited in deployment.events(run_id))


def test_the_forkserver_has_one_thread_and_is_connected_to_nothing(deployment: Deployment) -> None:
    deployment.results(deployment.launch())
    server = deployment.forkserver()
    assert server.num_threads() == 1
    assert server.net_connections() == []


def test_what_a_run_prints_is_in_its_compute_log(deployment: Deployment) -> None:
    run_id = deployment.launch()
    deployment.results(run_id)
    [captured] = deployment.instance.all_logs(run_id, of_type=dg.DagsterEventType.LOGS_CAPTURED)
    assert captured.dagster_event is not None
    file_key = captured.dagster_event.logs_captured_data.file_key
    logs = deployment.instance.compute_log_manager
    log_key = logs.build_log_key_for_run(run_id, file_key)
    assert b"printed by the op" in (logs.get_log_data(log_key).stdout or b"")


def test_no_two_runs_draw_the_same_numbers(deployment: Deployment) -> None:
    first = str(deployment.results(deployment.launch())["drawn"]).split()
    second = str(deployment.results(deployment.launch())["drawn"]).split()
    assert first[0] != second[0]
    assert first[1] != second[1]


def test_changed_code_starts_a_new_forkserver_and_the_old_one_ends_with_its_runs(
    deployment: Deployment,
) -> None:
    asleep = deployment.launch("sleep")
    deployment.await_started(asleep)
    old_host, old_server = deployment.host(), deployment.forkserver()
    deployment.write_code("2")
    assert deployment.results(deployment.launch())["version"] == "2"
    assert deployment.host() != old_host
    assert old_server.is_running()
    assert deployment.instance.run_launcher.terminate(asleep)
    deployment.await_status(asleep, dg.DagsterRunStatus.CANCELED)
    until(lambda: is_gone(old_host) and is_gone(old_server))


def test_a_run_has_the_environment_of_the_moment_it_is_launched(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert deployment.results(deployment.launch())["variable"] == ""
    monkeypatch.setenv("OF_THE_TEST", "set")
    assert deployment.results(deployment.launch())["variable"] == "set"


def test_a_run_that_is_terminated_is_interrupted_and_canceled(deployment: Deployment) -> None:
    run_id = deployment.launch("sleep")
    deployment.await_started(run_id)
    # As the web server does it, whose launcher has started nothing.
    assert deployment.instance.run_coordinator.cancel_run(run_id)
    deployment.await_status(run_id, dg.DagsterRunStatus.CANCELED)
    until(lambda: not deployment.worker(run_id).is_alive())
    assert not deployment.launcher.terminate(run_id)


def test_a_run_whose_process_is_killed_fails_at_once_and_says_why(deployment: Deployment) -> None:
    run_id = deployment.launch("sleep")
    deployment.await_started(run_id)
    health = deployment.launcher.check_run_worker_health(deployment.run(run_id))
    assert health.status is WorkerStatus.RUNNING
    os.kill(deployment.worker(run_id).pid, signal.SIGKILL)
    deployment.await_status(run_id, dg.DagsterRunStatus.FAILURE)
    assert "ended unexpectedly, by signal 9" in deployment.events(run_id)


def test_a_run_whose_process_ends_by_itself_fails(deployment: Deployment) -> None:
    run_id = deployment.launch("die")
    deployment.await_status(run_id, dg.DagsterRunStatus.FAILURE)
    assert "ended unexpectedly, with code 7" in deployment.events(run_id)


def test_a_killed_forkserver_is_started_again_and_its_runs_go_on(deployment: Deployment) -> None:
    asleep = deployment.launch("sleep")
    deployment.await_started(asleep)
    killed = deployment.forkserver()
    killed.kill()
    until(lambda: is_gone(killed))
    assert deployment.results(deployment.launch())["version"]
    assert deployment.forkserver() != killed
    assert deployment.run(asleep).status is dg.DagsterRunStatus.STARTED
    assert deployment.launcher.terminate(asleep)
    deployment.await_status(asleep, dg.DagsterRunStatus.CANCELED)


def test_a_killed_host_is_started_again_and_monitoring_finds_its_dead_run(
    deployment: Deployment,
) -> None:
    asleep = deployment.launch("sleep")
    deployment.await_started(asleep)
    worker = deployment.worker(asleep)
    deployment.host().kill()
    assert deployment.results(deployment.launch())["version"]
    assert deployment.run(asleep).status is dg.DagsterRunStatus.STARTED
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: not worker.is_alive())
    monitor(deployment)
    deployment.await_status(asleep, dg.DagsterRunStatus.FAILURE)
    assert f"process {worker.pid} does not exist" in deployment.events(asleep)


def monitor(deployment: Deployment) -> None:
    """One look of Dagster's run monitoring."""
    log = logging.getLogger(__name__)
    with WorkspaceProcessContext(deployment.instance, EmptyWorkspaceTarget()) as context:
        assert [error for error in execute_run_monitoring_iteration(context, log) if error] == []


def test_another_process_with_the_id_of_a_run_is_neither_its_health_nor_interrupted(
    deployment: Deployment,
) -> None:
    own = Worker.of_process(os.getpid())
    assert own is not None
    assert own.is_alive()
    for other in (replace(own, started=own.started - 1), replace(own, machine="another")):
        assert not other.is_alive()
        assert not other.interrupt()


def test_a_run_of_another_python_starts_by_dagsters_launcher_and_says_so(
    deployment: Deployment,
) -> None:
    with pytest.raises(dg.DagsterInvariantViolationError, match="requires a workspace"):
        deployment.launch(executable="/opt/other/bin/python")
    [run] = deployment.instance.get_runs(limit=1)
    said = deployment.events(run.run_id)
    assert "Dagster's default launcher starts this run" in said
    assert "/opt/other/bin/python" in said


def test_where_forks_are_not_safe_dagsters_launcher_starts_the_run_and_says_so(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The system's answer: the test runs on Linux alone.
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(dg.DagsterInvariantViolationError, match="requires a workspace"):
        deployment.launch()
    [run] = deployment.instance.get_runs(limit=1)
    assert "not forked safely on darwin" in deployment.events(run.run_id)


def test_code_that_cannot_be_imported_is_left_to_dagsters_launcher(deployment: Deployment) -> None:
    (deployment.folder / "small_runs.py").write_text("this is no Python\n")
    with pytest.raises(dg.DagsterInvariantViolationError, match="requires a workspace"):
        deployment.launch()
    deployment.write_code("3")
    assert deployment.results(deployment.launch())["version"] == "3"
