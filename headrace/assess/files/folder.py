"""Folders of files as a source that can be assessed: their entities, headers and sampled rows."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace import progress
from headrace.assess.files.fields import parquet_fields, snake_case, text_fields
from headrace.assess.files.file_groups import FileGroup, forms_of, groups_of, kinds_of, spread
from headrace.assess.files.workbooks import with_days
from headrace.assess.sample_source import (
    POSITION,
    FoundEntity,
    SourceField,
    TableStatistics,
    with_place,
)
from headrace.config.sources.file_source import FileEntity, FilesSource
from headrace.errors import ConfigError, HeadraceError
from headrace.sources.files.connector import reader_of
from headrace.sources.files.parquet_reader import read_parquet
from headrace.sources.landing.landing_zone import LocalLanding, StoredFile

# By connector, the kinds of files that it reads.
CONNECTORS = {
    "files": ("csv", "json_lines", "json", "excel"),
    "parquet_files": ("parquet",),
}

# Of less, all files are sampled: a key that repeats on a few days is then seen.
_SMALL_BYTES = 2**25
_HEADER_FILES, _SAMPLED_FILES = 400, 24
# Workbooks are read whole.
_WORKBOOKS = 6
_GENERIC = {"", "part", "file", "data", "export", "chunk", "out", "output", "dump", "csv"}
# Gaps of so few days are closed days; with more, days without a file are usual.
_CLOSED_SHARE, _MOST_CLOSED = 0.05, 20
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class FolderSource:
    """The files of one kind in a folder."""

    def __init__(
        self,
        root: Path,
        connector: str,
        groups: Sequence[FileGroup],
        files: Mapping[str, StoredFile],
        prefix: str,
        notes: Sequence[str],
    ) -> None:
        self.connector = connector
        self.title = str(root)
        self.options: Mapping[str, Any] = {}
        self.description = f"Files of the folder {root.name}."
        self.notes = tuple(notes)
        self._landing, self._files, self._prefix = LocalLanding(root), files, prefix
        self._groups = {}
        names: list[str] = []
        for group in groups:
            label = snake_case(group.form.label, "", most=40) if group.form else ""
            base = label or _entity_name(group.paths.pattern, root.name)
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
        chosen = spread(group.paths.paths, most)
        config = _untyped(entity, self.connector)
        # Small files first: what they leave of their share is the larger ones'.
        chosen.sort(key=lambda path: self._files[path].size_bytes)
        left = max_rows
        for number, path in enumerate(chosen):
            share = left // (len(chosen) - number)
            try:
                for batch in self._read(path, config, share, group):
                    some = batch.slice(0, share)
                    share, left = share - some.num_rows, left - some.num_rows
                    yield with_place(some, path, group.paths.days.get(path))
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

    def _read(
        self, path: str, config: FileEntity, rows: int, group: FileGroup
    ) -> Iterator[pa.RecordBatch]:
        with (self._landing.root / path).open("rb") as stream:
            if config.extract.is_typed:
                yield from read_parquet(stream, path, config, batch_rows=max(min(rows, 16_384), 1))
                return
            for batch in reader_of(config)(stream, path, config):
                yield with_days(batch, group.form.days) if group.form else batch

    def _found(self, name: str, group: FileGroup) -> FoundEntity:
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
        fields, ignored = self._fields(group, extract)
        if group.form:
            evidence += group.form.evidence
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

    def _fields(
        self, group: FileGroup, extract: dict[str, Any]
    ) -> tuple[tuple[SourceField, ...], list[str]]:
        """The columns, and a remark on each that is left out; adds to `extract` what they need."""
        root, paths = self._landing.root, group.paths
        chosen = spread(paths.paths, _HEADER_FILES)
        if group.kind == "parquet":
            return parquet_fields(root, chosen, paths.days)
        if group.form is None:
            return text_fields(root, chosen, group.dialect, paths.days), []
        most = _WORKBOOKS if group.kind == "excel" else _SAMPLED_FILES
        some = tuple(spread(paths.paths, most))
        if group.kind != "fixed_width" and some != group.looked_at:
            label = group.form.label
            forms = forms_of(group.kind, root, some, paths.days)
            group.form = next((form for form in forms if form.label == label), group.form)
        group.problems += group.form.problems
        extract["format"] = dict(group.form.format)
        extract |= group.form.extract
        return group.form.fields, []


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
    kinds, notes = kinds_of(root, listed)
    found = []
    for connector, its_kinds in CONNECTORS.items():
        its = {name: kind for name, kind in kinds.items() if kind in its_kinds}
        groups, lost = groups_of(root, its)
        if groups:
            found.append(FolderSource(root, connector, groups, files, prefix, [*notes, *lost]))
        notes += lost if not groups else []
    if not found:
        why = f": {notes[0]}" if notes else ""
        raise ConfigError(
            f"{path}: no file is here that can be read as a table{why}",
            fix="give a folder with CSV, JSON, Excel or Parquet files, plain or compressed",
        )
    return tuple(found)


def _entity_name(pattern: str, folder: str) -> str:
    """What an entity is called by its files, or by their folder where they have no name."""
    parts = PurePosixPath(pattern).parts
    for part in (*reversed(parts), folder):
        bare = re.sub(
            r"\.(?:csv|txt|tsv|psv|dat|tab|jsonl?|ndjson|xls[xbm]?|ods|parquet|parq|pq|snappy|gz|zst)\b",
            "",
            part,
        )
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
