"""What a command says of a run that broke: the reason, without Python's names for it."""

import dagster as dg
import pytest

from headrace.errors import ConfigError
from jobs.backfill import _first_error


def error_of(raised: Exception) -> str | None:
    @dg.op
    def fails() -> None:
        raise raised

    @dg.job
    def run() -> None:
        fails()

    return _first_error(run.execute_in_process(raise_on_error=False))


@pytest.mark.parametrize("kind", [dg.Failure, ValueError])
def test_a_runs_error_does_not_begin_with_the_name_of_a_class(kind: type[Exception]) -> None:
    assert error_of(kind("orders.csv: line 3\nhint: deliver it")) == (
        "orders.csv: line 3\nhint: deliver it"
    )


def test_our_own_error_is_named_by_what_it_says() -> None:
    assert error_of(ConfigError("no such file", fix="create it")) == "no such file"
