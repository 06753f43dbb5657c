"""Which listed file belongs to which day."""

from datetime import UTC, date, datetime

import pytest
from pydantic import ValidationError

from headrace.config.sources.file_extract import FileExtract
from headrace.sources.files.path_patterns import days_of_file, files_by_partition, listing_prefix
from headrace.sources.landing.landing_zone import StoredFile

DAY = date(2017, 1, 3)
DAYS = [date(2017, 1, 2), DAY, date(2017, 2, 4)]


def extract(path: str) -> FileExtract:
    by = None if "{date" in path else "sold_at"
    return FileExtract(mode="files", path=path, partition_by=by)


def listed(*paths: str) -> list[StoredFile]:
    return [StoredFile(path, 1, "1", datetime(2017, 1, 1, tzinfo=UTC)) for path in paths]


def matches(pattern: str, *paths: str) -> dict[date, list[str]]:
    found = files_by_partition(extract(pattern), listed(*paths), DAYS)
    return {day: [file.path for file in files] for day, files in found.items() if files}


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("sales-{date:%Y-%m-%d}.csv", "sales-2017-01-03.csv"),
        ("sales-{date:%Y-%m-%d}.csv", "sales-2017-01-03.csv.gz"),
        ("sales-{date:%Y-%m-%d}.csv.gz", "sales-2017-01-03.csv.gz"),
        ("sales{date:%d%m%Y}.csv", "sales03012017.csv"),
        ("s_{date:%y%m%d}.txt", "s_170103.txt"),
        ("s_{date:%d-%b-%Y}.txt", "s_03-JAN-2017.txt"),
        ("s_{date:%B_%d_%Y}.txt", "s_January_03_2017.txt"),
        ("s_{date:%Y%j}.txt", "s_2017003.txt"),
        ("sales/date={date:%Y-%m-%d}/part.csv", "sales/date=2017-01-03/part.csv"),
        ("{date:%Y}/{date:%m}/sales-{date:%d}.csv", "2017/01/sales-03.csv"),
        ("{date:%Y-%m-%d}/sales-{date:%Y-%m-%d}.csv", "2017-01-03/sales-2017-01-03.csv"),
        ("sales-{date:%Y-%m-%d}-*.csv", "sales-2017-01-03-b[1].csv"),
        ("sales-*-{date:%Y-%m-%d}.csv", "sales-north-2017-01-03.csv"),
        ("*/sales (x).{date:%Y%m%d}", "north/sales (x).20170103"),
    ],
)
def test_a_path_names_its_day(pattern: str, path: str) -> None:
    assert matches(pattern, path) == {DAY: [path]}
    assert days_of_file(extract(pattern), path) == {DAY}
    assert path.startswith(listing_prefix(extract(pattern), [DAY]))


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("sales-{date:%Y-%m-%d}.csv", "sales-2017-01-03.csv.bak"),
        ("sales-{date:%Y-%m-%d}.csv", "old/sales-2017-01-03.csv"),
        ("sales-{date:%Y-%m-%d}.csv", "sales-2017-02-30.csv"),
        ("sales-{date:%Y-%m-%d}.csv", "sales-2017-01-03xcsv"),
        ("sales-{date:%Y-%m-%d}-*.csv", "sales-2017-01-03-a/b.csv"),
        ("{date:%Y-%m-%d}/{date:%Y-%m-%d}.csv", "2017-01-03/2017-01-02.csv"),
        ("sales{date:%d%m%Y}.csv", "sales3012017.csv"),
    ],
)
def test_another_path_belongs_to_no_day(pattern: str, path: str) -> None:
    assert matches(pattern, path) == {}
    assert days_of_file(extract(pattern), path) == frozenset()


def test_a_day_outside_the_window_is_passed_over() -> None:
    assert matches("s{date:%Y-%m-%d}", "s2017-01-04", "s2017-01-02") == {
        date(2017, 1, 2): ["s2017-01-02"]
    }


def test_a_day_may_have_many_files_and_they_come_by_path() -> None:
    paths = ["s-2017-01-03-b", "s-2017-01-03-a"]
    assert matches("s-{date:%Y-%m-%d}-*", *paths) == {DAY: sorted(paths)}


def test_a_file_whose_rows_say_their_day_belongs_to_every_day() -> None:
    assert matches("in/*.csv", "in/b.csv", "in/a.csv.gz", "c.csv") == {
        day: ["in/a.csv.gz", "in/b.csv"] for day in DAYS
    }
    assert days_of_file(extract("in/*.csv"), "in/b.csv") == frozenset()


@pytest.mark.parametrize(
    ("pattern", "days", "prefix"),
    [
        ("t/t-{date:%Y-%m-%d}.csv", [DAY], "t/t-2017-01-03.csv"),
        ("t/t-{date:%Y-%m-%d}.csv", DAYS, "t/t-2017-0"),
        ("t/date={date:%Y-%m-%d}/*.csv", DAYS[:2], "t/date=2017-01-0"),
        ("t/{date:%d-%b-%Y}.csv", [DAY], "t/"),
        ("t/*/{date:%Y}.{date:%j}", [DAY], "t/"),
        ("*.csv", DAYS, ""),
    ],
)
def test_one_listing_finds_a_window(pattern: str, days: list[date], prefix: str) -> None:
    assert listing_prefix(extract(pattern), days) == prefix


@pytest.mark.parametrize("path", ["s-{date:%H}.csv", "s-{date:%m}-{date:%d}.csv"])
def test_a_pattern_that_names_no_day_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="one day"):
        FileExtract(mode="files", path=path)


def test_a_day_comes_from_the_path_or_from_the_row_never_from_both() -> None:
    with pytest.raises(ValidationError, match=r"partition_by: the path names the day already"):
        FileExtract(mode="files", path="s-{date:%Y-%m-%d}.csv", partition_by="sold_at")
