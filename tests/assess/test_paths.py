"""Paths of files become the patterns of entities."""

from datetime import date

import pytest

from headrace.assess.files.path_templates import common_pattern, group_paths


def patterns_of(*paths: str) -> list[str]:
    return [group.pattern for group in group_paths(paths)]


@pytest.mark.parametrize(
    ("paths", "pattern"),
    [
        (["a/sales-2024-03-01.csv", "a/sales-2024-03-02.csv"], "a/sales-{date:%Y-%m-%d}.csv"),
        (["sales_20240301.csv.gz", "sales_20240302.csv"], "sales_{date:%Y%m%d}.csv"),
        (["o_01-12-2010.csv", "o_02-12-2010.csv"], "o_{date:%d-%m-%Y}.csv"),
        (["o_12-01-2010.csv", "o_12-02-2010.csv"], "o_{date:%m-%d-%Y}.csv"),
        (["2024/03/s-01.csv", "2024/03/s-02.csv"], "{date:%Y}/{date:%m}/s-{date:%d}.csv"),
        (["bank 2024-01.txt", "bank 2024-02.txt"], "bank {date:%Y-%m}.txt"),
        (["kpi2023.csv", "kpi2024.csv"], "kpi{date:%Y}.csv"),
        (["s_20240301T081500.csv", "s_20240302T070000.csv"], "s_{date:%Y%m%d}T*.csv"),
        (["p-1.csv", "p-2.csv", "p-10.csv"], "p-*.csv"),
        (["d=2024-05-01/part-0.parquet"], "d={date:%Y-%m-%d}/part-*.parquet"),
        (["v2/stores.csv"], "v2/stores.csv"),
        (["doy-2024-060.csv", "doy-2024-061.csv"], "doy-{date:%Y-%j}.csv"),
    ],
)
def test_dates_become_fields_and_numbered_parts_stars(paths: list[str], pattern: str) -> None:
    assert patterns_of(*paths) == [pattern]


def test_files_of_several_entities_are_groups_of_their_own() -> None:
    found = patterns_of("o/a-2024-01-01.csv", "o/b-2024-01-01.csv", "o/list.csv")
    assert found == ["o/a-{date:%Y-%m-%d}.csv", "o/b-{date:%Y-%m-%d}.csv", "o/list.csv"]


def test_a_group_knows_the_days_that_its_files_name() -> None:
    (group,) = group_paths(["s-2024-02-29.csv", "s-2024-03-01.csv"])
    assert sorted(group.days.values()) == [date(2024, 2, 29), date(2024, 3, 1)]
    assert (group.period, group.is_ambiguous) == ("day", False)


def test_a_date_that_can_be_read_two_ways_is_ambiguous() -> None:
    (group,) = group_paths(["o_01-02-2024.csv"])
    assert (group.pattern, group.is_ambiguous) == ("o_{date:%d-%m-%Y}.csv", True)


def test_numbers_that_are_no_date_are_none() -> None:
    assert patterns_of("x-99999999.csv", "x-88888888.csv") == ["x-*.csv"]


def test_what_differs_between_patterns_is_a_star() -> None:
    assert (
        common_pattern(["s/berlin-{date:%Y}.csv", "s/paris-{date:%Y}.csv"]) == "s/*-{date:%Y}.csv"
    )
