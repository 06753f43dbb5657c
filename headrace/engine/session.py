"""The session through which everything bulk runs: Sail in this process, or a cluster.

Importing this module starts nothing and imports no engine: PySpark's client alone takes 1.8 s.
"""

import atexit
import gc
import logging
import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from headrace.errors import ConfigError, TransientError

ALLOCATOR = {
    # Sail's allocator keeps what it freed for later: a year's receipts peaked at 1.2 GB instead of
    # 0.6 GB. Giving it back at once has writers of many small files ask for the same memory again
    # and again: a tenth of their CPU. Milliseconds.
    "MIMALLOC_PURGE_DELAY": "10",
    # Giving back parts of huge pages splits them, and getting them again clears 2 MiB at a time:
    # without them a year takes 3 s less of the kernel's time and 400 MB less memory, one more day
    # by a command with everything imported 0.6 s less of that time.
    "MIMALLOC_ALLOW_THP": "0",
}


if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# What the environment already says goes before these.
_SAIL_ENVIRONMENT = {
    # Below errors it tells of every session that it makes and ends.
    "RUST_LOG": "error",
    # With column statistics Sail answers from those of another type: the minimum of '5' and
    # '1000002', cast to bigint, is 1000002, and a filter may fail (apache/datafusion#25221,
    # #25532). Without them a hash join keeps its left side in memory: put the small one there.
    "SAIL_EXECUTION__COLLECT_STATISTICS": "false",
    **ALLOCATOR,
    # Sessions end after 15 idle minutes by default; those of a daemon idle for days.
    "SAIL_SPARK__SESSION_TIMEOUT_SECS": str(30 * 24 * 3600),
}
_SESSION_CONF = {
    "spark.sql.session.timeZone": "UTC",
    # Iceberg has no INT96. Sail writes microseconds in any case.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.ansi.enabled": "true",
}
_REACH_SECONDS = 10.0
# Retries of one call, 40 s in all. PySpark's own 15 go on for ten minutes, in threads that the
# process waits for as it ends.
_MAX_RETRIES, _MAX_BACKOFF_MILLISECONDS = 6, 20_000
_CONNECT_PORT = 15002


class EngineUnavailableError(TransientError):
    """The cluster did not answer."""


@dataclass(frozen=True)
class EngineSettings:
    """Where transformations run.

    Attributes:
        remote: Spark Connect URL, `sc://host:port`; None: Sail in this process.
        s3: `AWS_…` variables by which the embedded engine reaches S3. Sail looks for them in the
            environment when it first meets a bucket. A cluster has its own.
        conf: More settings of the session, such as `spark.sql.shuffle.partitions`.
    """

    remote: str | None = None
    s3: Mapping[str, str] | None = field(default=None, repr=False)
    conf: Mapping[str, str] = field(default_factory=dict)


def connect(settings: EngineSettings) -> "SparkSession":
    """The process's session for a URL: the same one every time, as long as its server knows it.

    Sessions are in UTC and ANSI mode. Safe to call from several threads; the embedded engine ends
    with the process.

    Raises:
        EngineUnavailableError: The cluster at `remote` does not answer.
        ConfigError: No engine is configured, and Sail is not installed.
    """
    engines = _engines()
    with engines.lock:
        os.environ.update(settings.s3 or {})
        url = engines.embedded_url() if settings.remote is None else _reached(settings.remote)
        return engines.session(url, settings.conf)


def prepare(settings: EngineSettings) -> None:
    """Connect and ask once, in a thread, so that the first step need not wait for the engine.

    That is 0.2 s, most of which Python has time for something else. What fails here fails again,
    and is raised, in `connect`.
    """

    def ask() -> None:
        with suppress(Exception):
            connect(settings).range(1).collect()

    threading.Thread(target=ask, name="engine-prepare", daemon=True).start()


def engine_name(spark: "SparkSession") -> Literal["sail", "spark"]:
    """Which engine answers: for the few places that must know, such as the options of a writer."""
    engines = _engines()
    if engines.is_embedded(spark):
        return "sail"
    # Spark's version() names a revision after the number; Sail's is the number alone.
    version = str(spark.sql("SELECT version()").collect()[0][0])
    return "spark" if " " in version else "sail"


def disconnect(settings: EngineSettings) -> None:
    """End this process's session with the cluster that `settings` name, while it still answers."""
    engines = _engines()
    with engines.lock:
        engines.end(settings.remote or engines.embedded_url())


