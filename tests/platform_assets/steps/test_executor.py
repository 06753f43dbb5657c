"""Steps side by side: what can run together does, and a run ends as with Dagster's own executor."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier

import dagster as dg
import pytest

from platform_assets.steps.executor import (
    execute_in_this_process,
    one_at_a_time,
    starts_first,
    threads_executor,
)

ROOT = Path(__file__).parents[3]


def run(job: dg.JobDefinition) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return execute_in_this_process(job, instance, tags={}, run_config={})


def of_kind(result: dg.ExecuteInProcessResult, kind: dg.DagsterEventType) -> list[str]:
    return [e.step_key or "" for e in result.all_events if e.event_type == kind]


def in_threads(number: int) -> dg.ExecutorDefinition:
    return threads_executor.configured({"max_concurrent": number})


def test_steps_that_need_nothing_of_each_other_run_together() -> None:
    both = Barrier(2, timeout=20)

    @dg.op
    def one() -> None:
        both.wait()

    @dg.op
    def other() -> None:
        both.wait()

    @dg.job(executor_def=in_threads(2))
    def job() -> None:
        one()
        other()

    assert run(job).success


def test_a_step_waits_for_what_it_reads_and_the_long_way_starts_first() -> None:
    started: list[str] = []

    @dg.op
    def short() -> None:
        started.append("short")

    @dg.op(tags=starts_first())
    def long() -> int:
        started.append("long")
        return 1

    @dg.op
    def after(found: int) -> None:
        started.append(f"after {found}")

    @dg.job(executor_def=in_threads(1))
    def job() -> None:
        short()
        after(long())

    result = run(job)
    assert result.success
    assert started[0] == "long"
    assert sorted(started) == ["after 1", "long", "short"]
    assert sorted(of_kind(result, dg.DagsterEventType.STEP_SUCCESS)) == ["after", "long", "short"]


def test_steps_of_one_kind_take_turns_and_others_run_beside_them() -> None:
    started: list[str] = []
    running: list[str] = []
    beside = Barrier(2, timeout=20)

    def reads(name: str) -> dg.OpDefinition:
        @dg.op(name=name, tags=one_at_a_time("capture"))
        def reading() -> None:
            started.append(name)
            running.append(name)
            if len(started) == 1:
                beside.wait()
            time.sleep(0.1)
            assert len(running) == 1
            running.remove(name)

        return reading

    @dg.op
    def other() -> None:
        beside.wait()

    @dg.job(executor_def=in_threads(3))
    def job() -> None:
        reads("one")()
        reads("two")()
        other()

    assert run(job).success


def test_a_step_that_fails_stops_what_reads_it_and_nothing_else() -> None:
    @dg.op
    def broken() -> int:
        raise dg.Failure("no")

    @dg.op
    def below(found: int) -> None:
        raise AssertionError(found)

    @dg.op
    def beside() -> None:
        time.sleep(0.2)

    @dg.job(executor_def=in_threads(2))
    def job() -> None:
        below(broken())
        beside()

    result = run(job)
    assert not result.success
    assert of_kind(result, dg.DagsterEventType.STEP_FAILURE) == ["broken"]
    assert of_kind(result, dg.DagsterEventType.STEP_SUCCESS) == ["beside"]


def test_a_step_is_tried_again_as_its_policy_says() -> None:
    tries: list[int] = []

    @dg.op(retry_policy=dg.RetryPolicy(max_retries=2, delay=0.1))
    def moody(context: dg.OpExecutionContext) -> None:
        tries.append(context.retry_number)
        if len(tries) < 3:
            raise RuntimeError("again")

    @dg.job(executor_def=in_threads(2))
    def job() -> None:
        moody()

    assert run(job).success
    assert tries == [0, 1, 2]


def test_what_reads_an_output_that_was_not_given_is_skipped() -> None:
    @dg.op(out={"maybe": dg.Out(int, is_required=False)})
    def giver() -> Iterator[dg.Output[int]]:
        yield from ()

    @dg.op
    def reader(found: int) -> None:
        raise AssertionError(found)

    @dg.job(executor_def=in_threads(2))
    def job() -> None:
        reader(giver())

    result = run(job)
    assert result.success
    assert of_kind(result, dg.DagsterEventType.STEP_SKIPPED) == ["reader"]


_INTERRUPTED = """
import os, sys, time
import dagster as dg
from platform_assets.steps.executor import execute_in_this_process, threads_executor

def say(text):
    os.write(1, f"{text}\\n".encode())  # a line in one piece, whatever the other thread writes

def waits(name):
    @dg.op(name=name)
    def waiting():
        try:
            say("started")
            for _ in range(600):
                time.sleep(0.1)
        finally:
            say("cleaned up")
    return waiting

@dg.job(executor_def=threads_executor.configured({"max_concurrent": 2}))
def job():
    waits("one")()
    waits("other")()

with dg.DagsterInstance.ephemeral() as instance:
    try:
        execute_in_this_process(job, instance, tags={}, run_config={})
    finally:
        say(instance.get_runs()[0].status.value)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_its_steps_where_they_are(number: signal.Signals) -> None:
    # By way of a program that heeds signals: a shell's background jobs ignore them, and so would
    # what they start.
    heeding = "import os,signal,sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
    command = f"{heeding} exec({_INTERRUPTED!r})"
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", command],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["started\n", "started\n"]
        began = time.monotonic()
        process.send_signal(number)
        said = process.stdout.read().split("\n")
        assert time.monotonic() - began < 20  # of the minute that each step would take
    assert said[:2] == ["cleaned up", "cleaned up"]
    assert said[2] == "FAILURE"
