"""How the workers of a parallel run share the tests: each server in one place, what is long first.

A module stays in one worker, so that its servers are started once. All that runs on Spark is one
module in this sense: a second Java costs ten seconds to start and is slow until it is warm. What
takes longest starts first, so that no worker ends with a long module while the others are done.
"""

from collections.abc import Sequence

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

_SPARK = "spark"
# Tests that ask for Spark itself, and have no "[spark]" in their ids.
_ON_SPARK = ("tests/engine/test_session.py", "tests/engine/test_spark_resource.py")
# Measured on two cores, the longest first; all others take less than ten seconds each.
_LONG = (
    _SPARK,
    "tests/e2e/test_ranges.py",
    "tests/star/test_updates.py",
    "tests/e2e/test_s3.py",
    "tests/e2e/test_restated_days.py",
    "tests/e2e/test_history.py",
    "tests/crash/",
    "tests/e2e/",
    "tests/marts/",
    "tests/star/",
    "tests/embedded_postgres/test_server.py",
    "tests/benchmarks/",
    "tests/contract/",
    "tests/demo/",
    "tests/platform_assets/",
)


class ByServer(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """xdist's `loadscope`, but for Spark and for folders whose modules share what they set up."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def scope_of(nodeid: str) -> str:
    """What of the tests stays together with this one."""
    module = nodeid.partition("::")[0]
    if "[spark" in nodeid or module in _ON_SPARK:
        return _SPARK
    folder = module.rpartition("/")[0]
    return folder if folder in ("tests/demo", "tests/benchmarks") else module


def put_long_first(items: list[pytest.Item]) -> None:
    """Sort tests by what their scopes take; those of one scope keep their order."""
    items.sort(key=lambda item: _rank(scope_of(item.nodeid), _LONG))


def _rank(scope: str, prefixes: Sequence[str]) -> int:
    return next((n for n, prefix in enumerate(prefixes) if scope.startswith(prefix)), len(prefixes))
