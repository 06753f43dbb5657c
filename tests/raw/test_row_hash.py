"""The row hash against a naive one: one row, one byte at a time."""

from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.raw.row_hash import row_hash

_MASK = 2**64 - 1
_BASE = 0x5851F42D4C957F2D

Row = tuple[str | None, ...]


def mixed(value: int) -> int:
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _MASK
    return value ^ (value >> 31)


def naive(row: Row) -> int:
    total = 0
    for number, text in enumerate(row):
        text_factor, length_factor = mixed(2 * number + 1) | 1, mixed(2 * number + 2) | 1
        encoded = b"" if text is None else text.encode()
        polynomial = sum(byte * pow(_BASE, at, 2**64) for at, byte in enumerate(encoded))
        length = _MASK if text is None else len(encoded)
        total += polynomial * text_factor + length * length_factor
    hashed = mixed(total & _MASK)
    return hashed - 2**64 if hashed >= 2**63 else hashed


def hashes(rows: Sequence[Row]) -> list[int]:
    columns = [pa.array(list(texts), pa.string()) for texts in zip(*rows, strict=True)]
    return list(row_hash(columns).to_pylist())


texts = st.one_of(st.none(), st.text(max_size=12), st.just("\0"), st.just("\0\0"))
tables = st.integers(1, 4).flatmap(lambda n: st.lists(st.tuples(*[texts] * n), min_size=1))


@pytest.mark.property
@settings(max_examples=50, deadline=None)
@given(tables)
def test_every_row_has_the_hash_of_the_naive_computation(rows: list[Row]) -> None:
    expected = [naive(row) for row in rows]
    assert hashes(rows) == expected
    # So many are hashed a column at a time, not all columns at once.
    many = rows * (10_000 // len(rows))
    assert hashes(many)[: len(rows)] == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "bc"), ("ab", "c")),
        (("a", ""), ("", "a")),
        (("", None), (None, "")),
        ((None, None), ("", "")),
        (("\0", ""), ("\0\0", "")),
        (("", "\0"), ("\0", "")),
    ],
)
def test_rows_that_only_look_alike_differ(one: Row, other: Row) -> None:
    assert len(set(hashes([one, other]))) == 2


def test_a_hash_depends_on_its_own_row_alone() -> None:
    rows: list[Row] = [(str(number), "x" * (number % 40)) for number in range(20_000)]
    columns = [pa.array([row[n] for row in rows]) for n in range(2)]
    whole = row_hash(columns).to_pylist()
    part = row_hash([column.slice(9_000, 3_000) for column in columns]).to_pylist()
    assert part == whole[9_000:12_000]
    assert len(set(whole)) == len(rows)


def test_the_hash_stays_what_it_is_because_raw_keeps_it() -> None:
    longer_than_the_table_of_powers = "x" * 300_000
    rows: list[Row] = [("1", "Ünï", None), ("", longer_than_the_table_of_powers, "")]
    assert hashes(rows) == [8707352591362001608, 5997569496918501988]


def test_an_instant_is_hashed_as_its_text() -> None:
    moments = pa.array([0, -1, 1_700_000_000_123_456, None, -62_135_596_800_000_000])
    instants = moments.cast(pa.timestamp("us", tz="UTC"))
    assert row_hash([instants[1:]]) == row_hash([instants[1:].cast(pa.string())])
