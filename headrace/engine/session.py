"""The Spark Connect session of this process: to Sail, embedded in it, or to a cluster.

Importing this module starts no engine and imports none: PySpark's client alone takes 1.8 s.
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
    # Milliseconds until Sail's allocator returns freed memory to the kernel. With the default, a
    # year of receipts peaks at 1.2 GB instead of 0.6 GB; with 0, writers of many small files take
    # 10 % more CPU because they allocate the same memory again and again.
    "MIMALLOC_PURGE_DELAY": "10",
    # Returning parts of a huge page splits it, and allocating it again clears 2 MiB at a time.
    # Without huge pages a year takes 3 s less kernel time and 400 MB less memory, one more day
    # 0.6 s less kernel time.
    "MIMALLOC_ALLOW_THP": "0",
}


if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Defaults: variables that the environment already has win.
_SAIL_ENVIRONMENT = {
    # At lower levels Sail logs the start and end of every session.
    "RUST_LOG": "error",
    # Sail does not convert column statistics when it casts a column: the minimum of '5' and
    # '1000002', cast to bigint, becomes 1000002, and filters return wrong rows
    # (apache/datafusion#25221, #25532). Without statistics a hash join builds its hash table from
    # the left side: put the smaller frame there.
    "SAIL_EXECUTION__COLLECT_STATISTICS": "false",
    **ALLOCATOR,
    # The default is 15 minutes; a daemon's session may be idle for days.
    "SAIL_SPARK__SESSION_TIMEOUT_SECS": str(30 * 24 * 3600),
}
_SESSION_CONF = {
    "spark.sql.session.timeZone": "UTC",
    # Iceberg has no INT96. Sail writes microseconds in any case.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.ansi.enabled": "true",
}
_REACH_SECONDS = 10.0
# Retries of one call, 40 s in all. PySpark's default of 15 retries takes ten minutes, in threads
# that delay the end of the process.
_MAX_RETRIES, _MAX_BACKOFF_MILLISECONDS = 6, 20_000
_CONNECT_PORT = 15002


class EngineUnavailableError(TransientError):
    """The cluster did not answer."""


@dataclass(frozen=True)
class SessionSettings:
    """Where transformations run.

    Attributes:
        remote: Spark Connect URL, `sc://host:port`; None: Sail in this process.
        s3: `AWS_…` variables for the embedded engine. Sail reads them from the environment when
            it first opens a bucket. A cluster has its own credentials.
        conf: Further Spark configuration of the session, such as `spark.sql.shuffle.partitions`.
    """

    remote: str | None = None
    s3: Mapping[str, str] | None = field(default=None, repr=False)
    conf: Mapping[str, str] = field(default_factory=dict)


def connect(settings: SessionSettings) -> "SparkSession":
    """Return the process's session for a URL, and replace it when its server has dropped it.

    Sessions use UTC and ANSI mode. Safe to call from several threads. The embedded engine ends
    with the process.

    Raises:
        EngineUnavailableError: The cluster at `remote` does not answer.
        ConfigError: No engine is configured, and Sail is not installed.
    """
    engines = _engines()
    with engines.lock:
        os.environ.update(settings.s3 or {})
        if settings.remote is not None:
            _require_reachable(settings.remote)
        return engines.session(settings.remote or engines.embedded_url(), settings.conf)


def prepare(settings: SessionSettings) -> None:
    """Connect and run one query in a background thread, so that the first step need not wait.

    This saves the first step 0.2 s. Errors are ignored: the step's own `connect` raises them.
    """

    def run_query() -> None:
        with suppress(Exception):
            connect(settings).range(1).collect()

    threading.Thread(target=run_query, name="engine-prepare", daemon=True).start()


def engine_name(spark: "SparkSession") -> Literal["sail", "spark"]:
    """Name the engine behind a session, for engine-specific options such as those of a writer."""
    engines = _engines()
    if engines.is_embedded(spark):
        return "sail"
    # Spark's version() returns number and revision, Sail's the number alone.
    version = str(spark.sql("SELECT version()").collect()[0][0])
    return "spark" if " " in version else "sail"


def disconnect(settings: SessionSettings) -> None:
    """End this process's session with the engine that `settings` name."""
    engines = _engines()
    with engines.lock:
        engines.end(settings.remote or engines.embedded_url())


