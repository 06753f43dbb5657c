"""Which files of an entity have arrived whole, by their markers or manifests."""

import posixpath
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from headrace.config.sources.file_arrival import ManifestArrival, MarkerArrival
from headrace.config.sources.file_extract import FileExtract
from headrace.config.sources.file_source import FileEntity
from headrace.errors import HeadraceError
from headrace.sources.base import short_id
from headrace.sources.files.path_patterns import days_of_file, is_file_of
from headrace.sources.landing.delivery_manifest import ListedFile, checksum_of, read_manifest
from headrace.sources.landing.landing_zone import Landing, StoredFile
from headrace.sources.landing.zip_landing import delivered_file


@dataclass(frozen=True)
class Arrivals:
    """The result of `arrivals_of`.

    Attributes:
        files: The listing without the files that wait, the markers and the manifests. A file has
            the version of what says that it arrived (`StoredFile.arrival`).
        waiting: By path, why a file of the entity waits.
        held: By day in the name of a manifest, why it is not complete.
        unlisted: Files of the entity that their manifest does not list.
        checksums: By path, the checksum that a manifest states.
    """

    files: tuple[StoredFile, ...]
    waiting: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[date, str] = field(default_factory=dict)
    unlisted: tuple[str, ...] = ()
    checksums: Mapping[str, str] = field(default_factory=dict)

    def without(self, different: Mapping[str, str]) -> "Arrivals":
        """The same without some files; by path, why they wait."""
        files = tuple(file for file in self.files if file.path not in different)
        return replace(self, files=files, waiting={**self.waiting, **different})


def arrival_extracts(extract: FileExtract) -> tuple[FileExtract, ...]:
    """Extracts whose files are the markers or manifests of another's; empty without any."""
    arrival = extract.arrival
    if not isinstance(arrival, MarkerArrival | ManifestArrival):
        return ()
    path = extract.archive_path or extract.path
    # `a.csv.gz` is a file of `a.csv`, and has a marker of its own.
    paths = dict.fromkeys(_filled(arrival.path, path + packed) for packed in ("", ".gz", ".zst"))
    return tuple(extract.model_copy(update={"path": path}) for path in paths)


def is_arrival_file(extract: FileExtract, path: str) -> bool:
    """Whether a path is that of a marker or a manifest of an entity's files."""
    return any(is_file_of(named, path) for named in arrival_extracts(extract))


def arrivals_of(
    extract: FileExtract,
    listing: Sequence[StoredFile],
    landing: Landing,
    captured: Collection[str] = (),
) -> Arrivals:
    """Which of the listed files have arrived. Reads manifests, and no other file.

    Args:
        extract: The entity's.
        listing: Files of the landing zone, markers and manifests among them.
        landing: Where manifests are read.
        captured: Ids of paths of which raw holds a version: they may be gone since.
    """
    if not arrival_extracts(extract):
        return Arrivals(tuple(listing))
    rest = tuple(file for file in listing if not is_arrival_file(extract, file.path))
    own = [file for file in rest if is_file_of(extract, file.path)]
    others = tuple(file for file in rest if not is_file_of(extract, file.path))
    by_path = {_composed(file.path): file for file in listing}
    by_path |= {_composed(d.path): d for d in map(delivered_file, own)}
    if isinstance(extract.arrival, MarkerArrival):
        found = _by_markers(extract, extract.arrival, own, by_path)
    else:
        found = _Manifests(extract, landing, by_path, captured).arrivals(own, listing)
    files = tuple(sorted((*others, *found.files), key=lambda file: file.path))
    return replace(found, files=files)


def arrived_files(
    entities: Iterable[FileEntity], listing: Sequence[StoredFile], landing: Landing
) -> tuple[StoredFile, ...]:
    """The listed files without those that no entity takes as arrived. Checksums are not read."""
    files = {file.path: file for file in listing}
    for extract in (entity.extract for entity in entities if arrival_extracts(entity.extract)):
        arrived = {file.path: file for file in arrivals_of(extract, listing, landing).files}
        for path in [path for path in files if is_file_of(extract, path)]:
            if path in arrived:
                files[path] = arrived[path]
            else:
                del files[path]
    return tuple(files.values())


def different_files(
    landing: Landing, files: Iterable[StoredFile], checksums: Mapping[str, str]
) -> dict[str, str]:
    """By path, why files wait whose bytes have another checksum than the manifest states.

    Raises:
        SourceUnavailableError: A file changed, or the connection was lost.
    """
    found: dict[str, str] = {}
    known: dict[str, str] = {}
    for file in files:
        delivered = delivered_file(file)
        stated = checksums.get(_composed(delivered.path))
        if stated is None:
            continue
        if delivered.path not in known:
            known[delivered.path] = checksum_of(landing, delivered, stated)
        if known[delivered.path] != stated:
            found[file.path] = (
                f"{delivered.path} has another checksum than its manifest states: deliver the "
                "file or the manifest again"
            )
    return found


