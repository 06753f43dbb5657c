"""A Spark Connect server from the pyspark wheel, on a free local port and gone at the end."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyspark

_START_SECONDS = 120.0
_CONF = {
    "spark.connect.grpc.binding.address": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "1g",
    # Compiling well costs more than running tiny frames.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.shuffle.partitions": "2",
    "spark.ui.enabled": "false",
}


def missing_java() -> str | None:
    """Why Spark cannot run here; None if it can."""
    if shutil.which("java") or os.environ.get("JAVA_HOME"):
        return None
    return "Spark needs Java 17 or later: install it, or set JAVA_HOME"


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Start a server that writes below `folder`; yield its sc:// URL; end it afterwards."""
    port = _free_port()
    name = f"headrace-tests-{os.getpid()}"
    conf = {
        **_CONF,
        "spark.app.name": name,
        "spark.connect.grpc.binding.port": str(port),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.local.dir": str(folder),
    }
    command = [
        str(Path(pyspark.__file__).parent / "bin" / "spark-submit"),
        *("--class", "org.apache.spark.sql.connect.service.SparkConnectServer"),
        *("--master", "local[2]"),
        *(part for key, value in conf.items() for part in ("--conf", f"{key}={value}")),
        "spark-internal",
    ]
    environment = {
        **os.environ,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_NO_DAEMONIZE": "1",
        "PYSPARK_PYTHON": sys.executable,
    }
    log = folder / "spark.log"
    with log.open("wb") as file:
        # spark-submit replaces itself by Java, so this is the server's own process.
        server = subprocess.Popen(command, stdout=file, stderr=file, cwd=folder, env=environment)
    try:
        _await(server, port, log)
        yield f"sc://127.0.0.1:{port}"
    finally:
        # At once: a quiet end takes seconds, and nothing of it is kept.
        server.kill()
        server.wait()


def _await(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    # What our own process says in its log shows that the server on the port is ours.
    until = time.monotonic() + _START_SECONDS
    while f"Spark Connect server started at: 127.0.0.1:{port}" not in log.read_text():
        if server.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"Spark did not start: {log.read_text()[-2000:]}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
