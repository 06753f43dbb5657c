"""xxHash64 in plain Python, and Spark's way of chaining it over typed columns: the oracle."""

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
_MASK = 2**64 - 1
SEED = 42


def xxh64(data: bytes, seed: int = SEED) -> int:
    """The 64-bit hash of `data`, unsigned (xxHash specification 0.1.1)."""
    length, position = len(data), 0
    if length >= 32:
        lanes = [seed + _P1 + _P2, seed + _P2, seed, seed - _P1]
        while position + 32 <= length:
            for lane in range(4):
                (word,) = struct.unpack_from("<Q", data, position)
                lanes[lane] = _round(lanes[lane], word)
                position += 8
        total = sum(_rotated(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True))
        for lane in lanes:
            total = ((total ^ _round(0, lane)) * _P1 + _P4) & _MASK
    else:
        total = seed + _P5
    total = _with_tail((total + length) & _MASK, data[position:])
    for shift, prime in ((33, _P2), (29, _P3)):
        total = (total ^ total >> shift) * prime & _MASK
    return total ^ total >> 32


def row_hash(values: Sequence[Any], types: Sequence[str]) -> int:
    """The signed hash of a row: each value, then whether it is NULL, on top of those before."""
    total = SEED
    for value, kind in zip(values, types, strict=True):
        if value is not None:
            total = xxh64(_bytes(value, kind), total)
        total = xxh64(struct.pack("<i", value is None), total)
    return total - 2**64 if total >= 2**63 else total


def _with_tail(total: int, tail: bytes) -> int:
    while len(tail) >= 8:
        (word,) = struct.unpack_from("<Q", tail)
        total = (_rotated(total ^ _round(0, word), 27) * _P1 + _P4) & _MASK
        tail = tail[8:]
    if len(tail) >= 4:
        (word,) = struct.unpack_from("<I", tail)
        total = (_rotated(total ^ (word * _P1 & _MASK), 23) * _P2 + _P3) & _MASK
        tail = tail[4:]
    for byte in tail:
        total = _rotated(total ^ (byte * _P5 & _MASK), 11) * _P1 & _MASK
    return total


def _bytes(value: Any, kind: str) -> bytes:
    return _decimal_bytes(value, kind) if kind.startswith("decimal") else _BYTES[kind](value)


def _micros(value: datetime) -> bytes:
    since = value.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return struct.pack("<q", since // timedelta(microseconds=1))


_BYTES: dict[str, Callable[[Any], bytes]] = {
    "string": str.encode,
    "int": lambda value: struct.pack("<q", value),
    "bigint": lambda value: struct.pack("<q", value),
    "boolean": lambda value: struct.pack("<i", value),
    "double": lambda value: struct.pack("<d", value + 0.0),
    "date": lambda value: struct.pack("<i", (value - date(1970, 1, 1)).days),
    "timestamp": _micros,
    "timestamptz": _micros,
    "list<string>": lambda value: ",".join(
        "N" if item is None else f"{len(item)}:{item}" for item in value
    ).encode(),
}


def _decimal_bytes(value: Decimal, kind: str) -> bytes:
    precision, scale = (int(part) for part in kind[len("decimal(") : -1].split(","))
    if precision > 18:
        return f"{value:.{scale}f}".encode()
    return struct.pack("<q", int(value.scaleb(scale)))


def _round(lane: int, word: int) -> int:
    return _rotated((lane + word * _P2) & _MASK, 31) * _P1 & _MASK


def _rotated(value: int, by: int) -> int:
    value &= _MASK
    return (value << by | value >> (64 - by)) & _MASK
