"""The executor: runs the steps of a run concurrently, in threads of its process.

Dagster's multiprocess executor needs 3 s of imports and an engine for each step. The engine and
Postgres work outside of Python: while one step waits for them, another can plan, commit or record.
"""

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from threading import get_ident

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.execution.api import (
    ExecuteRunWithPlanIterable,
    create_execution_plan,
    job_execution_iterator,
)
from dagster._core.execution.compute_logs import create_compute_log_file_key
from dagster._core.execution.context.system import (
    PlanExecutionContext,
    PlanOrchestrationContext,
    StepExecutionContext,
)
from dagster._core.execution.context_creation_job import (
    PlanExecutionContextManager,
    PlanOrchestrationContextManager,
    orchestration_context_event_generator,
)
from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.execution.plan.execute_plan import (
    _trigger_hook,
    dagster_event_sequence_for_step,
)
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.plan.step import ExecutionStep
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.base import Executor
from dagster._core.executor.init import InitExecutorContext
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.tags import PRIORITY_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from platform_assets.partitions import own_tags

DEFINITIONS_MODULE = "platform_assets.definitions"
LOCATION_NAME = "platform"
# More concurrent steps need more memory and save no time.
_MAX_STEPS = 4
_ONE_AT_A_TIME = "headrace/one_at_a_time"
# Interval of checks for interrupts; events of steps are handled without delay.
_POLL_SECONDS = 0.2

_MAX_CONCURRENT = dg.Field(
    dg.Noneable(int),
    default_value=None,
    is_required=False,
    description="Steps at once; by default as many as there are cores, 2 to 4.",
)


@dg.executor(name="threads", config_schema={"max_concurrent": _MAX_CONCURRENT})
def threads_executor(context: InitExecutorContext) -> Executor:
    """Runs steps whose inputs are ready concurrently, in threads of the run's process."""
    configured = context.executor_config.get("max_concurrent")
    default = min(_MAX_STEPS, max(2, os.cpu_count() or 1))
    return _ThreadsExecutor(configured if isinstance(configured, int) else default)


def execute_in_this_process(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    *,
    tags: Mapping[str, str],
    run_config: Mapping[str, object],
) -> dg.ExecuteInProcessResult:
    """Run a job in this process by its own executor, as a run of the code location.

    `JobDefinition.execute_in_process` runs one step at a time. Its runs have no code location, so
    the UI omits them from its overview and cannot re-execute them.
    """
    in_memory = InMemoryJob(job)
    stored = instance.get_ref() if instance.is_persistent else None
    plan = create_execution_plan(in_memory, run_config=run_config, instance_ref=stored)
    run = instance.create_run_for_job(
        job_def=job,
        run_config=run_config,
        tags={**job.run_tags, **tags},
        asset_selection=frozenset(job.asset_selection or ()),
        execution_plan=plan,
        remote_job_origin=_origin_of(job.name),
    )
    events = ExecuteRunWithPlanIterable(
        execution_plan=plan,
        iterator=job_execution_iterator,
        execution_context_manager=PlanOrchestrationContextManager(
            context_event_generator=orchestration_context_event_generator,
            job=in_memory,
            execution_plan=plan,
            dagster_run=run,
            instance=instance,
            run_config=run_config,
            executor_defs=None,
            output_capture=None,
            raise_on_error=False,
        ),
    )
    logged = list(events)
    ended = instance.get_run_by_id(run.run_id) or run
    return dg.ExecuteInProcessResult(
        job_def=job, event_list=logged, dagster_run=ended, output_capture=None
    )


def _origin_of(job: str) -> RemoteJobOrigin:
    """The origin by which the UI finds the job; names as in pyproject.toml and workspace.yaml."""
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name=DEFINITIONS_MODULE)
    location = ManagedGrpcPythonEnvCodeLocationOrigin(target, LOCATION_NAME)
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME), job)


def starts_first() -> dict[str, str]:
    """The tag of a step on the critical path, which starts before other ready steps."""
    return {PRIORITY_TAG: "1"}


def one_at_a_time(what: str) -> dict[str, str]:
    """The tag of steps that are bound by Python's interpreter lock: only one of them runs.

    A year took an eighth longer when the files of several entities were read concurrently.
    """
    return {_ONE_AT_A_TIME: what}


class _ThreadsExecutor(Executor):
    """See `threads_executor`."""

    def __init__(self, max_concurrent: int) -> None:
        self._max_concurrent = max_concurrent

    @property
    def retries(self) -> RetryMode:
        return RetryMode.ENABLED

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[DagsterEvent]:
        steps = execution_plan.step_keys_to_execute
        process = EngineEventData.in_process(os.getpid(), steps)
        yield DagsterEvent.engine_event(
            plan_context,
            f"Executing steps in {self._max_concurrent} threads (pid: {os.getpid()})",
            event_specific_data=process,
        )
        yield from ExecuteRunWithPlanIterable(
            execution_plan=plan_context.execution_plan,
            iterator=partial(_events, max_concurrent=self._max_concurrent),
            execution_context_manager=PlanExecutionContextManager(
                job=plan_context.job,
                retry_mode=plan_context.retry_mode,
                execution_plan=plan_context.execution_plan,
                run_config=plan_context.run_config,
                dagster_run=plan_context.dagster_run,
                instance=plan_context.instance,
                raise_on_error=plan_context.raise_on_error,
                output_capture=plan_context.output_capture,
            ),
        )
        yield DagsterEvent.engine_event(
            plan_context, f"Finished steps (pid: {os.getpid()})", event_specific_data=process
        )


