"""Files that cannot be read, or not yet: their day fails and keeps what it had, no other does."""

import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from headrace.errors import (
    SourceRejectedError,
    SourceUnavailableError,
    StorageRejectedError,
    StorageUnavailableError,
)
from headrace.sources.files.text.csv_reader import read_csv
from headrace.sources.landing.landing_zone import LocalLanding
from tests.raw.building import (
    DAY,
    FILE,
    FIRST,
    GOOD,
    NEXT,
    NEXT_FILE,
    Raw,
    csv_text,
    entity,
    errors,
)

BAD: dict[str, tuple[str | bytes, str]] = {
    "a missing column": (csv_text(["1,10"], "id,amount"), "line 1: column 'name' is missing"),
    "an extra column": (csv_text(["1,a,1,x"], "id,name,amount,z"), "'z' is not declared"),
    "no header": (csv_text(["2,b,20"], "1,a,10"), "line 1 names none of the columns"),
    "an empty file": ("", "is empty: it has no header"),
    "another encoding": (
        "id,name,amount\n1,é,2\n".encode("latin-1"),
        "line 2, character 3 (column",
    ),
    "a header with NULs": ("id,name,amount,\0\0\n1,a,1,x\n", r"column '\x00\x00' is not declared"),
    "UTF-16": (GOOD.encode("utf-16-le"), "format.encoding: utf-16-le"),
    "a zip file": (b"PK\x03\x04\x14\0\0\0", "is a zip file"),
    "half a gzip file": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "the file was cut off"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_read_fails_its_day_and_no_other(raw: Raw, case: str) -> None:
    text, said = BAD[case]
    raw.deliver(FILE, text)
    raw.deliver(NEXT_FILE, GOOD)
    window = raw.capture(FIRST, DAY, NEXT)
    assert isinstance(window.failed[DAY], SourceRejectedError)
    assert errors(window)[DAY].startswith(f"{FILE}")
    assert said in errors(window)[DAY]
    assert (list(window.failed), window.rows) == ([DAY], {FIRST: 0, NEXT: 2})
    raw.deliver(FILE, GOOD)
    assert raw.capture(FIRST, DAY, NEXT).rows == {FIRST: 0, DAY: 2, NEXT: 2}


def test_a_day_that_fails_keeps_what_it_had_and_leaves_no_files_behind(raw: Raw) -> None:
    raw.entity = entity(extract={"path": "orders/orders-{date:%Y-%m-%d}*.csv"})
    raw.deliver(FILE, GOOD)
    raw.capture()
    before = raw.on_disk()
    raw.deliver(FILE, csv_text(["1,a,99"]))
    raw.deliver(FILE.replace(".csv", "-more.csv"), "")
    window = raw.capture()
    assert (list(window.failed), window.staged) == ([DAY], {})
    assert raw.on_disk() == before
    assert raw.values("amount") == ["10", "20"]


def test_a_file_that_is_still_written_fails_its_day_for_now(raw: Raw) -> None:
    raw.deliver(FILE, GOOD)
    now = datetime.fromtimestamp((raw.landing / FILE).stat().st_ctime, UTC)
    window = raw.capture(at=now + timedelta(seconds=1), settle=60.0)
    assert isinstance(window.failed[DAY], SourceUnavailableError)
    assert raw.capture(at=now + timedelta(seconds=61), settle=60.0).rows == {DAY: 2}


def test_a_file_that_only_just_came_is_waited_for(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    raw.deliver(FILE, GOOD)
    changed_at = datetime.fromtimestamp((raw.landing / FILE).stat().st_ctime, UTC)
    window = raw.capture(at=changed_at + timedelta(seconds=0.5), settle=2.0)
    assert (window.rows, [round(seconds, 2) for seconds in waited]) == ({DAY: 2}, [1.5])


def test_a_file_that_changes_while_it_is_waited_for_fails_its_day_for_now(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw.deliver(FILE, csv_text(["1,a,10"]))
    changed_at = datetime.fromtimestamp((raw.landing / FILE).stat().st_ctime, UTC)
    monkeypatch.setattr("time.sleep", lambda _: raw.deliver(FILE, GOOD))
    window = raw.capture(at=changed_at, settle=2.0)
    assert "may still be written" in errors(window)[DAY]


def test_what_nobody_foresaw_in_a_file_fails_its_day_and_shows_none_of_its_rows(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = "a secret"

    def reads(stream: object, path: str, *others: object, **options: object) -> object:
        if path == FILE:
            raise ValueError(hidden)
        return read_csv(stream, path, *others, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("headrace.sources.files.connector.read_csv", reads)
    raw.deliver(FILE, GOOD)
    raw.deliver(NEXT_FILE, GOOD)
    with structlog.testing.capture_logs() as logged:
        window = raw.capture(DAY, NEXT)
    assert (list(window.failed), window.rows) == ([DAY], {NEXT: 2})
    assert errors(window)[DAY].startswith(f"{FILE} cannot be read: ValueError")
    (event,) = [one for one in logged if one["event"] == "file_unreadable"]
    assert "in reads" in event["frames"]
    assert hidden not in f"{event}{errors(window)}"


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "is no file but a pipe, a socket or a device"),
    "a link to itself": (
        lambda path: path.symlink_to(path.name),
        "cannot be read: Too many levels",
    ),
    "a link to nothing": (lambda path: path.symlink_to("gone"), "is a link to a missing file"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_fails_its_day_and_no_other(raw: Raw, kind: str) -> None:
    make, said = ODD[kind]
    raw.deliver(NEXT_FILE, GOOD)
    make(raw.landing / FILE)
    window = raw.capture(DAY, NEXT)
    assert (list(window.failed), window.rows) == ([DAY], {NEXT: 2})
    assert errors(window)[DAY].startswith(f"{FILE} {said}")


def test_a_name_that_is_not_utf8_fails_the_day_it_names_and_no_other(raw: Raw) -> None:
    raw.entity = entity(extract={"path": "*-{date:%Y-%m-%d}.csv"})
    raw.deliver("a-2017-01-02.csv", GOOD)
    name = os.fsdecode(b"caf\xe9-2017-01-01.csv")
    (raw.landing / name).write_text(GOOD)
    window = raw.capture(DAY, NEXT)
    assert (list(window.failed), window.rows) == ([DAY], {NEXT: 2})
    assert errors(window)[DAY].startswith(r"caf\xe9-2017-01-01.csv has a name that is not UTF-8")


def test_a_file_that_grows_while_it_is_read_fails_its_day_for_now(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw.deliver(FILE, csv_text(["1,a,10", '2,"b']))
    listed = LocalLanding.list_files

    def list_then_grow(landing: LocalLanding, prefix: str = "") -> object:
        found = listed(landing, prefix)
        raw.deliver(FILE, GOOD)
        return found

    monkeypatch.setattr(LocalLanding, "list_files", list_then_grow)
    window = raw.capture()
    assert isinstance(window.failed[DAY], SourceUnavailableError)
    assert "still being written" in errors(window)[DAY]


def test_a_file_that_may_not_be_read_is_named(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    raw.deliver(FILE, GOOD)

    def refuse(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied")

    if os.geteuid():
        (raw.landing / FILE).chmod(stat.S_IWUSR)
    else:  # Root may read everything.
        monkeypatch.setattr(Path, "open", refuse)
    assert errors(raw.capture())[DAY].startswith(f"{FILE} may not be read | give the user")


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Writing more to a file fails, as it does on a full disk."""
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))


def test_a_data_file_that_does_not_fit_is_named_and_nothing_is_left_of_it(raw: Raw) -> None:
    raw.deliver(FILE, GOOD)
    with files_of_at_most(100), pytest.raises(StorageUnavailableError) as failed:
        raw.capture()
    assert f"{raw.data}/_pd=2017-01-01/" in str(failed.value)
    assert str(failed.value).endswith("could not be written: File too large")
    assert "free space there" in failed.value.fix
    assert raw.on_disk() == set()
    assert raw.capture().rows == {DAY: 2}


def test_a_large_file_that_does_not_fit_beside_others_is_named(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.raw.writer._IN_MEMORY_BYTES", 10)
    raw.deliver(FILE, GOOD)
    with files_of_at_most(100), pytest.raises(StorageUnavailableError, match="a temporary file in"):
        raw.capture()


def test_a_lake_that_may_not_be_written_is_named(raw: Raw) -> None:
    # Neither Linux nor macOS lets anybody make a folder there, not even root.
    raw.data = Path("/sys/headrace")
    raw.deliver(FILE, GOOD)
    with pytest.raises(StorageRejectedError, match=r"/sys/headrace/_pd=2017-01-01/.* may not"):
        raw.capture()
