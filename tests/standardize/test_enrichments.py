"""Columns that enrichments read from files and packages."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pyspark.sql import SparkSession

from headrace.config.sources import EntityConfig
from headrace.enrichment.registry import content_id, file_problem
from headrace.standardize.good_rows import good_rows
from headrace.standardize.quarantine import quarantined_rows
from headrace.standardize.typed_columns import with_references
from tests.standardize.captured import STAMP, capture, entity

RATES: dict[str, Any] = {
    "kind": "ecb_rates",
    "currency": "currency",
    "day": "sold_at",
    "columns": {"rate": "euros_per_unit", "rate_of": "rate_date"},
}
EUROS = {"name": "euros", "type": "decimal(12,2)", "expression": "amount * rate"}
SALES = (
    {"name": "currency", "type": "string"},
    {"name": "sold_at", "type": "timestamptz"},
    {"name": "amount", "type": "decimal(12,2)"},
)


def sales(options: dict[str, Any], **others: Any) -> EntityConfig:
    return entity(*SALES, enrichments=[RATES | options], calculated=[EUROS], **others)


def processed(
    spark: SparkSession, configured: EntityConfig, rows: Sequence[tuple[str, ...]], folder: Path
) -> tuple[dict[int, Any], dict[int, str]]:
    """Good rows, and the reasons of the others, by line."""
    joined = with_references(capture(spark, configured, rows), configured, {}, folder)
    good = {row["id"]: row for row in good_rows(joined, configured, STAMP).collect()}
    broken = quarantined_rows(joined, configured, STAMP).collect()
    return good, {int(row["id"]): row["_reasons"] for row in broken}


def test_currencies_are_converted_by_the_rate_of_the_local_day_or_the_last_one_before_it(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = [
        ("USD", "2024-01-05 12:00:00", "109.21"),
        ("USD", "2024-01-07 12:00:00", "109.21"),  # A Sunday.
        ("USD", "2024-01-07 23:30:00Z", "109.46"),  # In Berlin, a Monday.
        ("EUR", "2024-01-07 12:00:00", "5.00"),
        ("XXX", "2024-01-05 12:00:00", "1.00"),
        ("GBp", "2024-01-05 12:00:00", "1.00"),
        ("USD", "1999-01-03 12:00:00", "1.00"),  # The first rate is of the next day.
        ("HRK", "2023-06-01 12:00:00", "1.00"),  # Its last rate is of 2022.
        ("", "2024-01-05 12:00:00", "1.00"),
    ]
    good, broken = processed(spark, sales({}, timezone="Europe/Berlin"), rows, tmp_path)
    assert {line: (row["euros"], row["rate_of"]) for line, row in good.items()} == {
        2: (Decimal("100.00"), date(2024, 1, 5)),
        3: (Decimal("100.00"), date(2024, 1, 5)),
        4: (Decimal("100.00"), date(2024, 1, 8)),
        5: (Decimal("5.00"), date(2024, 1, 7)),
    }
    assert broken == dict.fromkeys(range(6, 11), "currency, sold_at: not in the ECB's rates")
    # Without any rate.
    kept, _ = processed(spark, sales({"missing": None}), rows[4:6], tmp_path)
    assert [row["euros"] for row in kept.values()] == [None, None]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "No such file or directory: paths are relative"),
        ("Day,USD\n", "line 1: does not begin with the column Date"),
        ("Date,USD\n2024-01-02,1.1\n02.01.2024,1.1\n", "line 3: Date: is not a day"),
        ("Date,USD\n2024-01-02,1.1\n2024-01-03,-\n", "line 3: USD: is not a positive number"),
    ],
)
def test_a_file_of_rates_that_does_not_fit_is_refused_with_its_line(
    tmp_path: Path, text: str | None, why: str
) -> None:
    [configured] = sales({"file": "rates.csv"}).enrichments
    if text is not None:
        (tmp_path / "rates.csv").write_text(text)
    problem = file_problem(configured, tmp_path)
    assert problem is not None
    assert problem.startswith(f"file: {tmp_path}/rates.csv: {why}")


def test_a_changed_file_changes_the_code_version(tmp_path: Path) -> None:
    [configured] = sales({"file": "rates.csv"}).enrichments
    seen = [content_id(configured, tmp_path)]
    for rate in ("1.1", "1.2"):
        (tmp_path / "rates.csv").write_text(f"Date,USD\n2024-01-02,{rate}\n")
        assert file_problem(configured, tmp_path) is None
        seen.append(content_id(configured, tmp_path))
    assert len({*seen}) == 3


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"currency": "curency"}, "enrichments[0].currency: 'curency' is not one of"),
        ({"day": "amount"}, "enrichments[0].day: 'amount' is a decimal(12,2): declare it as date"),
        (
            {"columns": {"amount": "rate_date"}},
            "enrichments[0].columns: 'amount' is declared twice",
        ),
        ({"columns": {"rate": "eur"}}, "Input should be 'euros_per_unit'"),
    ],
)
def test_a_declaration_that_does_not_fit_the_entity_is_refused(
    options: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        sales(options)
    assert why in str(refused.value)
