import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from headrace.engine.session import (
    EngineUnavailableError,
    SessionSettings,
    connect,
    disconnect,
    engine_name,
)

START = """
from headrace.engine.session import SessionSettings, connect, engine_name, prepare, stop
"""


def run(
    code: str, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """A process of its own, for what happens once in a process."""
    return subprocess.run(
        [sys.executable, "-c", START + code],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def sail_server() -> Iterator[str]:
    from pysail.spark import SparkConnectServer  # noqa: PLC0415

    server = SparkConnectServer("127.0.0.1", 0)
    server.start()
    yield f"sc://127.0.0.1:{server.listening_address[1]}"
    server.stop()


def test_the_engine_says_its_name(sail: SparkSession) -> None:
    assert engine_name(sail) == "sail"


@pytest.mark.spark
def test_a_cluster_says_its_name(spark_jvm: SparkSession) -> None:
    assert engine_name(spark_jvm) == "spark"


def test_sail_says_its_name_where_it_is_remote_too(sail: SparkSession) -> None:
    with sail_server() as url:
        remote = connect(SessionSettings(remote=url))
        assert remote is not sail
        assert engine_name(remote) == "sail"
        disconnect(SessionSettings(remote=url))


def test_a_session_is_in_utc_and_strict(spark: SparkSession) -> None:
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    assert spark.conf.get("spark.sql.ansi.enabled") == "true"


def test_a_process_has_one_session(sail: SparkSession) -> None:
    with ThreadPoolExecutor(4) as threads:
        found = [*threads.map(lambda _: connect(SessionSettings()), range(8))]
    assert all(session is sail for session in found)


def test_a_plan_does_not_say_where_it_was_written(spark: SparkSession) -> None:
    frame: Any = spark.range(1).select((F.col("id") + 1).alias("next"))
    plan = str(frame._plan.to_proto(frame.sparkSession.client))
    assert "next" in plan
    assert Path(__file__).name not in plan


def test_settings_of_the_session_are_applied() -> None:
    found = run(
        'spark = connect(SessionSettings(conf={"spark.sql.shuffle.partitions": "3"}))\n'
        'print(spark.conf.get("spark.sql.shuffle.partitions"))'
    )
    assert (found.stdout, found.stderr) == ("3\n", "")


def test_a_session_that_its_server_forgot_is_made_again() -> None:
    found = run(
        "old = connect(SessionSettings())\n"
        "old.client.release_session()\n"
        "new = connect(SessionSettings())\n"
        'print(new is old, new.range(3).count(), new.conf.get("spark.sql.session.timeZone"))'
    )
    assert found.stdout == "False 3 UTC\n", found.stderr


def test_the_engine_can_be_stopped_and_started() -> None:
    found = run(
        "connect(SessionSettings())\nstop()\nstop()\nprint(connect(SessionSettings()).range(3).count())"
    )
    assert found.stdout == "3\n", found.stderr


PREPARED = """
import threading
from headrace.engine import session
sessions = session._engines()._sessions.values()
def connected():
    return connect(SessionSettings())
prepare(SessionSettings({remote}))
def wait():
    for thread in threading.enumerate():
        if thread.name == "engine-prepare":
            thread.join()
{then}
"""


@pytest.mark.parametrize(
    ("remote", "then", "says"),
    [
        ("", "wait(); prepared = [*sessions]; print(prepared == [connected()])", "True"),
        ("", "print(connect(SessionSettings()).range(3).count())", "3"),
        ("'sc://127.0.0.1:1'", "wait(); print('nothing')", "nothing"),
        ("", "print('gone')", "gone"),
    ],
)
def test_an_engine_that_is_prepared_is_there_and_one_that_fails_says_nothing_yet(
    remote: str, then: str, says: str
) -> None:
    found = run(PREPARED.format(remote=remote, then=then))
    assert (found.returncode, found.stdout, found.stderr) == (0, f"{says}\n", "")


def test_a_process_with_an_engine_ends_quietly_and_at_once() -> None:
    found = run(
        "import time\nconnect(SessionSettings()).range(3).count()\nprint(time.time(), flush=True)"
    )
    seconds = time.time() - float(found.stdout)
    assert (found.returncode, found.stderr) == (0, "")
    # 0.05 s where nothing else runs; a thread that is waited for would take far longer.
    assert seconds < 2


CLUSTER = """
import subprocess, sys, time
server = subprocess.Popen(
    [sys.executable, "-c", "from pysail.spark import SparkConnectServer\\n"
     "server = SparkConnectServer('127.0.0.1', 0)\\nserver.start()\\n"
     "print(server.listening_address[1], flush=True)\\nimport time\\ntime.sleep(600)"],
    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
)
spark = connect(SessionSettings(remote=f"sc://127.0.0.1:{server.stdout.readline().strip()}"))
spark.range(3).count()
time.sleep(0.5)  # What the client tells the server of a finished query is on its way.
server.kill()
server.wait()
print(time.time(), flush=True)
"""


def test_a_process_ends_at_once_though_its_cluster_is_gone() -> None:
    # PySpark's client would ask the lost server again and again to release the session.
    found = run(CLUSTER)
    assert time.time() - float(found.stdout) < 5, found.stderr


def test_importing_the_module_imports_no_engine() -> None:
    found = run("import sys; print({'pyspark', 'pysail', 'pandas'} & {*sys.modules})")
    assert found.stdout == "set()\n", found.stderr


def test_what_the_user_says_of_sail_stays() -> None:
    found = run(
        "import os\nconnect(SessionSettings())\n"
        "print(os.environ['SAIL_EXECUTION__COLLECT_STATISTICS'])",
        {"SAIL_EXECUTION__COLLECT_STATISTICS": "true"},
    )
    assert found.stdout == "true\n", found.stderr


def test_a_cluster_that_is_not_there_is_said_at_once() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    before = time.monotonic()
    with pytest.raises(EngineUnavailableError, match=f"127.0.0.1:{port}") as raised:
        connect(SessionSettings(remote=f"sc://127.0.0.1:{port}"))
    assert "engine.remote" in raised.value.fix
    assert time.monotonic() - before < 5


def test_keys_of_s3_are_not_shown() -> None:
    settings = SessionSettings(s3={"AWS_SECRET_ACCESS_KEY": "canary"})
    assert "canary" not in repr(settings)