def _events(
    job_context: PlanExecutionContext, execution_plan: ExecutionPlan, *, max_concurrent: int
) -> Iterator[DagsterEvent]:
    context, plan = job_context, execution_plan  # Dagster passes them by these names.
    logs = context.instance.compute_log_manager
    log_key = logs.build_log_key_for_run(context.run_id, create_compute_log_file_key())  # type: ignore[no-untyped-call]
    with (
        InstanceConcurrencyContext(context.instance, context.dagster_run) as concurrency,
        plan.start(
            retry_mode=context.retry_mode,
            max_concurrent=max_concurrent,
            tag_concurrency_limits=[
                {"key": _ONE_AT_A_TIME, "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
            ],
            instance_concurrency_context=concurrency,
        ) as active,
        # One compute log for all steps: the process has one stdout.
        logs.capture_logs(log_key) as captured,
        ThreadPoolExecutor(max_concurrent, thread_name_prefix="step") as pool,
    ):
        keys = [step.key for step in plan.get_steps_to_execute_in_topo_order()]
        yield DagsterEvent.capture_logs(context, keys, log_key, captured)
        running = _Running(context, active, pool)
        while running.steps or not active.is_complete:
            yield from running.advance()


def _with_own_partitions(
    context: PlanExecutionContext, step: ExecutionStep
) -> PlanExecutionContext:
    """The context, with range tags of the step's own partitions if the run names only days.

    Dagster reads the partitions of a step's inputs and outputs from the run's tags.
    """
    assets = context.job_def.asset_layer.get_assets_def_for_node(step.node_handle)
    definition = assets.partitions_def if assets else None
    tags = own_tags(context.dagster_run.tags, definition) if definition else None
    if tags is None:
        return context
    run = context.dagster_run.with_tags({**context.dagster_run.tags, **tags})
    found = copy(context)
    found._plan_data = context.plan_data._replace(dagster_run=run)
    return found


@dataclass
class _Step:
    """A running step; `future` is done after its last event, even if it failed."""

    context: StepExecutionContext
    future: Future[None]
    events: list[DagsterEvent] = field(default_factory=list)


@dataclass
class _Running:
    """The running steps by key, the queue of their events, and the ids of their threads.

    None in `queue` only wakes the reader. The end of a step is read from its future, because an
    interrupt may prevent the thread from queueing a last element.
    """

    context: PlanExecutionContext
    active: ActiveExecution
    pool: ThreadPoolExecutor
    queue: SimpleQueue[tuple[str, DagsterEvent] | None] = field(default_factory=SimpleQueue)
    steps: dict[str, _Step] = field(default_factory=dict)
    threads: dict[str, int] = field(default_factory=dict)
    error: BaseException | None = None

    def advance(self) -> Iterator[DagsterEvent]:
        """Start ready steps; then yield one event of a step, or the events after its end."""
        self._check_for_interrupt()
        if self.error is None:
            for step in self.active.get_steps_to_execute():
                context = _with_own_partitions(self.context, step)
                self._start(context.for_step(step, self.active.get_known_state()))
            yield from self.active.concurrency_event_iterator(self.context)
        if not self.steps:
            if self.error is not None:
                raise self.error
            yield from self.active.plan_events_iterator(self.context)
            if not self.active.is_complete:
                self.active.sleep_til_ready()
            return
        yield from self._next()

    def _next(self) -> Iterator[DagsterEvent]:
        # Read before the queue: a step whose future is done has queued all of its events.
        ended = [key for key, step in self.steps.items() if step.future.done()]
        try:
            queued = self.queue.get(block=not ended, timeout=_POLL_SECONDS)
        except Empty:
            for key in ended:
                yield from self._end(self.steps.pop(key))
            return
        if queued is not None:
            key, event = queued
            self.steps[key].events.append(event)
            # Dagster stores the event when it is yielded. Only then may dependent steps start.
            yield event
            self.active.handle_event(event)

    def _start(self, step: StepExecutionContext) -> None:
        # Dagster stores the current step in context variables.
        future = self.pool.submit(copy_context().run, self._run, step)
        self.steps[step.step.key] = _Step(step, future)
        future.add_done_callback(lambda _: self.queue.put(None))

    def _run(self, step: StepExecutionContext) -> None:
        self.threads[step.step.key] = get_ident()
        try:
            for event in dagster_event_sequence_for_step(step):
                self.queue.put((step.step.key, event))
        finally:
            self.threads.pop(step.step.key, None)

    def _end(self, step: _Step) -> Iterator[DagsterEvent]:
        self.error = self.error or step.future.exception()
        self.active.verify_complete(self.context, step.context.step.key)
        yield from self.active.plan_events_iterator(self.context)
        yield from _trigger_hook(step.context, step.events)

    def _check_for_interrupt(self) -> None:
        """After an interrupt, raise an exception in the thread of each step, which cleans up."""
        if not self.active.check_for_interrupts():
            return
        self.active.mark_interrupted()
        self.error = self.error or DagsterExecutionInterruptedError()
        for thread in [*self.threads.values()]:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread), ctypes.py_object(DagsterExecutionInterruptedError)
            )
