"""Where the records of JSON files are, and which of their members become columns."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from headrace.assess.files.fields import absence, field_names
from headrace.assess.files.forms import FileForm
from headrace.assess.sample_source import SourceField
from headrace.config.sources.file_formats import member_path
from headrace.sources.files.json_array import array_elements
from headrace.sources.files.json_reader import whole_lines
from headrace.sources.files.text.decoding import decompressed, read_chunks

# A document is decoded up to this size to find its records.
_LARGEST_DOCUMENT = 2**26
_RECORD_BYTES = 16 * 2**20
_RECORDS_OF_A_FILE = 5000
# Objects are flattened so deep, and none with more members than this: it is a map of keys.
_DEEPEST, _MOST_MEMBERS = 3, 60
_RARE = 0.02
Member = tuple[str, ...]
_SCALAR, _OBJECT, _ARRAY = "scalar", "object", "array"


@dataclass
class _Members:
    """Members of some records, by their path.

    Attributes:
        kinds: What values they have; null is no value.
        records: How many records have each.
        is_all: Whether every record was looked at.
        count: Records.
    """

    kinds: dict[Member, set[str]] = field(default_factory=dict)
    records: Counter[Member] = field(default_factory=Counter)
    is_all: bool = True
    count: int = 0

    def add(self, record: Mapping[str, Any]) -> None:
        """Count the members of a record."""
        self.count += 1
        for path, kind in _walk(record, ()):
            self.kinds.setdefault(path, set()).update({kind} if kind else ())
            self.records[path] += 1


def kind_of_json(head: bytes, *, is_whole: bool) -> str:
    """`json_lines` if each line of the beginning of a file is an object, else `json`."""
    lines = [line for line in head.splitlines() if line.strip()]
    if not is_whole and len(lines) > 1:
        lines = lines[:-1]  # It may be cut off.
    if len(lines) == 1 and is_whole:
        # One line may be either: a document has its records in an array.
        return "json" if _records_path(_decoded(lines[0])) else "json_lines"
    objects = sum(isinstance(_decoded(line), dict) for line in lines[:20])
    # One line in the middle may be damaged.
    return "json_lines" if objects * 2 > len(lines[:20]) else "json"


def json_form(root: Path, paths: Sequence[str], kind: str, days: Mapping[str, date]) -> FileForm:
    """How JSON files of one entity are read.

    Args:
        root: Their folder.
        paths: Those of them that are looked at.
        kind: `json` or `json_lines`.
        days: By path, the day that a file names.
    """
    form: dict[str, Any] = {"type": kind}
    if kind == "json":
        known = [found for path in paths[:3] if (found := _path_in(root / path))]
        if not known:
            problem = f"{paths[0]}: no array of objects is found in it: declare format.records"
            return FileForm(form, (), problems=(problem,))
        if known[0] != "$":
            form["records"] = known[0]
    members = {path: _members_of(root / path, form) for path in paths}
    columns, left_out = _columns(members.values())
    fields = tuple(_fields(columns, members, days))
    if not fields:
        left_out.append(f"{paths[0]} has no record with a member")
    is_all = all(found.is_all for found in members.values())
    total = sum(found.count for found in members.values())
    evidence = [f"{total:,} records looked at"]
    if "records" in form:
        evidence.append(f"the longest array of objects is {form['records']}")
    if not is_all:
        evidence.append("other records may have further members, which are ignored")
    extract = {"extra_columns": "ignore"} if left_out or not is_all else {}
    return FileForm(form, fields, tuple(evidence), tuple(left_out), extract)


def _fields(
    columns: Sequence[Member], members: Mapping[str, _Members], days: Mapping[str, date]
) -> Iterator[SourceField]:
    total = sum(found.count for found in members.values())
    has = {path: [_written(member) for member in found.records] for path, found in members.items()}
    names = field_names(["_".join(path) for path in columns])
    for member, name in zip(columns, names, strict=True):
        options, why = absence(_written(member), has, days)
        share = sum(found.records[member] for found in members.values()) / max(total, 1)
        if not options and share < _RARE:
            options, why = {"optional": True}, f"{share:.1%} of the records have it"
        kinds = {kind for found in members.values() for kind in found.kinds.get(member, ())}
        if kinds & {_ARRAY, _OBJECT}:
            why = f"{why}, JSON" if why else "JSON"
        yield SourceField(name, _written(member), "string", options, why)


def member_columns(
    records: Iterable[Mapping[str, Any]],
) -> tuple[list[tuple[Member, float]], list[str]]:
    """Members of some records that become columns, with the share of records that have each.

    Returns:
        Also a remark on each that is left out.
    """
    found = _Members()
    for record in records:
        found.add(record)
    columns, left_out = _columns([found])
    return [(path, found.records[path] / found.count) for path in columns], left_out


def _columns(found: Iterable[_Members]) -> tuple[list[Member], list[str]]:
    """Members that become columns, in the order of their first record, and remarks."""
    kinds: dict[Member, set[str]] = {}
    for members in found:
        for path, some in members.kinds.items():
            kinds.setdefault(path, set()).update(some)
    below: Counter[Member] = Counter(path[:-1] for path in kinds)
    whole = {
        path
        for path, some in kinds.items()
        if some - {_OBJECT} or len(path) >= _DEEPEST or not 0 < below[path] <= _MOST_MEMBERS
    }
    columns, left_out = [], []
    for path in kinds:
        is_within = any(path[:n] in whole for n in range(1, len(path)))
        if is_within or path not in whole:
            continue
        if _is_writable(path):
            columns.append(path)
        else:
            left_out.append("a member with ' in its name is left out: no path names it")
    return columns, left_out


def _walk(value: Mapping[str, Any], above: Member) -> Iterator[tuple[Member, str]]:
    for name, inner in value.items():
        path = (*above, name)
        if isinstance(inner, dict):
            yield path, _OBJECT
            if len(path) < _DEEPEST:
                yield from _walk(inner, path)
        else:
            yield path, "" if inner is None else _ARRAY if isinstance(inner, list) else _SCALAR


def _written(path: Member) -> str:
    """A path as a column's `from` has it."""
    plain = ".".join(path)
    if not plain.startswith("$") and all(path) and not any("." in name for name in path):
        return plain
    return "$" + "".join(f"['{name}']" for name in path)


