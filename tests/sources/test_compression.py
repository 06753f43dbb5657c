"""Compressed files: known by their bytes, whole, and within the declared limits."""

import gzip
import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from headrace.config.sources.file_formats import UnpackLimits
from headrace.errors import SourceRejectedError
from headrace.sources.files.path_patterns import is_file_of
from headrace.sources.files.text.csv_reader import read_csv
from headrace.sources.files.text.decoding import decompressed, read_chunks
from headrace.sources.landing.landing_zone import StoredFile
from tests.raw.building import entity

ROWS = b"id,name\n" + b"".join(b"%d,x\n" % n for n in range(1000))
BOMB = b"id,name\n" + b"1,x\n" * (20 * 2**20)


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


PACKED: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd}


def text_of(content: bytes, chunk: int = 2**20, limits: UnpackLimits | None = None) -> bytes:
    return b"".join(decompressed(read_chunks(io.BytesIO(content), chunk), "f.csv", limits))


def refused(content: bytes, **limits: Any) -> str:
    with pytest.raises(SourceRejectedError) as caught:
        text_of(content, limits=UnpackLimits(**limits))
    return f"{caught.value} | {caught.value.fix}"


@pytest.mark.parametrize("chunk", [1, 3, 100, 2**20])
@pytest.mark.parametrize("kind", PACKED)
def test_a_compressed_file_is_known_by_its_bytes(kind: str, chunk: int) -> None:
    pack = PACKED[kind]
    assert text_of(pack(ROWS), chunk) == ROWS
    assert text_of(pack(ROWS[:50]) + pack(ROWS[50:]), chunk) == ROWS
    assert text_of(pack(b"")) == b""
    assert text_of(ROWS, chunk) == ROWS


def test_the_rows_of_a_file_in_zstandard_are_captured() -> None:
    columns = [{"name": "id", "type": "int"}, {"name": "name", "type": "string"}]
    batches = read_csv(io.BytesIO(zstd(ROWS)), "f.csv", entity(columns=columns))
    assert sum(map(len, batches)) == 1000


@pytest.mark.parametrize("cut", [4, 10, -1])
def test_zstandard_data_that_is_cut_off_fails(cut: int) -> None:
    assert "its Zstandard data ends too early: the file was cut off" in refused(zstd(ROWS)[:cut])


def test_damaged_zstandard_data_fails() -> None:
    assert "its Zstandard data is damaged" in refused(zstd(ROWS) + b"more")
    broken = bytearray(zstd(ROWS))
    broken[12:40] = b"\xff" * 28
    assert "its Zstandard data is damaged" in refused(bytes(broken))


@pytest.mark.parametrize("kind", PACKED)
def test_a_bomb_fails_by_its_ratio_before_it_is_unpacked(kind: str) -> None:
    packed = PACKED[kind](BOMB)
    said = refused(packed, max_ratio=100)
    assert "f.csv: decompressed, it has more than 100 times the bytes" in said
    assert "extract.unpack.max_ratio" in said
    # Up to 64 MiB, a high ratio is normal: equal rows compress well.
    assert text_of(PACKED[kind](BOMB[: 2**24]), limits=UnpackLimits(max_ratio=100))


@pytest.mark.parametrize("kind", PACKED)
def test_a_file_that_becomes_too_large_fails_at_the_limit(kind: str) -> None:
    packed = PACKED[kind](ROWS)
    said = refused(packed, max_bytes=len(ROWS) - 1)
    assert f"f.csv: it has more than {len(ROWS) - 1:,} bytes once decompressed" in said
    assert "extract.unpack.max_bytes" in said
    assert text_of(packed, limits=UnpackLimits(max_bytes=len(ROWS))) == ROWS


def test_the_path_of_a_compressed_file_is_that_of_the_file() -> None:
    extract = entity(extract={"mode": "files", "path": "orders.csv"}).extract
    names = ["orders.csv", "orders.csv.gz", "orders.csv.zst"]
    assert [is_file_of(extract, name) for name in (*names, "orders.csv.bz2")] == [
        *[True] * 3,
        False,
    ]
    files = [StoredFile(name, 1, "v", datetime(2026, 1, 1, tzinfo=UTC)) for name in names]
    assert {file.logical_path for file in files} == {"orders.csv"}
