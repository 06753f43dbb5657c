"""Members of zip archives are files of the landing zone; bad archives fail alone."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from headrace.config.sources.file_formats import UnpackLimits
from headrace.sources.landing.zip_directory import open_member, read_directory
from tests.raw.building import DAY, FIRST, GOOD, NEXT, START, Raw, entity, errors, undated

PATH = "orders-{date:%Y-%m-%d}.zip!*.csv"
BAD, FINE = "orders-2017-01-01.zip", "orders-2017-01-02.zip"
Members = dict[str, bytes | str]


def zipped(members: Members, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def patched(content: bytes, *, flags: int | None = None, size: int | None = None) -> bytes:
    """Other flags, or another size, in the headers and the directory of the only member."""
    found = bytearray(content)
    local, central = found.find(b"PK\x03\x04"), found.find(b"PK\x01\x02")
    if flags is not None:
        struct.pack_into("<H", found, local + 6, flags)
        struct.pack_into("<H", found, central + 8, flags)
    if size is not None:
        struct.pack_into("<I", found, central + 24, size)
    return bytes(found)


def linked() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("orders.csv")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


def twice() -> bytes:
    content = zipped({"orders.csv": GOOD, "ordres.csv": "id\n9\n"})
    return content.replace(b"ordres.csv", b"orders.csv")


def overlapping() -> bytes:
    """Two entries of the directory for the same bytes."""
    content = bytearray(zipped({"orders.csv": GOOD, "ordert.csv": GOOD}))
    second = content.rfind(b"PK\x01\x02")
    struct.pack_into("<I", content, second + 42, 0)
    return bytes(content)


def broken() -> bytes:
    content = bytearray(zipped({"orders.csv": GOOD * 100}))
    content[60:70] = b"\xff" * 10
    return bytes(content)


def cut() -> bytes:
    return zipped({"orders.csv": GOOD})[:-30]


SUSPECT: dict[str, tuple[Callable[[], bytes], dict[str, int], str]] = {
    "cut off": (cut, {}, "is no whole zip archive"),
    "no archive": (GOOD.encode, {}, "is no whole zip archive"),
    "empty": (lambda: b"", {}, "is no whole zip archive"),
    "parent": (lambda: zipped({"../a.csv": GOOD}), {}, "path that leads out of it, '../a.csv'"),
    "inner": (lambda: zipped({"a/../../b": ""}), {}, "leads out of it, 'a/../../b'"),
    "windows": (lambda: zipped({"..\\a.csv": GOOD}), {}, "leads out of it, '../a.csv'"),
    "absolute": (lambda: zipped({"/etc/a.csv": GOOD}), {}, "an absolute path, '/etc/a.csv'"),
    "drive": (lambda: zipped({"C:\\a.csv": GOOD}), {}, "the path of a drive, 'C:/a.csv'"),
    "overlap": (overlapping, {}, "members of the archive overlap: 'order"),
    "many": (
        *(lambda: zipped({f"{n}.csv": "" for n in range(9)}), {"max_members": 8}),
        "more than 8 members | deliver several archives, or declare a higher extract.unpack",
    ),
    "total": (
        *(lambda: zipped({"a.csv": "x" * 900, "b.csv": "x" * 900}), {"max_bytes": 1024}),
        "members of the archive have 1,800 bytes, more than 1,024",
    ),
    "ratio": (
        *(lambda: patched(zipped({"a.csv": GOOD}), size=2**30), {}),
        "more than 1,000 times its bytes",
    ),
}
MEMBERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "encrypted": (
        lambda: patched(zipped({"orders.csv": GOOD}), flags=1),
        "is encrypted | deliver the archive without a password",
    ),
    "link": (linked, "is a symbolic link"),
    "twice": (twice, "is in the archive 2 times"),
    "method": (lambda: zipped({"orders.csv": GOOD}, zipfile.ZIP_BZIP2), "compressed by bzip2"),
    "broken": (broken, "its data in the archive is damaged"),
    "size": (
        lambda: patched(zipped({"orders.csv": GOOD}), size=12),
        "its data in the archive is damaged",
    ),
}


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    return Raw(tmp_path, entity(extract={"path": PATH}))


def test_members_are_files_of_their_archives_day(raw: Raw) -> None:
    raw.deliver(BAD, zipped({"a.csv": GOOD, "b.csv": "id,name,amount\n3,c,5\n", "sub/c.csv": ""}))
    raw.deliver(FINE, zipped({"a.csv": GOOD}, zipfile.ZIP_STORED))
    window = raw.capture(DAY, NEXT)
    assert (window.failed, window.rows) == ({}, {DAY: 3, NEXT: 2})
    assert raw.values("_source_object") == [f"{BAD}!a.csv", f"{BAD}!a.csv", f"{BAD}!b.csv"]
    assert raw.values("_source_position") == [2, 3, 2]
    assert raw.capture(DAY, NEXT).staged[DAY].files == ()


def test_a_member_of_a_replaced_archive_replaces_its_rows(raw: Raw) -> None:
    raw.deliver(BAD, zipped({"a.csv": GOOD, "b.csv": GOOD}))
    raw.capture()
    raw.deliver(BAD, zipped({"a.csv": "id,name,amount\n7,x,1\n", "b.csv": GOOD}))
    assert raw.capture().rows == {DAY: 3}
    assert raw.values("id") == ["7", "1", "2"]


def test_dates_and_patterns_are_read_in_members_too(tmp_path: Path) -> None:
    raw = Raw(tmp_path, entity(extract={"path": "*.zip!{date:%Y}/{date:%m-%d}-*.csv"}))
    names = {"2017/01-01-a.csv": GOOD, "2017/01-02-a.csv": GOOD, "2016/01-01-a.csv": GOOD}
    raw.deliver("year.zip", zipped({**names, "__MACOSX/._2017": "", "2017/": ""}))
    window = raw.capture(DAY, NEXT)
    assert window.rows == {DAY: 2, NEXT: 2}
    assert raw.values("_source_object") == ["year.zip!2017/01-01-a.csv"] * 2


def test_a_pattern_of_plain_files_takes_no_member(tmp_path: Path) -> None:
    raw = Raw(tmp_path, undated())
    both = {"shop.orders": raw.entity, "shop.zipped": entity(extract={"path": "orders/*.zip!*"})}
    raw.deliver("orders/a.zip", zipped({"b.csv": "id,sold_at\n1,1/1/2017 8:00\n"}))
    raw.deliver("orders/a.csv", "id,sold_at\n2,1/1/2017 8:00\n")
    window = raw.capture(entities=both)
    assert (raw.values("id"), window.remarks) == (["2"], ())


@pytest.mark.parametrize("case", SUSPECT)
def test_a_suspect_archive_fails_its_day_alone(tmp_path: Path, case: str) -> None:
    make, limits, said = SUSPECT[case]
    raw = Raw(tmp_path, entity(extract={"path": PATH, "unpack": limits}))
    raw.deliver(BAD, make())
    raw.deliver(FINE, zipped({"a.csv": "id,name,amount\n1,a,1\n"}))
    window = raw.capture(DAY, NEXT)
    found = errors(window)
    assert ([*found], window.rows) == ([DAY], {NEXT: 1})
    assert found[DAY].startswith(BAD)
    assert said in found[DAY]
    assert raw.on_disk() == {*raw.on_disk()}


@pytest.mark.parametrize("case", MEMBERS)
def test_a_bad_member_fails_its_day_alone(raw: Raw, case: str) -> None:
    make, said = MEMBERS[case]
    raw.deliver(BAD, make())
    raw.deliver(FINE, zipped({"a.csv": GOOD}))
    window = raw.capture(DAY, NEXT)
    assert ([*window.failed], window.rows) == ([DAY], {NEXT: 2})
    assert errors(window)[DAY].startswith(f"{BAD}!orders.csv")
    assert said in errors(window)[DAY]


def test_an_archive_in_an_archive_is_not_opened(tmp_path: Path) -> None:
    raw = Raw(tmp_path, entity(extract={"path": "orders-{date:%Y-%m-%d}.zip!*"}))
    raw.deliver(BAD, zipped({"inner.zip": zipped({"orders.csv": GOOD})}))
    said = errors(raw.capture())[DAY]
    assert f"{BAD}!inner.zip is an archive in an archive" in said


def test_an_archive_that_is_still_written_is_waited_for(raw: Raw) -> None:
    raw.deliver(BAD, cut())
    arrived = (raw.landing / BAD).stat().st_ctime
    at = START.fromtimestamp(arrived, START.tzinfo) + timedelta(seconds=1)
    assert "may still be written" in errors(raw.capture(settle=60.0, at=at))[DAY]


def test_a_bad_archive_without_a_day_fails_the_first_partition_alone(tmp_path: Path) -> None:
    raw = Raw(tmp_path, entity(extract={"path": "*.zip!products.csv"}))
    raw.deliver("a.zip", zipped({"products.csv": GOOD}))
    raw.capture(FIRST)
    raw.deliver("b.zip", cut())
    raw.deliver("a.zip", zipped({"products.csv": "id,name,amount\n9,x,1\n"}))
    day = START.fromtimestamp((raw.landing / "a.zip").stat().st_mtime, START.tzinfo).date()
    day = max(day, FIRST)
    window = raw.capture(FIRST, day) if day > FIRST else raw.capture(FIRST)
    assert [*window.failed] == [FIRST]
    assert "b.zip is no whole zip archive" in errors(window)[FIRST]


class Counted:
    """Bytes from any position; counts what is read."""

    def __init__(self, content: bytes) -> None:
        self.content, self.count = content, 0

    def read_at(self, offset: int, size: int, /) -> bytes:
        found = self.content[offset : offset + size]
        self.count += len(found)
        return found


def test_a_listing_reads_the_end_of_an_archive_and_a_member_is_streamed() -> None:
    block = bytes(range(256)) * 2**12
    content = zipped({"a": block * 8, "b": block}, zipfile.ZIP_STORED)
    source, limits = Counted(content), UnpackLimits()
    first, _ = read_directory(source, len(content), "a.zip", limits)
    assert source.count <= 2**16
    with open_member(source, first, "a.zip!a", limits) as stream:
        assert stream.read(1000) == block[:1000]
        assert source.count < 4 * 2**20
        assert 1000 + sum(map(len, iter(lambda: stream.read(2**20), b""))) == 8 * len(block)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "orders-{date:%Y-%m-%d}.zip",
            "name its members, too, such as orders-{date:%Y-%m-%d}.zip!",
        ),
        ("a.zip!b.zip!{date:%Y-%m-%d}.csv", "an archive in an archive"),
        ("a.tar.gz!{date:%Y-%m-%d}.csv", ".tar.gz is no archive whose members can be read"),
    ],
)
def test_a_path_that_names_no_member_is_refused(path: str, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        entity(extract={"path": path})
    assert said in str(caught.value)