def stop() -> None:
    """End this process's sessions and its embedded engine; `connect` starts new ones."""
    engines = _engines()
    with engines.lock:
        engines.stop()


class _Engines:
    """What one process has open."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._server: Any = None
        self._embedded: str | None = None
        self._sessions: dict[str, Any] = {}
        atexit.register(self._exit)

    def embedded_url(self) -> str:
        if self._server is None:
            self._server = _start_sail()
        host, port = self._server.listening_address
        self._embedded = f"sc://{host}:{port}"
        return self._embedded

    def is_embedded(self, spark: "SparkSession") -> bool:
        return self._server is not None and self._sessions.get(self.embedded_url()) is spark

    def session(self, url: str, conf: Mapping[str, str]) -> "SparkSession":
        # PySpark's functions build for Connect then; `F.col` looks for a JVM otherwise.
        os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
        kept = self._sessions.get(url)
        if kept is not None and _is_alive(kept):
            return cast("SparkSession", kept)
        # Here, because it takes 1.8 s, which commands without an engine need not wait for.
        from pyspark.errors import utils as call_sites  # noqa: PLC0415
        from pyspark.sql.connect.client.retries import DefaultPolicy  # noqa: PLC0415
        from pyspark.sql.connect.session import SparkSession as ConnectSession  # noqa: PLC0415

        # For its messages PySpark notes where each column was made, and looks for IPython each
        # time: four fifths of the time that a plan takes here, and the lines are this package's. A
        # server lets nobody change its spark.python.sql.dataFrameDebugging.enabled.
        cast("Any", call_sites)._enable_debugging_cache = False  # noqa: SLF001

        if "SPARK_CONNECT_LOG_LEVEL" not in os.environ:
            # It prints each error of a server on stderr, with its call stack and the row values
            # that it quotes; the caller gets it as an exception. PySpark disables the logger, and
            # `logging.config.dictConfig`, which Dagster calls, enables it again.
            logging.getLogger("pyspark.sql.connect.logging").setLevel(logging.CRITICAL)

        session = ConnectSession.builder.remote(url).create()
        client = cast("Any", session).client
        # What is in this process either answers or is gone: waiting for it helps nobody.
        retries = DefaultPolicy(_MAX_RETRIES, max_backoff=_MAX_BACKOFF_MILLISECONDS)
        client.set_retry_policies([] if url == self._embedded else [retries])
        # As it ends, PySpark asks for models to be forgotten: of Sail, which answers with an error,
        # and of a cluster that may be gone, over and over.
        atexit.unregister(client._cleanup_ml_cache)  # noqa: SLF001
        for name, value in {**_SESSION_CONF, **conf}.items():
            session.conf.set(name, value)
        self._sessions[url] = session
        return cast("SparkSession", session)

    def end(self, url: str) -> None:
        session = self._sessions.pop(url, None)
        if session is not None:
            # Of a server that is gone, the client would take leave over and over.
            session.release_session_on_close = _answers(url)
            session.stop()

    def stop(self) -> None:
        for url in [*self._sessions]:
            self.end(url)
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _exit(self) -> None:
        # Nothing is told to stop: the embedded engine ends with the process, a cluster drops idle
        # sessions, and PySpark's threads still talk to both.
        # The interpreter looks through all objects several times as it ends: 0.2 s with PySpark
        # and pandas imported, 0.04 s when they are left out.
        gc.freeze()


@cache
def _engines() -> _Engines:
    return _Engines()


def _start_sail() -> Any:
    for name, value in _SAIL_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from pysail.spark import SparkConnectServer  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "there is no engine: pysail is not installed",
            fix="install pysail, or set engine.remote to the sc:// URL of a cluster",
        ) from error
    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    return server


def _reached(url: str) -> str:
    if not _answers(url):
        raise EngineUnavailableError(
            f"no Spark Connect server answers at {':'.join(map(str, _address(url)))}",
            fix="start it, or correct engine.remote; without it, Sail runs in the process",
        )
    return url


def _answers(url: str) -> bool:
    try:
        socket.create_connection(_address(url), timeout=_REACH_SECONDS).close()
    except OSError:
        return False
    return True


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _CONNECT_PORT


def _is_alive(session: Any) -> bool:
    # A server that restarted, or that ended an idle session, does not know its settings any more.
    from pyspark.errors import PySparkException  # noqa: PLC0415

    try:
        return bool(session.conf.get("spark.sql.session.timeZone") == "UTC")
    except PySparkException:
        return False
