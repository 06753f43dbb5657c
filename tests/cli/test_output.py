"""What people see: keys and years as they are, causes instead of a line a day, a first step."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from typer.testing import CliRunner

from headrace import progress
from headrace.cli import audit, output
from headrace.cli.app import app
from headrace.cli.backfill import BackfillResult, print_backfill
from headrace.cli.query import DuplicateColumnError, Rows, print_rows
from headrace.cli.status import AssetStatus, print_status
from headrace.errors import ConfigError
from headrace.ledger.causes import UnpublishedPartition
from headrace.operations.star_audit import TableAudit

NEVER_PUBLISHED = TableAudit("warehouse.fact_b", 0, 0, 0, is_published=False)


def printed(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    found = capsys.readouterr()
    return found.out, found.err


def table(capsys: pytest.CaptureFixture[str], columns: Sequence[str], row: Sequence[object]) -> str:
    output.print_table(columns, [row])
    return printed(capsys)[0]


def test_a_querys_numbers_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    columns = ("product_id", "sales", "small")
    rows = ((885290, Decimal("2316391.19"), Decimal("0E-8")),)
    print_rows(Rows(columns, rows), as_json=False)
    assert printed(capsys)[0].splitlines()[1].split() == ["885290", "2316391.19", "0.00000000"]


def test_in_our_own_tables_counts_are_grouped_and_keys_and_years_are_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    columns = ("product_id", "date_key", "year", "rows", "sales")
    shown = table(capsys, columns, (885290, 20171231, 2017, 541909, Decimal("2316391.19")))
    assert shown.splitlines()[1].split() == [
        "885290",
        "20171231",
        "2017",
        "541,909",
        "2,316,391.19",
    ]


def test_a_view_has_no_rows_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    print_status([AssetStatus("marts/v", 1, 0, 0, 0, 0, 0, None, at)], as_json=False)
    assert "None" not in printed(capsys)[0]


def test_progress_without_a_terminal_is_one_line_when_an_asset_is_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with output.progress_bars():
        progress.report("raw/shop_budgets", 1, 2)
        progress.report("raw/shop_budgets", 2, 2)
        progress.report("audit of dimensions", 3, 3)
        progress.report("raw/shop_orders", 0, 0)
    # What is counted differs: partitions, dimensions, batches.
    assert printed(capsys)[1].splitlines() == [
        "raw/shop_budgets: 2 of 2",
        "audit of dimensions: 3 of 3",
    ]


NEVER_BUILT = AssetStatus("marts/m", 0, 0, 0, 0, 7, 4, 0, None)


def test_before_any_run_the_first_steps_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    steps = ["headrace backfill --from [a] --to b"]
    print_status([NEVER_BUILT], as_json=False, first_steps=steps)
    out, err = printed(capsys)
    assert out == ""
    assert "nothing has run yet" in err
    assert "headrace backfill --from [a] --to b" in err


def test_what_is_declared_and_was_never_built_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    assets = [AssetStatus("raw/a", 7, 0, 0, 0, 0, 0, 9, at), NEVER_BUILT]
    print_status(assets, as_json=False, first_steps=[])
    shown = printed(capsys)[0].splitlines()
    assert shown[2].split() == ["marts/m", *"000074", "0", "never", "built"]
    print_status([NEVER_BUILT], as_json=True)
    [found] = json.loads(printed(capsys)[0])
    assert (found["asset"], found["never_built"], found["last_run"]) == ("marts/m", True, None)


def test_a_backfills_errors_are_a_line_a_cause(capsys: pytest.CaptureFixture[str]) -> None:
    bad = tuple(
        UnpublishedPartition(
            f"raw/shop_{n % 2}", date(2024, 1, 1 + n // 2), "failed", "[no] header"
        )
        for n in range(60)
    )
    print_backfill(BackfillResult("r", 3, bad, (), 3, "3 published, 60 not"), as_json=False)
    assert printed(capsys)[1].splitlines() == [
        "failed raw/shop_0, raw/shop_1 2024-01-01 to 2024-01-30 (30 days): [no] header",
        "3 published, 60 not",
    ]


NOT_MARKUP = ("\\[/red] x", "[red]a[/]", "[/]", "[bold", "a\\", ":smile:", "[link=x]", "\\\\[b]")


@pytest.mark.parametrize("text", NOT_MARKUP)
def test_names_values_and_messages_are_printed_as_they_are(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    output.print_table([text], [[text], [1]], title=text)
    output.print_summary(text, {text: [text]}, as_json=False)
    print_rows(Rows((text,), ((text,),)), as_json=False)
    out, _ = printed(capsys)
    assert [line.strip() for line in out.splitlines()] == [
        *(text, text, text, "1"),
        *(text, f"{text}: {text}"),
        *(text, text),
    ]
    output.print_error(ConfigError(text, fix=text))
    bad = UnpublishedPartition(f"raw/{text}", date(2024, 1, 1), "held", text)
    print_backfill(BackfillResult("r", 0, (bad,), (), 3, text), as_json=False)
    print_status([], as_json=False, first_steps=[text])
    _, err = printed(capsys)
    assert err.count(text) == 6


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(Rows(("a\x1b[2J",), (("b\x07\r\x9b1m",),)), as_json=False)
    assert printed(capsys)[0].split() == ["a\\x1b[2J", "b\\x07\\x0d\\x9b1m"]


def test_names_that_are_no_utf8_are_printed_with_escapes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = b"orders-\xff.csv".decode(errors="surrogateescape")
    output.print_error(ConfigError(name, fix=name))
    assert printed(capsys)[1].count("orders-\\udcff.csv") == 2
    output.print_json({"file": name})
    assert json.loads(printed(capsys)[0]) == {"file": name}


def test_json_loses_no_column_and_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    found = Rows(("a", "b", "c"), ((float("nan"), float("-inf"), b"\xff"),))
    print_rows(found, as_json=True)
    assert json.loads(printed(capsys)[0], parse_constant=pytest.fail) == [
        {"a": "nan", "b": "-inf", "c": "\\xff"}
    ]
    with pytest.raises(DuplicateColumnError, match="duplicate column names: a"):
        print_rows(Rows(("a", "a"), ((1, 2),)), as_json=True)


@pytest.mark.parametrize(
    ("tables", "code"),
    [
        ([TableAudit("curated.dim_a", 3, 0, 0)], 0),
        ([TableAudit("curated.dim_a", 3, 0, 0), NEVER_PUBLISHED], 3),
        ([TableAudit("curated.dim_a", 3, 1, 0), NEVER_PUBLISHED], 1),
    ],
    ids=["equal", "unpublished", "differs"],
)
def test_an_audit_ends_with_what_it_found(
    tables: list[TableAudit], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "audit_star", lambda **_: tables)
    result = CliRunner().invoke(app, ["audit", "star", "--json"])
    assert result.exit_code == code
    found = {table["table"]: table["equal"] for table in json.loads(result.stdout)}
    assert found["curated.dim_a"] is (code != 1)
    assert found.get("warehouse.fact_b") is None
    shown = CliRunner().invoke(app, ["audit", "star"])
    assert ("never published" in shown.stdout) is (NEVER_PUBLISHED in tables)
