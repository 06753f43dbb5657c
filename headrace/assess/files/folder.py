"""Folders of files as a source that can be assessed: their entities, headers and sampled rows."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace import progress
from headrace.assess.files.fields import parquet_fields, snake_case, text_fields
from headrace.assess.files.path_templates import PathGroup, common_pattern, group_paths
from headrace.assess.files.text_dialect import Dialect, find_dialect, find_encoding
from headrace.assess.sample_source import (
    DAY,
    OBJECT,
    POSITION,
    FoundEntity,
    TableStatistics,
)
from headrace.config.file_extract import FileExtract
from headrace.config.file_source import FileEntity, FilesSource
from headrace.errors import ConfigError, HeadraceError, SourceRejectedError
from headrace.sources.files.csv_reader import read_csv
from headrace.sources.files.decoding import decompressed, read_chunks
from headrace.sources.files.landing import LocalLanding, StoredFile
from headrace.sources.files.parquet_reader import read_parquet
from headrace.sources.files.path_patterns import is_file_of
from headrace.sources.files.signatures import check_signature, peek

CONNECTORS = {"csv": "files", "parquet": "parquet_files"}

_MAGIC = b"PAR1"
_SNIFFED_BYTES, _TAIL_BYTES = 2**18, 2**15
_MOST_READ_BYTES = 2**26
# Of less, all files are sampled: a key that repeats on a few days is then seen.
_SMALL_BYTES = 2**25
_SNIFFED_FILES, _HEADER_FILES, _SAMPLED_FILES = 6, 400, 24
# Files of one table, one for each region, have at least so many columns in common.
_MERGED_COLUMNS = 4
_GENERIC = {"", "part", "file", "data", "export", "chunk", "out", "output", "dump", "csv"}
# Gaps of so few days are closed days; with more, days without a file are usual.
_CLOSED_SHARE, _MOST_CLOSED = 0.05, 20
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass
class _Group:
    """Files of one entity while it is looked at."""

    paths: PathGroup
    kind: str
    names: tuple[str, ...] = ()
    dialect: Dialect = field(default_factory=Dialect)
    problems: list[str] = field(default_factory=list)


class FolderSource:
    """The files of one kind in a folder."""

    def __init__(
        self,
        root: Path,
        kind: str,
        groups: Sequence[_Group],
        files: Mapping[str, StoredFile],
        prefix: str,
        notes: Sequence[str],
    ) -> None:
        self.connector = CONNECTORS[kind]
        self.title = str(root)
        self.notes = tuple(notes)
        self._landing, self._files, self._prefix = LocalLanding(root), files, prefix
        self._groups = {}
        names: list[str] = []
        for group in groups:
            base = _entity_name(group.paths.pattern, root.name)
            name = next(
                text
                for text in (base, *(f"{base}_{i}" for i in range(2, len(groups) + 2)))
                if text not in names
            )
            names.append(name)
            self._groups[name] = group

    def list_entities(self) -> tuple[FoundEntity, ...]:
        """See SampleSource."""
        found = []
        for number, (name, group) in enumerate(self._groups.items(), start=1):
            found.append(self._found(name, group))
            progress.report("headers", number, len(self._groups))
        return tuple(found)

    def sample_rows(self, entity: FoundEntity, max_rows: int) -> Iterator[pa.RecordBatch]:
        """See SampleSource; rows that no column could be read of have a `_corrupt_reason`."""
        group = self._groups[entity.name]
        size = sum(self._files[path].size_bytes for path in group.paths.paths)
        most = _SAMPLED_FILES if size > _SMALL_BYTES else _HEADER_FILES
        chosen = _spread(group.paths.paths, most)
        config = _untyped(entity, self.connector)
        # Small files first: what they leave of their share is the larger ones'.
        chosen.sort(key=lambda path: self._files[path].size_bytes)
        left = max_rows
        for number, path in enumerate(chosen):
            share = left // (len(chosen) - number)
            try:
                for batch in self._read(path, config, share):
                    some = batch.slice(0, share)
                    share, left = share - some.num_rows, left - some.num_rows
                    yield _with_place(some, path, group.paths.days.get(path))
                    if not share:
                        break
            except HeadraceError as error:
                group.problems.append(f"{error}; {error.fix}")

    def problems_of(self, entity: FoundEntity) -> tuple[str, ...]:
        """What was met while its files were looked at and sampled."""
        return tuple(self._groups[entity.name].problems)

    def statistics(self, entity: FoundEntity) -> TableStatistics:
        """See SampleSource: rows of Parquet files alone, whose footers have them."""
        group = self._groups[entity.name]
        size = sum(self._files[path].size_bytes for path in group.paths.paths)
        if group.kind != "parquet" or len(group.paths.paths) > _HEADER_FILES:
            return TableStatistics(None, size)
        root = self._landing.root
        return TableStatistics(
            sum(pq.read_metadata(root / path).num_rows for path in group.paths.paths), size
        )

    def _read(self, path: str, config: FileEntity, rows: int) -> Iterator[pa.RecordBatch]:
        with (self._landing.root / path).open("rb") as stream:
            if config.extract.is_typed:
                yield from read_parquet(stream, path, config, batch_rows=max(min(rows, 16_384), 1))
            else:
                yield from read_csv(stream, path, config)

    def _found(self, name: str, group: _Group) -> FoundEntity:
        paths = group.paths
        extract: dict[str, Any] = {"mode": "files", "path": f"{self._prefix}{paths.pattern}"}
        if group.kind == "csv" and (form := group.dialect.as_format()):
            extract["format"] = form
        evidence = [f"{len(paths.paths)} {'file' if len(paths.paths) == 1 else 'files'}"]
        evidence += group.dialect.evidence
        options: dict[str, Any] = {}
        if paths.period:
            days = [*paths.days.values()]
            evidence[0] += f", {min(days)} to {max(days)}"
            if paths.period != "day":
                options["partition"] = paths.period
            else:
                arrival, why = _arrival(days)
                extract |= arrival
                evidence += [why] if why else []
            if paths.is_ambiguous:
                group.problems.append(
                    "day and month of the date in the path may be the other way round"
                )
        root, chosen = self._landing.root, _spread(paths.paths, _HEADER_FILES)
        ignored: list[str] = []
        if group.kind == "parquet":
            fields, ignored = parquet_fields(root, chosen, paths.days)
        else:
            fields = text_fields(root, chosen, group.dialect, paths.days)
        if ignored:
            extract["extra_columns"] = "ignore"
        return FoundEntity(
            name=name,
            extract=extract,
            fields=fields,
            is_typed=group.kind == "parquet",
            options=options,
            delimiter=group.dialect.delimiter if group.kind == "csv" else "",
            is_dated=bool(paths.days),
            objects=len(paths.paths),
            evidence=tuple(evidence),
            problems=(*group.problems, *ignored),
            objects_by_day=Counter(paths.days.values()),
        )


def folder_sources(path: Path, prefix: str = "") -> tuple[FolderSource, ...]:
    """A source for each kind of files in a folder, or of one file.

    Args:
        path: The folder or file.
        prefix: What the paths of the landing zone have before those in the folder.

    Raises:
        ConfigError: There is nothing that can be read.
    """
    if not path.exists():
        raise ConfigError(f"{path} is not there", fix="give the path of a folder or of a file")
    root = path if path.is_dir() else path.parent
    listed = LocalLanding(root).list_files()
    if not path.is_dir():
        listed = tuple(file for file in listed if file.path == path.name)
    files = {file.path: file for file in listed}
    kinds, notes = _kinds(root, listed)
    found = []
    for kind in CONNECTORS:
        paths = [name for name, its in kinds.items() if its == kind]
        groups = [_looked_at(group, kind, root) for group in group_paths(paths)]
        if groups:
            merged = _merged([g for g in groups if g.names])
            lost = [g.problems[0] for g in groups if not g.names and g.problems]
            if merged:
                found.append(FolderSource(root, kind, merged, files, prefix, [*notes, *lost]))
            notes += lost if not merged else []
    if not found:
        why = f": {notes[0]}" if notes else ""
        raise ConfigError(
            f"{path}: no delimited text and no Parquet file is here{why}",
            fix="give a folder with CSV or Parquet files, plain or compressed by gzip",
        )
    return tuple(found)


def _kinds(root: Path, listed: Iterable[StoredFile]) -> tuple[dict[str, str], list[str]]:
    """The kind of each file that can be read, and what hinders the others."""
    kinds, notes = {}, []
    for file in listed:
        signs = "".join(sorted({*file.path} & {*"{}*\\"}))
        if problem := file.problem or (signs and f"has {signs} in its name: rename it"):
            notes.append(f"{file.path} {problem}")
            continue
        try:
            with (root / file.path).open("rb") as stream:
                first = stream.read(len(_MAGIC))
                stream.seek(0)
                if first == _MAGIC:
                    kinds[file.path] = "parquet"
                    continue
                chunks = decompressed(read_chunks(stream, 2**16), file.path)
                sample, whole = peek(islice(chunks, 1), 64)
                if sample[:1] in (b"{", b"["):
                    how = "declare it by hand: docs/how-to/read-json-files.md"
                    notes.append(f"{file.path} is JSON, which is not assessed: {how}")
                    continue
                if not sample:
                    notes.append(f"{file.path} is empty")
                    continue
                wide = sample.startswith((b"\xff\xfe", b"\xfe\xff")) or 0 in sample
                check_signature(whole, "utf-16" if wide else "utf-8", file.path)
                kinds[file.path] = "csv"
        except HeadraceError as error:
            notes.append(f"{error}: {error.fix}")
        except OSError as error:
            notes.append(f"{file.path} cannot be read: {error.strerror}")
    return kinds, notes


def _looked_at(paths: PathGroup, kind: str, root: Path) -> _Group:
    group = _Group(paths, kind)
    try:
        if kind == "parquet":
            group.names = tuple(pq.read_schema(root / paths.paths[0]).names)
        else:
            _look_at_text(group, root)
    except (pa.ArrowInvalid, OSError, UnicodeError, EOFError) as error:
        what = type(error).__name__
        group.problems.append(f"{paths.paths[0]} cannot be read ({what}): deliver it again, whole")
    except SourceRejectedError as error:
        group.problems.append(f"{error}: {error.fix}")
    return group


def _look_at_text(group: _Group, root: Path) -> None:
    """Find the dialect by some of the files."""
    encodings: dict[str, str] = {}
    for path in _spread(group.paths.paths, _SNIFFED_FILES):
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
    chosen = _spread(group.paths.paths, _SNIFFED_FILES)
    chosen.sort(key=lambda name: -(root / name).stat().st_size)
    path, found = chosen[0], []
    for name in chosen:
        text, tail, is_whole = _text_of(root / name, encoding)
        found.append(find_dialect(text, tail, is_whole=is_whole))
    dialect = found[0]
    if len({other.delimiter for other in found if len(other.names) > 1}) > 1:
        group.problems.append("files have different delimiters: deliver them with one")
    evidence = (f"encoding: {why}",) if encoding != "utf-8" else ()
    group.dialect = replace(dialect, encoding=encoding, evidence=(*evidence, *dialect.evidence))
    group.names = dialect.names or ()
    if not dialect.names:
        group.problems.append(f"{path} has no rows")


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


def _merged(groups: Sequence[_Group]) -> list[_Group]:
    """The groups, those with the same columns in one folder as one: one file a region, say."""
    alike: dict[tuple[Any, ...], list[_Group]] = defaultdict(list)
    for group in groups:
        folder = str(PurePosixPath(group.paths.pattern).parent)
        fields = tuple(re.findall(r"\{date:[^}]*\}", group.paths.pattern))
        form = group.dialect.as_format() | {"footer": 0}
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


def _is_own(pattern: str, some: Sequence[_Group], groups: Sequence[_Group]) -> bool:
    """Whether a pattern matches the files of some groups and of no other."""
    extract = FileExtract(mode="files", path=pattern)
    return all(
        is_file_of(extract, path) == (group in some)
        for group in groups
        for path in group.paths.paths
    )


def _entity_name(pattern: str, folder: str) -> str:
    """What an entity is called by its files, or by their folder where they have no name."""
    parts = PurePosixPath(pattern).parts
    for part in (*reversed(parts), folder):
        bare = re.sub(r"\.(?:csv|txt|tsv|psv|dat|tab|parquet|parq|pq|snappy|gz)\b", "", part)
        bare = re.sub(r"\w+=(?:\{[^}]*\}|\*|\w+)|\{[^}]*\}|\*", " ", bare)
        words = snake_case(bare, "", most=40).split("_")
        while words and words[-1].strip("0123456789") in _GENERIC:
            words.pop()
        if words:
            return "_".join(words)
    return "rows"


def _arrival(days: Sequence[date]) -> tuple[dict[str, Any], str]:
    """What `extract` says of days without a file, by those that have one."""
    first, last = min(days), max(days)
    every = {first + timedelta(days=n) for n in range((last - first).days + 1)}
    missing = sorted(every - {*days})
    if not missing:
        return (
            ({"missing_file": "empty"}, "one day only: a day without a file is empty")
            if (len({*days}) == 1)
            else ({}, "")
        )
    weekdays = {day.weekday() for day in days}
    outside = [day for day in missing if day.weekday() in weekdays]
    found: dict[str, Any] = {}
    if len(weekdays) < len(_WEEKDAYS) and len({*days}) >= 2 * len(weekdays):
        found["expected_on"] = [_WEEKDAYS[day] for day in sorted(weekdays)]
    else:
        outside = missing
    if len(outside) > min(_MOST_CLOSED, max(_CLOSED_SHARE * len(every), 1)):
        return {"missing_file": "empty"}, f"{len(missing)} of {len(every)} days have no file"
    if outside:
        found["closed_on"] = outside
    return found, f"no file on {len(missing)} of {len(every)} days"


def _untyped(entity: FoundEntity, connector: str) -> FileEntity:
    """The entity with each column as its source has it, for the readers."""
    columns = [
        {"name": f.name, "from": f.source_name, "type": f.type, **f.options} for f in entity.fields
    ]
    config = {
        "name": entity.name,
        "extract": {**entity.extract, "extra_columns": "ignore"},
        "key": [POSITION],
        "columns": columns,
        **entity.options,
    }
    source = {"name": "assessed", "connector": connector, "entities": [config]}
    return FilesSource.model_validate(source).entities[0]


def _with_place(batch: pa.RecordBatch, path: str, day: date | None) -> pa.RecordBatch:
    count = batch.num_rows
    names = [*batch.schema.names, OBJECT, DAY]
    places = [pa.array([path] * count, pa.string()), pa.array([day] * count, pa.date32())]
    columns = [*batch.columns, *places]
    whole = pa.RecordBatch.from_arrays(columns, names=names)
    return whole.drop_columns(["_corrupt_record"])


def _spread(paths: Sequence[str], most: int) -> list[str]:
    """At most so many of the paths, evenly spread, the first and the last among them."""
    if len(paths) <= most:
        return [*paths]
    step = (len(paths) - 1) / (most - 1)
    return [paths[round(i * step)] for i in range(most)]
