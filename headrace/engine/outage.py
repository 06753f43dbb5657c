"""Classifies engine errors: outages (connection, memory, storage) against errors of a query."""

import re

from pyspark.errors import PySparkException

from headrace.engine.session import EngineUnavailableError
from headrace.errors import StorageUnavailableError, TransientError

# gRPC status codes of the connection or server; errors of a query are INTERNAL or UNKNOWN.
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
# Spark error conditions: unknown session or operation, retries exhausted.
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
    """Convert an outage into a transient error; None for an error of a query or of its data."""
    # Only the first line: the following ones may quote rows.
    message = str(error).partition("\n")[0]
    condition = error.getCondition() or ""
    if _code(error) in _CONNECTION or _SESSION.search(f"{condition} {message}"):
        return EngineUnavailableError(
            f"the engine does not answer ({_code(error) or condition or type(error).__name__})",
            fix="check that the Spark cluster runs (engine.remote), then run it again",
        )
    if _RESOURCES.search(message):
        return EngineUnavailableError(
            "the engine ran out of memory or lost an executor",
            fix="give it more memory or lower engine.batch_bytes, then run it again",
        )
    if _STORAGE.search(message):
        return StorageUnavailableError(
            "the engine could not read or write the lake's files",
            fix="check that the lake's storage is reachable, writable and not full; run it again",
        )
    return None


def _code(error: BaseException) -> str:
    """Name of the first gRPC status in the error's chain of causes; empty without one."""
    cause: BaseException | None = error
    while cause is not None:
        if callable(code := getattr(cause, "code", None)):
            return str(getattr(code(), "name", ""))
        cause = cause.__cause__ or cause.__context__
    return ""