def marker_of(extract: FileExtract, file: StoredFile) -> str | None:
    """The path of the marker of one file; None if it has none of its own."""
    arrival = extract.arrival
    if not isinstance(arrival, MarkerArrival):
        return None
    is_own = "{path}" in arrival.path or "{name}" in arrival.path
    return _evidence(arrival.path, extract, file) if is_own else None


def _by_markers(
    extract: FileExtract,
    arrival: MarkerArrival,
    own: Sequence[StoredFile],
    by_path: Mapping[str, StoredFile],
) -> Arrivals:
    files, waiting = [], {}
    for file in own:
        delivered = delivered_file(file)
        path = _evidence(arrival.path, extract, file)
        marker = by_path.get(_composed(path))
        if marker is None:
            waiting[file.path] = f"{delivered.path} waits for its marker file {path}"
        elif not _is_after(marker, delivered):
            waiting[file.path] = (
                f"{delivered.path} was written after its marker file {path}: it waits for a new one"
            )
        else:
            files.append(replace(file, arrival=marker.version))
    return Arrivals(tuple(files), waiting)


def _is_after(marker: StoredFile, file: StoredFile) -> bool:
    # Either time may be that of a copy: programs keep the one and cannot keep the other.
    return marker.modified_at >= file.modified_at or marker.arrived_at >= file.arrived_at


class _Manifests:
    """The manifests of an entity's files."""

    def __init__(
        self,
        extract: FileExtract,
        landing: Landing,
        by_path: Mapping[str, StoredFile],
        captured: Collection[str],
    ) -> None:
        self._extract, self._landing = extract, landing
        self._by_path, self._captured = by_path, captured
        self._faults: dict[str, str | None] = {}
        self._listed: dict[str, dict[str, ListedFile]] = {}

    def arrivals(self, own: Sequence[StoredFile], listing: Iterable[StoredFile]) -> Arrivals:
        held: dict[date, str] = {}
        for named in arrival_extracts(self._extract):
            for path in (file.path for file in listing if is_file_of(named, file.path)):
                if fault := self._fault(path):
                    held |= dict.fromkeys(days_of_file(named, path), fault)
        files, waiting, unlisted, checksums = [], {}, [], {}
        for file in own:
            path = _evidence(_manifest(self._extract).path, self._extract, file)
            if fault := self._fault(path):
                waiting[file.path] = fault
                continue
            delivered = _composed(delivered_file(file).path)
            entry = self._listed[path].get(delivered)
            if entry is None:
                unlisted.append(file.path)
                continue
            files.append(replace(file, arrival=self._by_path[_composed(path)].version))
            if entry.checksum is not None:
                checksums[delivered] = entry.checksum
        return Arrivals(tuple(files), waiting, held, tuple(unlisted), checksums)

    def _fault(self, path: str) -> str | None:
        """Why the files of a manifest wait; None if all of them are there as it lists them."""
        if path not in self._faults:
            self._faults[path] = self._checked(path)
        return self._faults[path]

    def _checked(self, path: str) -> str | None:
        manifest = self._by_path.get(_composed(path))
        if manifest is None:
            return f"there is no manifest {path}, which lists the files of the delivery"
        try:
            listed = read_manifest(self._landing, manifest, _manifest(self._extract))
        except HeadraceError as error:
            return f"{error} ({error.fix})"
        self._listed[path] = {_composed(one.path): one for one in listed}
        for one in listed:
            file = self._by_path.get(_composed(one.path))
            if file is None:
                if _path_id(one.path) not in self._captured:
                    return f"the manifest {path} lists {one.path}, which is not there"
            elif one.size_bytes is not None and one.size_bytes != file.size_bytes:
                return (
                    f"{file.path} has {file.size_bytes:,} bytes, and {one.size_bytes:,} in the "
                    f"manifest {path}"
                )
        return None


def _manifest(extract: FileExtract) -> ManifestArrival:
    if not isinstance(extract.arrival, ManifestArrival):
        raise TypeError(f"{extract.path} has no manifest")
    return extract.arrival


def _evidence(pattern: str, extract: FileExtract, file: StoredFile) -> str:
    """The path of the marker or manifest of one file."""
    path = _filled(pattern, delivered_file(file).path)
    day = next(iter(days_of_file(extract, file.path)), None)
    return path if day is None else extract.model_copy(update={"path": path}).path_of(day)


def _filled(pattern: str, path: str) -> str:
    folder, name = posixpath.split(path)
    found = pattern.replace("{path}", path).replace("{name}", name)
    return found.replace("{folder}/", f"{folder}/" if folder else "").replace("{folder}", folder)


def _path_id(path: str) -> str:
    composed = _composed(path)
    return short_id(composed.removesuffix(".gz").removesuffix(".zst"))


def _composed(path: str) -> str:
    return unicodedata.normalize("NFC", path)
