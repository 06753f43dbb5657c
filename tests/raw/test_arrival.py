"""Files arrive by a marker or a manifest: until then a day is held, and says for what."""

import hashlib
import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from headrace.sources.files.plan import UNLISTED, WAITING
from headrace.sources.landing.arrival import arrived_files
from headrace.sources.landing.landing_zone import LocalLanding
from tests.raw.building import DAY, FILE, FIRST, GOOD, NEXT, NEXT_FILE, Raw, csv_text, entity

MARKER = {"type": "marker", "path": "{path}.done"}


def made(folder: Path, arrival: dict[str, Any], **changes: Any) -> Raw:
    return Raw(folder, entity(extract={"arrival": arrival, **changes}))


def held(raw: Raw, *days: date) -> dict[date, str]:
    return dict(raw.capture(*(days or (DAY, NEXT))).held)


def listed(raw: Raw) -> list[str]:
    """What the sensor takes as arrived."""
    landing = LocalLanding(raw.landing)
    found = arrived_files([raw.entity], landing.list_files(), landing)
    return [file.path for file in found if file.path.endswith(".csv")]


def test_a_day_is_held_until_the_marker_of_its_file_is_there(tmp_path: Path) -> None:
    raw = made(tmp_path, MARKER)
    raw.deliver(FILE, GOOD)
    raw.deliver(NEXT_FILE, GOOD)
    raw.deliver(f"{NEXT_FILE}.done", "")
    window = raw.capture(DAY, NEXT)
    assert dict(window.held) == {DAY: f"{FILE} waits for its marker file {FILE}.done"}
    assert window.rows == {NEXT: 2}
    assert listed(raw) == [NEXT_FILE]
    raw.deliver(f"{FILE}.done", "")
    assert raw.capture(DAY, NEXT).rows == {DAY: 2, NEXT: 2}


def test_a_file_that_was_written_again_waits_for_a_new_marker(tmp_path: Path) -> None:
    raw = made(tmp_path, MARKER)
    raw.deliver(FILE, GOOD)
    marker = raw.deliver(f"{FILE}.done", "")
    raw.capture()
    raw.deliver(FILE, csv_text(["9,x,1"]))
    assert "was written after its marker file" in held(raw, DAY)[DAY]
    assert (raw.values("id"), listed(raw)) == (["1", "2"], [])
    raw.deliver(f"{FILE}.done", "")
    assert raw.capture().rows == {DAY: 1}
    # A copy keeps times and is made in any order.
    os.utime(raw.landing / FILE, ns=(0, 1))
    assert marker.exists()
    assert held(raw, DAY) == {}


@pytest.mark.parametrize(
    ("pattern", "marker"),
    [
        ("{folder}/_SUCCESS", "orders/_SUCCESS"),
        ("done/{name}.ok", "done/orders-2017-01-01.csv.ok"),
        ("{date:%Y/%m/%d}.ready", "2017/01/01.ready"),
    ],
)
def test_a_marker_is_where_its_pattern_says(tmp_path: Path, pattern: str, marker: str) -> None:
    raw = made(tmp_path, {"type": "marker", "path": pattern})
    raw.deliver(FILE, GOOD)
    assert held(raw, DAY) == {DAY: f"{FILE} waits for its marker file {marker}"}
    raw.deliver(marker, "")
    window = raw.capture(entities={"shop.orders": raw.entity})
    assert (window.rows, window.remarks) == ({DAY: 2}, ())


def test_a_waiting_file_is_no_missing_file(tmp_path: Path) -> None:
    raw = made(tmp_path, MARKER, missing_file="empty")
    raw.deliver(FILE, GOOD)
    window = raw.capture(DAY, NEXT)
    assert ([*window.held], window.rows) == ([DAY], {NEXT: 0})


def test_files_without_a_day_are_left_until_they_arrive(tmp_path: Path) -> None:
    raw = made(tmp_path, MARKER, path="products-*.csv")
    raw.deliver("products-a.csv", GOOD)
    assert [*held(raw, FIRST)] == [FIRST]
    raw.deliver("products-a.csv.done", "")
    raw.deliver("products-b.csv", GOOD)
    window = raw.capture(FIRST)
    assert window.rows == {FIRST: 2}
    assert window.notices[WAITING] == (
        "products-b.csv waits for its marker file products-b.csv.done",
    )


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


