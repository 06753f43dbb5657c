"""Ranges of IP addresses, IPv4 and IPv6, from a CSV file: what the range of an address has."""

import csv
import ipaddress
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from headrace.config.entities.enrichments import IpRanges
from headrace.enrichment.reference_file import parsed
from headrace.errors import ConfigError

_BOUNDS = ("start", "end")
_FIX = "give it a header with network, such as 10.0.0.0/8, or start and end"
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Ranges:
    """Ranges that do not overlap, by version of IP.

    Attributes:
        names: The columns of the file.
        starts: Ascending; 4 or 6 to the first addresses.
        ends: The last addresses.
        fields: The values of the range's line.
    """

    names: Sequence[str]
    starts: Mapping[int, Sequence[int]]
    ends: Mapping[int, Sequence[int]]
    fields: Mapping[int, Sequence[Sequence[str]]]

    def of(self, address: str) -> Sequence[str] | None:
        """The values of the range that has an address; None without one."""
        try:
            parsed_address = _mapped(ipaddress.ip_address(address))
        except ValueError:
            return None
        version, number = parsed_address.version, int(parsed_address)
        place = bisect_right(self.starts[version], number) - 1
        if place < 0 or number > self.ends[version][place]:
            return None
        return self.fields[version][place]


def load_ranges(path: Path) -> Ranges:
    """The ranges of a file.

    Raises:
        ConfigError: There is no file, a line has no range, or two ranges overlap.
    """
    return parsed(path, _parse)


def require_columns(enrichment: IpRanges, folder: Path) -> None:
    """Refuse a file that lacks a column.

    Raises:
        ConfigError: Names the column.
    """
    path = folder / enrichment.file
    names = load_ranges(path).names
    for name in enrichment.columns.values():
        if name not in names:
            raise ConfigError(
                f"{path}: line 1: has no column '{name}'", fix=f"name one of {', '.join(names)}"
            )


def find_ranges(enrichment: IpRanges, keys: pa.Table, folder: Path) -> pa.Table:
    """The addresses that are in a range, with its values."""
    ranges = load_ranges(folder / enrichment.file)
    places = [ranges.names.index(name) for name in enrichment.columns.values()]
    found = [
        (address, *(fields[i].strip() or None for i in places))
        for address in keys["address"].to_pylist()
        if (fields := ranges.of(address)) is not None
    ]
    names = ["address", *enrichment.columns]
    return pa.table(
        [pa.array([row[i] for row in found], pa.string()) for i in range(len(names))], names
    )


def _mapped(address: _Address) -> _Address:
    """The IPv4 address of an IPv6 address such as ::ffff:192.0.2.1."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _parse(path: Path) -> Ranges:
    try:
        lines = list(csv.reader(path.read_text("utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error):
        raise ConfigError(f"{path}: is no CSV file in UTF-8", fix=_FIX) from None
    names = [name.strip() for name in lines[0]] if lines else []
    if "network" not in names and not {*_BOUNDS} <= {*names}:
        raise ConfigError(f"{path}: line 1: has no network, nor start and end", fix=_FIX)
    found: dict[int, list[tuple[int, int, int]]] = {4: [], 6: []}
    for line, fields in enumerate(lines[1:], start=2):
        if not fields:
            continue
        if len(fields) != len(names):
            raise ConfigError(
                f"{path}: line {line}: has {len(fields)} fields, not {len(names)}", fix=_FIX
            )
        start, end = _range(path, line, dict(zip(names, fields, strict=True)))
        found[start.version].append((int(start), int(end), line))
    for ranges in found.values():
        ranges.sort()
        _require_apart(path, ranges)
    return Ranges(
        names,
        {version: [start for start, _, _ in ranges] for version, ranges in found.items()},
        {version: [end for _, end, _ in ranges] for version, ranges in found.items()},
        {version: [lines[line - 1] for *_, line in ranges] for version, ranges in found.items()},
    )


def _range(path: Path, line: int, fields: Mapping[str, str]) -> tuple[_Address, _Address]:
    place = f"{path}: line {line}"
    if "network" in fields:
        try:
            network = ipaddress.ip_network(fields["network"].strip())
        except ValueError:
            raise ConfigError(
                f"{place}: network: is no network", fix="write it as 10.0.0.0/8 or 2001:db8::/32"
            ) from None
        return _mapped_range(network[0], network[-1])
    bounds = []
    for name in _BOUNDS:
        try:
            bounds.append(ipaddress.ip_address(fields[name].strip()))
        except ValueError:
            raise ConfigError(
                f"{place}: {name}: is no address", fix="write it as 192.0.2.1 or 2001:db8::1"
            ) from None
    start, end = bounds
    if start.version != end.version or int(start) > int(end):
        raise ConfigError(f"{place}: end: lies before start", fix="exchange or correct them")
    return _mapped_range(start, end)


def _mapped_range(start: _Address, end: _Address) -> tuple[_Address, _Address]:
    """The range as IPv4 if all of it is mapped IPv4, because addresses are looked up so."""
    mapped = _mapped(start), _mapped(end)
    return mapped if mapped[0].version == mapped[1].version else (start, end)


def _require_apart(path: Path, ranges: Sequence[tuple[int, int, int]]) -> None:
    for (_, end, line), (start, _, other) in pairwise(ranges):
        if start <= end:
            first, second = sorted((line, other))
            raise ConfigError(
                f"{path}: line {second}: overlaps line {first}",
                fix="leave one range an address, so that one value is found",
            )
