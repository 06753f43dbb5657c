"""The registry of checks: everything that gives a result or a reason is an entry of it."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.quality import registry
from headrace.sources import corrupt_rows
from headrace.sources.files.text import csv_dialect, csv_reader, csv_records

ROOT = Path(__file__).parents[2]
MODULES = [*(ROOT / "headrace").rglob("*.py"), *(ROOT / "platform_assets").rglob("*.py")]


def calls(name: str) -> Iterator[tuple[Path, ast.Call]]:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and name in (
                getattr(node.func, "id", None),
                getattr(node.func, "attr", None),
            ):
                yield path, node


@pytest.mark.parametrize("result", ["CheckResult", "Violation"])
def test_every_result_names_a_registered_check(result: str) -> None:
    registered = {name for name, value in vars(registry).items() if value in registry.CHECKS}
    # A parameter or an attribute that holds an entry, and the entry of a dbt test.
    passed_on = {"check", "dbt_test(test.name)"}
    found = list(calls(result))
    assert len(found) >= 5
    for path, call in found:
        first = ast.unparse(call.args[0] if call.args else call.keywords[0].value)
        is_known = first.rpartition(".")[2] in registered | passed_on or first in passed_on
        assert is_known, f"{path}:{call.lineno}: {first} is not in the registry of checks"


def test_checks_are_made_in_the_registry_only() -> None:
    made = {path.relative_to(ROOT).as_posix() for path, _ in calls("Check")}
    assert made == {"headrace/quality/registry.py"}
    entries = {value for value in vars(registry).values() if isinstance(value, registry.Check)}
    assert entries == {*registry.CHECKS}


def test_an_id_stands_once_in_a_layer_and_says_what_it_checks() -> None:
    counts = Counter((check.layer, check.id) for check in registry.CHECKS)
    assert [each for each, count in counts.items() if count > 1] == []
    assert all(check.description.endswith(".") for check in registry.CHECKS)


def test_a_row_check_has_its_reasons_and_quarantines() -> None:
    for check in registry.CHECKS:
        assert (check.level == "row") == bool(check.reasons) == (check.severity == "quarantine")


def test_the_reasons_of_malformed_records_are_those_of_the_readers() -> None:
    assert {*registry.MALFORMED_RECORD.reasons} == {
        *(csv_reader.TOO_FEW_FIELDS, csv_reader.TOO_MANY_FIELDS, csv_records.OPEN_QUOTE),
        *(csv_records.TEXT_AFTER_QUOTE, csv_records.ESCAPED_QUOTE),
        *(csv_records.TOO_MANY_LINE_BREAKS, corrupt_rows.NUL, csv_dialect.BAD_BYTES),
    }