def _is_writable(path: Member) -> bool:
    try:
        return member_path(_written(path)) == path
    except ValueError:
        return False


def _members_of(path: Path, form: Mapping[str, Any]) -> _Members:
    """Members of the first records of a file."""
    found = _Members()
    records = _records_in(path, form)
    for record in islice(records, _RECORDS_OF_A_FILE):
        found.add(record)
    found.is_all = next(records, None) is None
    return found


def _records_in(path: Path, form: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as stream:
        text = _without_mark(decompressed(read_chunks(stream), path.name))
        if form["type"] == "json":
            steps = member_path(str(form.get("records", "$")))
            blocks = array_elements(text, steps, path.name, _RECORD_BYTES)
        else:
            blocks = whole_lines(text, _RECORD_BYTES)
        for block in blocks:
            for line in block.split(b"\n"):
                record = _decoded(line)
                if isinstance(record, dict):
                    yield record


def _without_mark(chunks: Iterator[bytes]) -> Iterator[bytes]:
    first = next(chunks, b"")
    yield first.removeprefix(b"\xef\xbb\xbf")
    yield from chunks


def _path_in(path: Path) -> str:
    """Where the records of a document are; '' if nowhere, or the document is too large to say."""
    with path.open("rb") as stream:
        content = bytearray()
        for chunk in decompressed(read_chunks(stream), path.name):
            content += chunk
            if content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[":
                return "$"
            if len(content) > _LARGEST_DOCUMENT:
                return ""
    return _records_path(_decoded(bytes(content)))


def _records_path(document: Any) -> str:
    """The path of the longest array of objects in a document; '' if there is none."""
    arrays = [*_arrays(document, ())]
    if not arrays:
        return ""
    _, path = max(arrays, key=lambda found: (found[0], -len(found[1])))
    return _written(path) if path else "$"


def _arrays(value: Any, above: Member) -> Iterator[tuple[int, Member]]:
    if isinstance(value, list):
        if any(isinstance(one, dict) for one in value):
            yield len(value), above
    elif isinstance(value, dict) and len(above) < _DEEPEST:
        for name, inner in value.items():
            yield from _arrays(inner, (*above, name))


def _decoded(text: bytes) -> Any:
    """The value of some JSON; None if it is none."""
    try:
        return msgspec.json.decode(text.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
