"""Names of data files, and which of them count."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import StagedFileRejectedError
from headrace.raw.manifest import (
    captured_content,
    captured_versions,
    current_files,
    file_name,
)
from headrace.sources.base import CapturedVersion, short_id

ids = st.sampled_from([short_id(text) for text in "abc"])
times = st.datetimes(datetime(2017, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC))
versions = st.builds(
    CapturedVersion, times, ids, ids, ids, st.integers(0, 10**12), st.none() | times
)


@dataclass(frozen=True)
class File:
    path: str


def files(*held: CapturedVersion) -> list[File]:
    return [File(f"file:///lake/raw/x/data/_pd=2017-01-01/{file_name(v)}") for v in held]


@pytest.mark.property
@settings(max_examples=50)
@given(versions, versions)
def test_a_name_says_all_of_its_version_and_sorts_by_time(
    one: CapturedVersion, other: CapturedVersion
) -> None:
    assert captured_versions(files(one)) == (one,)
    if one.captured_at < other.captured_at:
        assert file_name(one) < file_name(other)


VERSION = CapturedVersion(
    datetime(2026, 1, 1, tzinfo=UTC), short_id("a"), short_id("b"), short_id("c"), 5
)


def later(version: CapturedVersion, **changes: object) -> CapturedVersion:
    return replace(version, captured_at=version.captured_at + timedelta(seconds=1), **changes)  # type: ignore[arg-type]


def test_the_latest_version_of_each_path_counts_in_any_order() -> None:
    newer = later(VERSION, content_id=short_id("x"))
    other = replace(VERSION, object_id=short_id("other"))
    held = files(newer, VERSION, other)
    assert current_files(held) == (held[0], held[2])
    assert current_files(held[::-1]) == (held[2], held[0])


def test_a_version_without_rows_hides_what_came_before_and_is_not_read() -> None:
    assert current_files(files(VERSION, later(VERSION, rows=0))) == ()


def test_going_back_to_earlier_contents_is_a_new_version() -> None:
    middle = later(VERSION, content_id=short_id("x"))
    held = files(VERSION, middle, later(middle, content_id=VERSION.content_id))
    assert current_files(held) == (held[2],)


def test_a_file_that_capture_did_not_name_is_an_error() -> None:
    with pytest.raises(StagedFileRejectedError, match=r"part-0\.parquet is in raw"):
        current_files([File("file:///lake/raw/x/data/part-0.parquet")])


def test_a_day_has_other_content_once_another_of_its_files_is_the_later() -> None:
    def written(version: CapturedVersion, second: int) -> CapturedVersion:
        return later(version, modified_at=datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC))

    other = replace(VERSION, object_id=short_id("other"))
    day = files(written(VERSION, 1), written(other, 2))
    assert captured_content(day) == captured_content(day[::-1])
    assert captured_content(day) == captured_content(files(written(VERSION, 0), written(other, 2)))
    assert captured_content(day) != captured_content(files(written(VERSION, 3), written(other, 2)))
