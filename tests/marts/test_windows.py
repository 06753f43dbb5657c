"""What of a mart one build replaces, and that nothing is replaced before its tests pass."""

import json
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from psycopg import sql

from headrace.errors import ConfigError
from headrace.marts.builder import MartBuilder
from headrace.marts.manifest import marts_of
from headrace.warehouse.sessions import Session
from tests.marts import periods
from tests.marts.conftest import PROJECT
from tests.marts.star import Sale, Star
from tests.marts.test_models import assert_passed

pytestmark = pytest.mark.e2e

NEW_YEAR = date(2023, 1, 1)  # a Sunday: its week, month, quarter and year are four different ones
DAYS = [NEW_YEAR + timedelta(days=n) for n in (-3, -1, 0, 1, 8, 30, 31, 57, 58, 59, 89, 90, 99)]
ALL = [*periods.expected([])]


def sale(day: date, basket: int = 1, *, quantity: int = 1) -> Sale:
    return Sale(day, basket, 101, 11, quantity, Decimal(1))


def a_day(sales: list[Sale], day: date, lines: int, *, quantity: int = 1) -> list[Sale]:
    """The same sales, but so many on one day."""
    others = [each for each in sales if each.day != day]
    return [*others, *(sale(day, n, quantity=quantity) for n in range(lines))]


@pytest.fixture(scope="module")
def by_period(
    url: str, builder: MartBuilder, tmp_path_factory: pytest.TempPathFactory
) -> MartBuilder:
    root = tmp_path_factory.mktemp("periods")
    return MartBuilder(
        periods.write(root / "project", PROJECT), root / "kept", lambda: url, builder.database
    )


def found(star: Star) -> dict[str, set[tuple[object, ...]]]:
    return {name: star.mart(name) for name in periods.expected([])}


def test_marts_of_every_grain_follow_repaired_late_and_emptied_days(
    star: Star, by_period: MartBuilder
) -> None:
    sales = [sale(day) for day in DAYS]
    star.fill(sales)
    assert_passed(by_period.build(ALL))
    assert found(star) == periods.expected(sales)
    changes = [
        {DAYS[1]: 3},  # the year's last day: its week goes on into the next year
        # Emptied, a day late, and days of several months, quarters and years at once.
        {NEW_YEAR: 0, date(2023, 2, 10): 2, DAYS[0]: 0, DAYS[5]: 4, DAYS[8]: 2, DAYS[-1]: 0},
    ]
    for change in changes:
        for day, lines in change.items():
            sales = a_day(sales, day, lines)
        star.sell(sales)
        assert_passed(by_period.build(ALL, sorted(change)))
        assert found(star) == periods.expected(sales)
    assert_passed(by_period.build(ALL, full_refresh=True))
    assert found(star) == periods.expected(sales)


def test_one_bad_day_holds_itself_and_no_other(
    star: Star, by_period: MartBuilder, session: Session
) -> None:
    star.fill([sale(day) for day in DAYS])
    names = ["mart_day", "mart_whole"]
    assert_passed(by_period.build(names))
    star.sell([sale(day, n) for day in DAYS for n in range(99 if day == DAYS[4] else 2)])
    session.execute("alter table marts.mart_day add constraint few check (lines < 50) not valid")
    builds = by_period.build_days(names, DAYS)
    rows = star.mart("mart_day")
    assert rows == {(day, 1 if day == DAYS[4] else 2) for day in DAYS}
    decided = [(b.days, r.passed) for b in builds for r in b.results if r.name == "mart_day"]
    assert [days for days, passed in decided if not passed] == [(DAYS[4],)]
    assert sorted(day for days, _ in decided for day in days or ()) == DAYS
    # What passed at once was built once.
    assert sum(r.name == "mart_whole" for b in builds for r in b.results) == 1


def test_a_row_outside_the_window_fails_the_build_and_is_added_nowhere(
    star: Star, by_period: MartBuilder
) -> None:
    star.fill([sale(day) for day in DAYS])
    assert_passed(by_period.build(["misses_grain"]))
    before = star.mart("misses_grain")
    star.sell([sale(day) for day in DAYS] + [sale(DAYS[4], 2)])
    (result,) = by_period.build(["misses_grain"], [DAYS[4]])
    assert not result.passed
    assert "1 of 1 built rows lie outside the window that the build replaces" in result.message
    assert "'grain': 'month'" in result.message
    assert star.mart("misses_grain") == before


def test_a_test_that_names_another_window_than_its_model_is_refused(
    star: Star, by_period: MartBuilder
) -> None:
    star.fill([sale(DAYS[0])])
    model, test = by_period.build(["tested"])
    assert model.passed
    assert "its window is not the model's meta.window" in test.message


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ({"column": "month", "whole_month": True}, "unknown key 'whole_month'"),
        ({"column": "month", "grain": "months"}, "grain 'months' is not one of day, week, month"),
        ({"grain": "month"}, "names no column"),
        ("month", "names no column"),
        ({"column": "mont", "grain": "month"}, "no column 'mont'; did you mean month?"),
    ],
)
def test_a_window_that_says_something_unknown_is_refused(
    tmp_path: Path, window: object, said: str
) -> None:
    node = {
        "name": "mart_m",
        "resource_type": "model",
        "schema": "marts",
        "alias": "mart_m",
        "original_file_path": "models/marts/mart_m.sql",
        "config": {
            "materialized": "incremental",
            "meta": {"window": window},
            "contract": {"enforced": True},
        },
        "columns": {"month": {}, "rows": {}},
    }
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"nodes": {"model.p.mart_m": node}}))
    with pytest.raises(ConfigError, match=said) as raised:
        marts_of(manifest)
    assert "models/marts/mart_m.sql" in str(raised.value)


def test_a_column_that_is_new_fails_until_the_table_is_built_anew(
    star: Star, by_period: MartBuilder, session: Session
) -> None:
    star.fill([sale(day) for day in DAYS])
    assert_passed(by_period.build(["mart_day"]))
    reader = sql.Identifier("reader_of_marts")
    session.execute(sql.SQL("drop role if exists {}").format(reader))
    session.execute(sql.SQL("create role {}").format(reader))
    session.execute(sql.SQL("grant select on marts.mart_day to {}").format(reader))
    before = star.mart("mart_day")
    path = by_period.project_dir / "models/marts/mart_day.sql"
    added = "count(*)::int as lines, max(quantity) as most"
    path.write_text(path.read_text().replace("count(*) as lines", added))
    failed = by_period.build(["mart_day"], [DAYS[0]])[0]
    assert "new lines integer, most integer; missing lines bigint" in failed.message
    assert "headrace backfill --rebuild --select 'key:\"marts/mart_day\"'" in failed.message
    assert "called by" not in failed.message
    assert star.mart("mart_day") == before
    assert_passed(by_period.build(["mart_day"], full_refresh=True))
    assert star.mart("mart_day") == {(day, 1, 1) for day in DAYS}
    may_read = "select has_table_privilege('reader_of_marts', 'marts.mart_day', 'select')"
    assert session.execute(may_read).fetchone() == (True,)
    session.execute(sql.SQL("drop owned by {r}; drop role {r}").format(r=reader))
