"""Rows of JSON Lines and of JSON documents as Arrow batches of text, with bounded memory."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from operator import attrgetter
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.config.sources.file_formats import JsonFormat, JsonLinesFormat, member_path
from headrace.config.sources.file_source import FileEntity
from headrace.errors import SourceRejectedError, shown
from headrace.lineage_schema import POSITION
from headrace.sources.corrupt_rows import CORRUPT_REASON, CORRUPT_RECORD, without_nuls
from headrace.sources.files.json_array import MEMBER_NAME, array_elements, too_long_error
from headrace.sources.files.signatures import check_signature, peek
from headrace.sources.files.text.decoding import (
    CHUNK_BYTES,
    UndecodableTextError,
    as_utf8,
    decompressed,
    other_encoding_error,
    read_chunks,
    undecodable_error,
)
from headrace.sources.landing.landing_zone import ByteStream

NO_JSON = "no valid JSON"
NO_OBJECT = "no JSON object"
TWICE = "a member is there twice"
UNREADABLE = "a number that is too long"

_MARK = b"\xef\xbb\xbf"
_LF, _COLON, _QUOTE, _OPEN, _CLOSE = b'\n:"{}'
_SPACE, _TAB, _CR = b" \t\r"
_IS_BLANK = np.isin(np.arange(256), (_SPACE, _TAB, _CR))
_MOST_BLANKS = 64
_NUL = b"\\u0000"
_TECHNICAL = [(CORRUPT_RECORD, pa.string()), (CORRUPT_REASON, pa.string()), (POSITION, pa.int64())]
_UNSET = msgspec.UNSET
_JSON = (msgspec.DecodeError, RecursionError)
# Members of an object that is flattened, by name: the number of a leaf, or the members below it.
_Tree = dict[str, Any]
# The texts of a leaf, and which records lack it; None if every record has it.
_Texts = tuple[pa.StringArray, npt.NDArray[np.bool_] | None]


def read_json(
    stream: ByteStream,
    path: str,
    entity: FileEntity,
    *,
    day: date | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[pa.RecordBatch]:
    """The rows of a file in its order: the declared columns as text, then technical columns.

    Numbers keep all digits and their form; true and false are texts; an object or array is its
    JSON as in the file; null and a member that a record lacks are NULL. A record that is no valid
    JSON object, has a declared member twice, or has a value other than an object or null where a
    column's path leads through, has its text in `_corrupt_record`. `_source_position` is the line
    of JSON Lines, and the number of the record in a document, from 1.

    Args:
        stream: The file's bytes.
        path: Its name, for errors.
        entity: The columns and the format.
        day: Day of all rows, which decides what columns the file may lack; None if rows have days
            of their own.
        chunk_bytes: How much is read at once.

    Raises:
        SourceRejectedError: The file is not as declared. Names file, line, column and remedy.
        SourceUnavailableError: The connection to the landing zone was lost.
    """
    form = cast("JsonFormat | JsonLinesFormat", entity.extract.format)
    reader = _Reader(entity, path, form, day)
    try:
        content = decompressed(read_chunks(stream, chunk_bytes), path, entity.extract.unpack)
        text = _text(content, form.encoding, path)
        if isinstance(form, JsonFormat):
            lines = array_elements(text, form.steps, path, form.max_record_bytes)
        else:
            lines = whole_lines(text, form.max_record_bytes)
        for block in lines:
            yield from reader.rows_of(block)
    except UndecodableTextError as error:
        raise undecodable_error(error, path, form.encoding) from None
    except UnicodeError:  # Some encodings report no position.
        raise other_encoding_error(path, form.encoding) from None
    reader.check_columns()


def _text(content: Iterator[bytes], declared: str, path: str) -> Iterator[bytes]:
    checked, encoding = check_signature(content, declared, path)
    first, text = peek(as_utf8(checked, encoding), len(_MARK))
    if first == _MARK:
        yield next(text)[len(_MARK) :]
    yield from text


def whole_lines(chunks: Iterable[bytes], most: int) -> Iterator[bytes]:
    """The text in pieces that end with a line end; the last one may be a line that is too long."""
    begun: list[bytes] = []
    size = 0
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join([*begun, chunk[:end]])
            begun, size = [], 0
        if end < len(chunk):
            begun.append(chunk[end:])
            size += len(chunk) - end
        if size > most:
            break
    if begun:
        yield b"".join(begun) + b"\n"


class _NestedValueError(Exception):
    """A leaf has an object or an array. Internal: it is decoded again as raw text."""


@dataclass
class _Leaf:
    """A member that is the value of a column.

    Attributes:
        path: From the record.
        is_raw: Whether it is decoded as JSON text, because some value is an object or array.
        kind: The Arrow type that fitted last.
        is_found: Whether any record has it.
    """

    path: tuple[str, ...]
    is_raw: bool = False
    kind: pa.DataType = pa.string()  # noqa: RUF009  # Arrow's types do not change.
    is_found: bool = False


class _Reader:
    """Turns blocks of lines into batches."""

    def __init__(
        self, entity: FileEntity, path: str, form: JsonFormat | JsonLinesFormat, day: date | None
    ) -> None:
        self._columns = entity.columns
        self._path, self._form, self._day = path, form, day
        self._unit = "record" if isinstance(form, JsonFormat) else "line"
        self._forbids = entity.extract.extra_columns == "fail"
        self._tree: _Tree = {}
        self._leaves: list[_Leaf] = []
        self._of_column: list[list[int]] = []
        for column in self._columns:
            paths = [member_path(name) for name in column.source_names]
            self._of_column.append([self._add(path) for path in paths])
        self._fields = [(column.name, pa.string()) for column in self._columns]
        self._schema = pa.schema([*self._fields, *_TECHNICAL])
        self._decoder = self._new_decoder()
        self._lines = 0
        self._has_rows = False
        self._nested: list[list[Any]] = []

    def rows_of(self, block: bytes) -> Iterator[pa.RecordBatch]:
        """The rows of some lines, each of which has an end."""
        octets = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(octets == _LF)
        starts = np.concatenate(([0], ends[:-1] + 1))
        self._refuse_long(starts, ends)
        starts, stops = _trimmed(octets, starts, ends)
        while True:
            rows, at, bad = self._decoded(block, octets, starts, stops)
            try:
                texts, present, within = self._texts(rows)
            except _NestedValueError:
                self._decoder = self._new_decoder()
            else:
                break
        lines = at if at is not None else np.arange(len(ends))
        doubtful = self._doubtful(octets, ends, lines, present, within)
        twice = [n for n in doubtful if self._has_twice(block[starts[lines[n]] : stops[lines[n]]])]
        positions = pa.array(lines + (self._lines + 1), pa.int64())
        nothing = pa.nulls(len(rows), pa.string())
        read = pa.RecordBatch.from_arrays(
            [*texts, nothing, nothing, positions], schema=self._schema
        )
        if twice:
            is_good = np.ones(len(rows), dtype=bool)
            is_good[twice] = False
            read = read.filter(pa.array(is_good))
            bad += [(int(lines[n]), TWICE) for n in twice]
        if bad:
            read = pa.concat_batches([read, self._corrupt(block, starts, stops, bad)])
            read = read.sort_by(POSITION)
        self._lines += len(ends)
        self._has_rows = self._has_rows or bool(rows)
        if len(read):
            yield without_nuls(read, ",") if _NUL in block else read

    def check_columns(self) -> None:
        """Refuse a column that no record of the file has: its path is wrong, or it was renamed."""
        if not self._has_rows:
            return
        for column, leaves in zip(self._columns, self._of_column, strict=True):
            if not any(self._leaves[n].is_found for n in leaves) and not column.may_lack(self._day):
                raise SourceRejectedError(
                    f"{self._path}: column '{column.source_name}' is missing: no record has it",
                    fix="correct its path (from: address.city); declare its new name (from: [old, "
                    "new]), since when files have it (since: …) or that they may lack it "
                    "(optional: true)",
                )

    def _add(self, path: tuple[str, ...]) -> int:
        node = self._tree
        for step in path[:-1]:
            node = node.setdefault(step, {})
        self._leaves.append(_Leaf(path))
        node[path[-1]] = len(self._leaves) - 1
        return len(self._leaves) - 1

    def _new_decoder(self) -> msgspec.json.Decoder[Any]:
        # float_hook: a number with a fraction or an exponent is its text, with all digits.
        return msgspec.json.Decoder(self._struct(self._tree), float_hook=str)

    def _struct(self, tree: _Tree) -> type:
        fields: list[tuple[str, Any, Any]] = []
        for number, child in enumerate(tree.values()):
            if isinstance(child, dict):
                kind: Any = self._struct(child) | None | msgspec.UnsetType
            else:
                kind = msgspec.Raw if self._leaves[child].is_raw else object
            fields.append((f"f{number}", kind, _UNSET))
        return msgspec.defstruct(
            "Record",
            fields,
            rename={f"f{number}": name for number, name in enumerate(tree)},
            forbid_unknown_fields=self._forbids,
            gc=False,
        )

    def _refuse_long(self, starts: npt.NDArray[np.intp], ends: npt.NDArray[np.intp]) -> None:
        most = self._form.max_record_bytes
        too_long = np.flatnonzero(ends - starts > most)
        if len(too_long):
            raise too_long_error(self._path, self._unit, self._lines + int(too_long[0]) + 1, most)

    def _decoded(
        self,
        block: bytes,
        octets: npt.NDArray[np.uint8],
        starts: npt.NDArray[np.intp],
        stops: npt.NDArray[np.intp],
    ) -> tuple[list[Any], npt.NDArray[np.intp] | None, list[tuple[int, str]]]:
        """The records of some lines.

        Returns:
            The records; the number of the line of each, or None if every line has one; and the bad
            lines with their reasons.
        """
        try:
            rows = self._decoder.decode_lines(block)
        except _JSON:
            rows = []
        # `decode_lines` accepts a line with two objects, and an object over two lines. No object is
        # written as `}` and `{` on the next line, so here each line has one.
        is_object = (octets[starts] == _OPEN) & (octets[stops - 1] == _CLOSE)
        if len(rows) == len(stops) and is_object.all():
            return rows, None, []
        rows, lines, bad = [], [], []
        for number, (start, end) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
            line = block[start:end]
            try:
                rows.append(self._decoder.decode(line))
                lines.append(number)
            except _JSON:
                if line.strip() or self._unit == "record":
                    bad.append((number, self._reason(line, number)))
        return rows, np.array(lines, np.intp), bad

    def _reason(self, line: bytes, number: int) -> str:
        """Why a line is no row.

        Raises:
            SourceRejectedError: It has a member that is not declared.
        """
        try:
            msgspec.json.decode(line, type=msgspec.Raw)
        except _JSON:
            return NO_JSON
        try:
            return self._reason_of(line, self._tree, "", number)
        except _JSON:
            return NO_JSON

    def _reason_of(self, text: bytes, tree: _Tree, name: str, number: int) -> str:
        if not text.lstrip().startswith(b"{"):
            return f"'{name}' is no object" if name else NO_OBJECT
        found = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        if self._forbids and (extra := found.keys() - tree.keys()):
            first = min(extra)
            whole = f"{name}.{first}" if name else first
            raise SourceRejectedError(
                f"{self._path}: {self._unit} {self._lines + number + 1}: column "
                f"'{_shown_name(whole)}' is not declared",
                fix="add it to columns, or declare extra_columns: ignore",
            )
        for member, child in tree.items():
            value = bytes(found[member]) if member in found else b"null"
            if isinstance(child, dict) and value != b"null":
                below = f"{name}.{member}" if name else member
                if (reason := self._reason_of(value, child, below, number)) != UNREADABLE:
                    return reason
        return UNREADABLE

    def _texts(
        self, rows: Sequence[Any]
    ) -> tuple[list[pa.StringArray], npt.NDArray[np.intp], list[list[Any]]]:
        """The columns; how many members each row has; by nested column, its values."""
        found: dict[int, _Texts] = {}
        self._nested = []
        present = np.zeros(len(rows), np.intp)
        self._collect(rows, self._tree, found, present)
        columns = [
            self._merged(column.name, [found[n] for n in leaves])
            for column, leaves in zip(self._columns, self._of_column, strict=True)
        ]
        return columns, present, self._nested

    def _collect(
        self,
        nodes: Sequence[Any],
        tree: _Tree,
        found: dict[int, _Texts],
        present: npt.NDArray[np.intp],
    ) -> None:
        """Add the texts of all leaves below some objects; None and UNSET stand for no object."""
        is_root = tree is self._tree
        for number, child in enumerate(tree.values()):
            get = attrgetter(f"f{number}")
            if is_root:
                values = [*map(get, nodes)]
            else:
                values = [_UNSET if n is None or n is _UNSET else get(n) for n in nodes]
            if isinstance(child, dict):
                present += np.array([value is not _UNSET for value in values], dtype=bool)
                self._collect(values, child, found, present)
                continue
            texts, is_absent = self._leaf_texts(values, self._leaves[child])
            found[child] = texts, is_absent
            present += 1 if is_absent is None else ~is_absent
            if len(nodes) and (is_absent is None or not is_absent.all()):
                self._leaves[child].is_found = True

    def _leaf_texts(self, values: list[Any], leaf: _Leaf) -> _Texts:
        if not leaf.is_raw:
            for kind in dict.fromkeys((leaf.kind, pa.string(), pa.int64(), pa.bool_())):
                try:
                    read = pa.array(values, kind)
                except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
                    continue
                leaf.kind = kind
                return (read if kind == pa.string() else read.cast(pa.string())), None
        kinds = {*map(type, values)}
        if not leaf.is_raw and kinds & {dict, list}:
            leaf.is_raw = True
            raise _NestedValueError
        is_absent = None
        if msgspec.UnsetType in kinds:
            is_absent = np.array([value is _UNSET for value in values], dtype=bool)
        if leaf.is_raw:
            self._nested.append(values)
        text = _raw_text if leaf.is_raw else _scalar_text
        return pa.array([v if type(v) is str else text(v) for v in values], pa.string()), is_absent

    def _merged(self, name: str, found: Sequence[_Texts]) -> pa.StringArray:
        texts, is_absent = found[0]
        for others, are_absent in found[1:]:
            here = np.ones(len(texts), bool) if is_absent is None else ~is_absent
            there = np.ones(len(texts), bool) if are_absent is None else ~are_absent
            if (here & there).any():
                raise SourceRejectedError(
                    f"{self._path}: a record has column '{name}' by two of its names",
                    fix="remove one of them from its `from`, and declare it as a column of its own",
                )
            texts = pc.if_else(pa.array(here), texts, others)
            is_absent = ~(here | there)
        return texts

    def _doubtful(
        self,
        octets: npt.NDArray[np.uint8],
        ends: npt.NDArray[np.intp],
        lines: npt.NDArray[np.intp],
        present: npt.NDArray[np.intp],
        within: Sequence[Sequence[Any]],
    ) -> npt.NDArray[np.intp]:
        """The rows that may have a member twice, which msgspec does not report.

        Every member has a colon, after a quote or after a blank. A row has no member twice if no
        colon follows a blank, and as many colons follow quotes as the row has different members.
        Colons in nested values, which are captured as JSON, are subtracted.
        """
        colons = np.flatnonzero(octets == _COLON)
        before = octets[colons - 1]
        is_member = before == _QUOTE
        is_blank = (before == _SPACE) | (before == _TAB) | (before == _CR)
        if np.count_nonzero(is_member) == present.sum() and not is_blank.any():
            return np.empty(0, np.intp)  # No row has more than its different members.
        members = _per_line(colons[is_member], ends)[lines]
        blank = colons[is_blank]
        if len(blank):
            members = members + len(octets) * (_per_line(blank, ends)[lines] > 0)
        if (members > present).any():
            for values in within:
                texts = (b"" if value is _UNSET else bytes(value) for value in values)
                members = members - np.array([text.count(b'":') for text in texts], np.intp)
        return np.flatnonzero(members > present)

    def _has_twice(self, line: bytes) -> bool:
        def of_pairs(pairs: list[tuple[str, Any]]) -> tuple[list[str], dict[str, Any]]:
            return [name for name, _ in pairs], dict(pairs)

        def has_twice(value: Any, tree: _Tree) -> bool:
            if not isinstance(value, tuple):
                return False
            names, members = value
            declared = [name for name in names if name in tree]
            return len({*declared}) < len(declared) or any(
                has_twice(members.get(name), child)
                for name, child in tree.items()
                if isinstance(child, dict)
            )

        document = json.loads(line, object_pairs_hook=of_pairs, parse_int=str, parse_float=str)
        return has_twice(document, self._tree)

    def _corrupt(
        self,
        block: bytes,
        starts: npt.NDArray[np.intp],
        stops: npt.NDArray[np.intp],
        bad: Sequence[tuple[int, str]],
    ) -> pa.RecordBatch:
        records = [block[starts[n] : stops[n]].decode() for n, _ in bad]
        columns = [pa.nulls(len(bad), kind) for _, kind in self._fields]
        columns += [pa.array(records, pa.string()), pa.array([why for _, why in bad], pa.string())]
        positions = pa.array([self._lines + n + 1 for n, _ in bad], pa.int64())
        return pa.RecordBatch.from_arrays([*columns, positions], schema=self._schema)


def _trimmed(
    octets: npt.NDArray[np.uint8], starts: npt.NDArray[np.intp], ends: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Where the lines begin and end without most of the blanks around them."""
    for _ in range(_MOST_BLANKS):
        is_blank = _IS_BLANK[octets[starts]] & (starts < ends)
        is_last = _IS_BLANK[octets[ends - 1]] & (starts < ends - is_blank)
        if not is_blank.any() and not is_last.any():
            break
        starts, ends = starts + is_blank, ends - is_last
    return starts, ends


def _per_line(places: npt.NDArray[np.intp], ends: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """How many of the places are in each line."""
    return np.bincount(np.searchsorted(ends, places), minlength=len(ends))


def _scalar_text(value: Any) -> str | None:
    if value is None or value is _UNSET:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _raw_text(value: Any) -> str | None:
    if value is _UNSET:
        return None
    text = bytes(value)
    if text.startswith(b'"'):
        return msgspec.json.decode(text, type=str)
    return None if text == b"null" else text.decode()


def _shown_name(name: str) -> str:
    """The name of a member; one that may be data, such as an address, is not shown."""
    return shown(name) if MEMBER_NAME.fullmatch(name) else "…"
