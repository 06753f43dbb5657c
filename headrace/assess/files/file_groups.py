"""Groups the files of a folder into entities, by kind, path and columns."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.assess.files.fixed_width import fixed_width_form
from headrace.assess.files.forms import FileForm
from headrace.assess.files.json_records import json_form, kind_of_json
from headrace.assess.files.path_templates import PathGroup, common_pattern, group_paths
from headrace.assess.files.text_dialect import Dialect, find_dialect, find_encoding
from headrace.assess.files.workbooks import workbook_forms
from headrace.config.sources.file_extract import FileExtract
from headrace.errors import HeadraceError, SourceRejectedError
from headrace.sources.files.path_patterns import is_file_of
from headrace.sources.files.signatures import check_signature, peek
from headrace.sources.files.text.decoding import decompressed, read_chunks
from headrace.sources.landing.landing_zone import StoredFile

_MAGIC = b"PAR1"
_WORKBOOKS = (b"xl/", b"opendocument.spreadsheet", b"[Content_Types].xml")
_OLD_WORKBOOK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_SNIFFED_BYTES, _TAIL_BYTES, _KIND_BYTES = 2**18, 2**15, 4096
_MOST_READ_BYTES = 2**26
_SNIFFED_FILES = 6
# Files of one table, one for each region, have at least so many columns in common.
_MERGED_COLUMNS = 4


@dataclass
class FileGroup:
    """Files of one entity while it is looked at."""

    paths: PathGroup
    kind: str
    names: tuple[str, ...] = ()
    dialect: Dialect = field(default_factory=Dialect)
    problems: list[str] = field(default_factory=list)
    # Of files that are neither delimited text nor Parquet, by these of its paths.
    form: FileForm | None = None
    looked_at: tuple[str, ...] = ()


def groups_of(root: Path, kinds: Mapping[str, str]) -> tuple[list[FileGroup], list[str]]:
    """The entities that some files are, and why others are none.

    Args:
        root: Their folder.
        kinds: By path, the kind of a file.
    """
    groups: list[FileGroup] = []
    for kind in dict.fromkeys(kinds.values()):
        for group in group_paths([name for name, its in kinds.items() if its == kind]):
            groups += _looked_at(group, kind, root)
    lost = [g.problems[0] for g in groups if not g.names and g.problems]
    return _merged([g for g in groups if g.names]), lost


def kinds_of(root: Path, listed: Iterable[StoredFile]) -> tuple[dict[str, str], list[str]]:
    """The kind of each file that can be read, and what hinders the others."""
    kinds, notes = {}, []
    for file in listed:
        signs = "".join(sorted({*file.path} & {*"{}*\\"}))
        if problem := file.problem or (signs and f"has {signs} in its name: rename it"):
            notes.append(f"{file.path} {problem}")
            continue
        try:
            if kind := _kind_of(root / file.path, file.path):
                kinds[file.path] = kind
            else:
                notes.append(f"{file.path} is empty")
        except HeadraceError as error:
            notes.append(f"{error}: {error.fix}")
        except OSError as error:
            notes.append(f"{file.path} cannot be read: {error.strerror}")
    return kinds, notes


def _kind_of(path: Path, shown: str) -> str:
    """The kind of a file by its first bytes; '' if it is empty.

    Raises:
        SourceRejectedError: It is none that can be read.
    """
    with path.open("rb") as stream:
        first = stream.read(_KIND_BYTES)
        if first.startswith(_MAGIC):
            return "parquet"
        is_zipped = first.startswith(b"PK") and any(part in first for part in _WORKBOOKS)
        if is_zipped or first.startswith(_OLD_WORKBOOK):
            return "excel"
        stream.seek(0)
        chunks = decompressed(read_chunks(stream, _SNIFFED_BYTES), shown)
        head, whole = peek(chunks, _SNIFFED_BYTES)
        if not head:
            return ""
        start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
        if re.match(rb"\{\s*[\"}]|\[\s*[{\]]", start):
            return kind_of_json(start, is_whole=len(head) < _SNIFFED_BYTES)
        wide = head.startswith((b"\xff\xfe", b"\xfe\xff")) or 0 in head[:64]
        check_signature(whole, "utf-16" if wide else "utf-8", shown)
        return "csv"


def _looked_at(paths: PathGroup, kind: str, root: Path) -> list[FileGroup]:
    """Files with paths of one shape as an entity; the sheets of workbooks as several."""
    group = FileGroup(paths, kind)
    try:
        if kind == "parquet":
            group.names = tuple(pq.read_schema(root / paths.paths[0]).names)
        elif kind == "csv":
            _look_at_text(group, root)
        else:
            some = tuple(spread(paths.paths, _SNIFFED_FILES))
            found = forms_of(kind, root, some, paths.days)
            names = [tuple(field.source_name for field in form.fields) for form in found]
            group.problems += [problem for form in found for problem in form.problems]
            if not found:
                group.problems.append(f"{some[0]}: no sheet has a row of names with rows below it")
            if any(names):
                return [
                    FileGroup(paths, kind, own, form=form, looked_at=some)
                    for form, own in zip(found, names, strict=True)
                ]
    except (pa.ArrowInvalid, OSError, UnicodeError, EOFError) as error:
        what = type(error).__name__
        group.problems.append(f"{paths.paths[0]} cannot be read ({what}): deliver it again, whole")
    except SourceRejectedError as error:
        group.problems.append(f"{error}: {error.fix}")
    return [group]


def forms_of(
    kind: str, root: Path, paths: Sequence[str], days: Mapping[str, date]
) -> tuple[FileForm, ...]:
    """How files are read that are neither delimited text nor Parquet."""
    if kind == "excel":
        return workbook_forms(root, paths, days)
    return (json_form(root, paths, kind, days),)


def _look_at_text(group: FileGroup, root: Path) -> None:
    """Find the dialect by some of the files."""
    encodings: dict[str, str] = {}
    for path in spread(group.paths.paths, _SNIFFED_FILES):
        with (root / path).open("rb") as stream:
            chunks = decompressed(read_chunks(stream), path)
            encoding, why = find_encoding(islice(chunks, _MOST_READ_BYTES // 2**20))
        if "ASCII" not in why or not encodings:
            if [*encodings.values()] == ["all bytes are ASCII"]:
                encodings.clear()
            encodings[encoding] = why
    encoding, why = next(iter(encodings.items()))
    if len(encodings) > 1:
        group.problems.append(
            f"files have different encodings ({', '.join(encodings)}): deliver them in one"
        )
    # The largest has the most rows to conclude from.
    chosen = spread(group.paths.paths, _SNIFFED_FILES)
    chosen.sort(key=lambda name: -(root / name).stat().st_size)
    path = chosen[0]
    texts = [_text_of(root / name, encoding) for name in chosen]
    if _has_no_delimiter(texts[0][0]) and (form := fixed_width_form(texts[0][0], encoding)):
        group.kind, group.form = "fixed_width", form
        group.names = tuple(one.name for one in form.fields)
        return
    found = [find_dialect(text, tail, is_whole=is_whole) for text, tail, is_whole in texts]
    dialect = found[0]
    if len({other.delimiter for other in found if len(other.names) > 1}) > 1:
        group.problems.append("files have different delimiters: deliver them with one")
    evidence = (f"encoding: {why}",) if encoding != "utf-8" else ()
    group.dialect = replace(dialect, encoding=encoding, evidence=(*evidence, *dialect.evidence))
    group.names = dialect.names or ()
    if not dialect.names:
        group.problems.append(f"{path} has no rows")


def _has_no_delimiter(text: str) -> bool:
    """Whether none of the usual delimiters is in most lines."""
    lines = [line for line in text.splitlines() if line.strip()][:200]
    return all(sum(sign in line for line in lines) * 2 < len(lines) for sign in ";\t|,")


def _text_of(path: Path, encoding: str) -> tuple[str, str, bool]:
    """The beginning of a file as whole lines, its last lines, and whether the first is all."""
    with path.open("rb") as stream:
        chunks = decompressed(read_chunks(stream, _SNIFFED_BYTES), path.name)
        head, _ = peek(chunks, _SNIFFED_BYTES)
        is_whole = len(head) < _SNIFFED_BYTES
        stream.seek(0)
        is_plain = stream.read(16) == head[:16]
        tail = b""
        if not is_whole and is_plain:
            stream.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
            tail = stream.read()
    text = head.decode(encoding, "ignore").removeprefix("\ufeff")
    if not is_whole:
        text = text[: text.rfind("\n") + 1]
    if encoding.startswith("utf-16"):
        tail = b""
    return text, tail.decode(encoding, "ignore").partition("\n")[2], is_whole


def _merged(groups: Sequence[FileGroup]) -> list[FileGroup]:
    """The groups, those with the same columns in one folder as one: one file a region, say."""
    alike: dict[tuple[Any, ...], list[FileGroup]] = defaultdict(list)
    for group in groups:
        folder = str(PurePosixPath(group.paths.pattern).parent)
        fields = tuple(re.findall(r"\{date:[^}]*\}", group.paths.pattern))
        form: Mapping[str, Any] = group.dialect.as_format() | {"footer": 0}
        if group.form:
            form = {**group.form.format, "": group.form.label}
        alike[folder, fields, group.kind, group.names, str(form)].append(group)
    merged = []
    for some in alike.values():
        pattern = common_pattern([group.paths.pattern for group in some])
        is_narrow = len(some[0].names) < _MERGED_COLUMNS
        if len(some) == 1 or is_narrow or not _is_own(pattern, some, groups):
            merged += some
            continue
        paths = PathGroup(
            pattern,
            tuple(sorted(path for group in some for path in group.paths.paths)),
            {path: day for group in some for path, day in group.paths.days.items()},
            some[0].paths.period,
            any(group.paths.is_ambiguous for group in some),
        )
        merged.append(replace(some[0], paths=paths))
    return sorted(merged, key=lambda group: group.paths.pattern)


def _is_own(pattern: str, some: Sequence[FileGroup], groups: Sequence[FileGroup]) -> bool:
    """Whether a pattern matches the files of some groups and of no other."""
    extract = FileExtract(mode="files", path=pattern)
    return all(
        is_file_of(extract, path) == (group in some)
        for group in groups
        for path in group.paths.paths
    )


def spread(paths: Sequence[str], most: int) -> list[str]:
    """At most so many of the paths, evenly spread, the first and the last among them."""
    if len(paths) <= most:
        return [*paths]
    step = (len(paths) - 1) / (most - 1)
    return [paths[round(i * step)] for i in range(most)]
