"""Errors of the engine that no row is to blame for: it is gone, or out of memory or room."""

import re

from pyspark.errors import PySparkException

from headrace.engine.session import EngineUnavailableError
from headrace.errors import StorageUnavailableError, TransientError

# What gRPC says of the connection or of the server; errors of a query are INTERNAL or UNKNOWN.
_CONNECTION = frozenset(
    {
        "UNAVAILABLE",
        "RESOURCE_EXHAUSTED",
        "DEADLINE_EXCEEDED",
        "ABORTED",
        "CANCELLED",
        "UNAUTHENTICATED",
    }
)
# Spark's conditions: a session or an operation that the server no longer knows, retries used up.
_SESSION = re.compile(r"RETRIES_EXCEEDED|INVALID_HANDLE|SESSION_CHANGED|SESSION_CLOSED|NO_ACTIVE_")
_RESOURCES = re.compile(
    r"Resources exhausted|OutOfMemory|Failed to allocate|CANNOT_ACQUIRE_MEMORY|ExecutorLost"
    r"|executor .{0,20}lost|Job aborted due to stage failure: .{0,200}Fetch",
    re.IGNORECASE,
)
_STORAGE = re.compile(
    r"No space left|Too many open files|Permission denied|Read-only file system"
    r"|Generic (?:S3|LocalFileSystem) error|error sending request|SlowDown|Connection reset",
    re.IGNORECASE,
)


def outage_of(error: PySparkException) -> TransientError | None:
    """The outage that an error tells of; None for an error of a query or of its data."""
    # The first line: what follows may quote rows.
    said = str(error).partition("\n")[0]
    condition = error.getCondition() or ""
    if _code(error) in _CONNECTION or _SESSION.search(f"{condition} {said}"):
        return EngineUnavailableError(
            f"the engine does not answer ({_code(error) or condition or type(error).__name__})",
            fix="see that the Spark cluster runs (engine.remote), and run it again",
        )
    if _RESOURCES.search(said):
        return EngineUnavailableError(
            "the engine ran out of memory or lost an executor",
            fix="give it more memory, or lower engine.slice_bytes, and run it again",
        )
    if _STORAGE.search(said):
        return StorageUnavailableError(
            "the engine could not read or write the lake's files",
            fix="see that the lake's storage answers, has room and takes files; run it again",
        )
    return None


def _code(error: BaseException) -> str:
    """Name of the gRPC status that an error was made from; empty without one."""
    seen: BaseException | None = error
    while seen is not None:
        if callable(code := getattr(seen, "code", None)):
            return str(getattr(code(), "name", ""))
        seen = seen.__cause__ or seen.__context__
    return ""