NAME = "orders-2017-01-01.csv"
FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "lines": ({}, f"# files\n{NAME}\n"),
    "checksums": ({"format": "checksums"}, f"{sha256(GOOD)}  {NAME}\n"),
    "csv": (
        {"format": "csv", "name": "file", "checksum": "md5"},
        f"file,size,md5\n{NAME},{len(GOOD)},{hashlib.md5(GOOD.encode()).hexdigest()}\n",  # noqa: S324
    ),
    "json": (
        {"format": "json", "records": "files"},
        json.dumps({"files": [{"name": NAME, "size": len(GOOD), "checksum": sha256(GOOD)}]}),
    ),
}


def manifest(**changes: Any) -> dict[str, Any]:
    return {"type": "manifest", "path": "{folder}/{date:%Y-%m-%d}.list", **changes}


LIST = "orders/2017-01-01.list"


@pytest.mark.parametrize("form", FORMS)
def test_a_day_is_held_until_its_manifest_is_met(tmp_path: Path, form: str) -> None:
    declared, text = FORMS[form]
    raw = made(tmp_path, manifest(**declared))
    raw.deliver(FILE, GOOD)
    assert held(raw, DAY)[DAY].startswith(f"there is no manifest {LIST}")
    raw.deliver(LIST, text)
    (raw.landing / FILE).unlink()
    assert held(raw, DAY) == {DAY: f"the manifest {LIST} lists {FILE}, which is not there"}
    assert listed(raw) == []
    different = GOOD.replace("10", "11") if form != "lines" else GOOD
    raw.deliver(FILE, different)
    if form != "lines":
        assert "another checksum than its manifest states" in held(raw, DAY)[DAY]
    if form in ("csv", "json"):
        raw.deliver(FILE, GOOD + "3,c,1\n")
        said = held(raw, DAY)[DAY]
        assert f"{FILE} has {len(GOOD) + 6:,} bytes, and {len(GOOD):,} in the manifest" in said
    raw.deliver(FILE, GOOD)
    assert raw.capture().rows == {DAY: 2}
    # What raw holds may be gone.
    (raw.landing / FILE).unlink()
    assert raw.capture().rows == {DAY: 2}


def test_a_manifest_that_is_whole_names_all_of_a_day(tmp_path: Path) -> None:
    raw = made(tmp_path, manifest(), path="orders/orders-{date:%Y-%m-%d}*.csv")
    raw.deliver(FILE, GOOD)
    raw.deliver(FILE.replace(".csv", "-2.csv"), GOOD)
    raw.deliver(LIST, f"{NAME}\nother/customers.csv\n")
    assert "lists orders/other/customers.csv" in held(raw, DAY)[DAY]
    raw.deliver("orders/other/customers.csv", "x")
    window = raw.capture()
    assert window.rows == {DAY: 2}
    assert window.notices[UNLISTED] == ("orders/orders-2017-01-01-2.csv",)


BROKEN: dict[str, tuple[str, str, str]] = {
    "outside": ("lines", "../customers.csv\n", "line 1 names a file that is not below its folder"),
    "absolute": ("lines", "/etc/passwd\n", "line 1 names a file that is not below its folder"),
    "no checksum": ("checksums", f"{NAME}\n", "line 1 is no checksum, blank, and name"),
    "odd checksum": ("checksums", f"abc  {NAME}\n", "line 1 has a checksum that is no MD5"),
    "no column": ("csv", f"file\n{NAME}\n", "its header has no column 'name'"),
    "a size": ("csv", f"name,size\n{NAME},many\n", "line 2 has a size that is no number"),
    "half": ("json", "[", "is no JSON with an array at $"),
    "no array": ("json", "{}", "has no array at $"),
    "no name": ("json", '[{"size": 1}]', "entry 1 has no name ('name')"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_manifest_that_cannot_be_read_holds_the_day_and_says_where(
    tmp_path: Path, case: str
) -> None:
    form, text, said = BROKEN[case]
    raw = made(tmp_path, manifest(format=form))
    raw.deliver(FILE, GOOD)
    raw.deliver(LIST, text)
    found = held(raw, DAY)[DAY]
    assert found.startswith(f"the manifest {LIST} cannot be read: ")
    assert said in found


@pytest.mark.parametrize(
    ("arrival", "said"),
    [
        ({"type": "marker", "path": "{pth}.done"}, "did you mean path?"),
        ({"type": "marker", "path": "../{name}.done"}, "must be a path below the landing zone"),
        ({"type": "marker", "path": "{folder}/.done"}, "hidden or unfinished"),
        ({"type": "marker", "path": "{path}"}, "is the file itself"),
        ({"type": "manifest", "path": "{path}.list"}, "a manifest lists all of a folder"),
    ],
)
def test_an_arrival_that_cannot_be_is_refused(arrival: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        entity(extract={"arrival": arrival})
    assert said in str(caught.value)
