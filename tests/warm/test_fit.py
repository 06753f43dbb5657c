"""What a process takes in as it starts: where that differs, a warm process does not fit."""

import os
import resource
import sys
from pathlib import Path

import pytest

from headrace.warm import fit

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="there is no warm process elsewhere"
)
HOME = Path("/srv/one")
GIVEN = {"PATH": "/bin", "LANG": "C"}


@pytest.mark.parametrize(
    "changed",
    [
        {"LANG": "de_DE.UTF-8"},
        {"PYTHONHASHSEED": "1"},
        {"DAGSTER_HOME": "/x"},
        {"OMP_NUM_THREADS": "3"},
        {"SPARK_HOME": "/x"},
        {"MIMALLOC_PURGE_DELAY": "0"},
    ],
)
def test_a_variable_that_libraries_read_once_makes_a_difference(changed: dict[str, str]) -> None:
    assert fit.stamp(GIVEN | changed, HOME) != fit.stamp(GIVEN, HOME)


@pytest.mark.parametrize("changed", [{"PATH": "/else"}, {"PIPELINE_ENV": "staging"}, {"TZ": "UTC"}])
def test_one_that_the_command_itself_reads_makes_none(changed: dict[str, str]) -> None:
    assert fit.stamp(GIVEN | changed, HOME) == fit.stamp(GIVEN, HOME)


def test_another_home_makes_a_difference() -> None:
    assert fit.stamp(GIVEN, Path("/srv/two")) != fit.stamp(GIVEN, HOME)


@pytest.mark.parametrize(
    ("function", "answer"),
    [
        ("getresuid", (7, 7, 7)),
        ("getresgid", (7, 7, 7)),
        ("getgroups", [7]),
        ("getpriority", 7),
        ("sched_getaffinity", {0, 77}),
        ("readlink", "pid:[7]"),
    ],
)
def test_who_runs_it_and_where_makes_a_difference(
    monkeypatch: pytest.MonkeyPatch, function: str, answer: object
) -> None:
    before = fit.stamp(GIVEN, HOME)
    # The system's answers: a test cannot become another user.
    monkeypatch.setattr(os, function, lambda *_: answer)
    assert fit.stamp(GIVEN, HOME) != before


def test_a_limit_makes_a_difference() -> None:
    before = fit.stamp(GIVEN, HOME)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        assert fit.stamp(GIVEN, HOME) != before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_packages_that_come_or_go_make_a_difference(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    packages = tmp_path / "site-packages"
    packages.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages)])
    before = fit.stamp(GIVEN, HOME)
    (packages / "new").mkdir()
    assert fit.stamp(GIVEN, HOME) != before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("backfill --from 2017-01-01", True),
        ("check", True),
        ("", False),
        ("--version", False),
        ("check --help", False),
        ("dev", False),
        ("stop", False),
    ],
)
def test_which_commands_run_warm(words: str, *, expected: bool) -> None:
    assert fit.may_run_warm(words.split()) is expected


def test_minutes_below_none_are_none() -> None:
    assert fit.minutes({fit.MINUTES: "-3"}) == 0