def stop() -> None:
    """End this process's sessions and its embedded engine; `connect` starts new ones."""
    engines = _engines()
    with engines.lock:
        engines.stop()


class _Engines:
    """The embedded server and the sessions of this process."""

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
        # Without this variable `F.col` looks for a JVM.
        os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
        existing = self._sessions.get(url)
        if existing is not None and _is_alive(existing):
            return cast("SparkSession", existing)
        # Lazy: the import takes 1.8 s, and commands that use no engine must stay fast.
        from pyspark.errors import utils as call_sites  # noqa: PLC0415
        from pyspark.sql.connect.client.retries import DefaultPolicy  # noqa: PLC0415
        from pyspark.sql.connect.session import SparkSession as ConnectSession  # noqa: PLC0415

        # PySpark records the call site of each column for its error messages and looks for
        # IPython each time, which is 80 % of the time to build a plan. The call sites are all in
        # this package. A client cannot change spark.python.sql.dataFrameDebugging.enabled.
        cast("Any", call_sites)._enable_debugging_cache = False  # noqa: SLF001

        if "SPARK_CONNECT_LOG_LEVEL" not in os.environ:
            # This logger prints each server error on stderr, with call stack and row values; the
            # caller gets the same error as an exception. PySpark disables the logger, but
            # `logging.config.dictConfig`, which Dagster calls, enables it again.
            logging.getLogger("pyspark.sql.connect.logging").setLevel(logging.CRITICAL)

        session = ConnectSession.builder.remote(url).create()
        client = cast("Any", session).client
        # No retries against the embedded server: it is in this process.
        retries = DefaultPolicy(_MAX_RETRIES, max_backoff=_MAX_BACKOFF_MILLISECONDS)
        client.set_retry_policies([] if url == self._embedded else [retries])
        # At exit PySpark clears the server's ML cache. Sail answers with an error, and a cluster
        # that is down is retried repeatedly.
        atexit.unregister(client._cleanup_ml_cache)  # noqa: SLF001
        for name, value in {**_SESSION_CONF, **conf}.items():
            session.conf.set(name, value)
        self._sessions[url] = session
        return cast("SparkSession", session)

    def end(self, url: str) -> None:
        session = self._sessions.pop(url, None)
        if session is not None:
            # The client would retry the release against a server that is down.
            session.release_session_on_close = _is_reachable(url)
            session.stop()

    def stop(self) -> None:
        for url in [*self._sessions]:
            self.end(url)
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _exit(self) -> None:
        # Sessions and server are not stopped: the embedded engine ends with the process, a cluster
        # drops idle sessions, and PySpark's threads still use both.
        # The interpreter runs the garbage collector several times at exit: 0.2 s with PySpark and
        # pandas imported, 0.04 s when their objects are frozen.
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
            "no engine is available: pysail is not installed",
            fix="install pysail, or set engine.remote to the sc:// URL of a cluster",
        ) from error
    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    return server


def _require_reachable(url: str) -> None:
    if not _is_reachable(url):
        raise EngineUnavailableError(
            f"no Spark Connect server answers at {':'.join(map(str, _address(url)))}",
            fix="start it, or correct engine.remote; without engine.remote, Sail runs embedded",
        )


def _is_reachable(url: str) -> bool:
    try:
        socket.create_connection(_address(url), timeout=_REACH_SECONDS).close()
    except OSError:
        return False
    return True


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _CONNECT_PORT


def _is_alive(session: Any) -> bool:
    # A server that restarted or ended the idle session no longer has its settings.
    from pyspark.errors import PySparkException  # noqa: PLC0415

    try:
        return bool(session.conf.get("spark.sql.session.timeZone") == "UTC")
    except PySparkException:
        return False
