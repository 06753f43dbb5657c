"""The storage of the lake's files: a local folder or an S3 prefix."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from headrace.errors import ConfigError

A = TypeVar("A")
B = TypeVar("B")

# Staged files are split by a copy of the partition column: a split by the column itself removes it
# from the files, and Iceberg would read NULL.
DAY_FOLDER = "_pd="

# An object store responds in 5-50 ms and serves many requests in parallel; a disk does not.
REMOTE_THREADS = 16
LOCAL_THREADS = 4
# One listing returns up to 1,000 names, so it is faster than single requests from a few files on.
_LIST_FROM = 8


@dataclass(frozen=True)
class S3Access:
    """An S3 endpoint; without keys, the machine's own credentials are used."""

    endpoint: str | None = None
    region: str = "us-east-1"
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class LakeSettings:
    """The location of the lake and its catalog.

    Attributes:
        catalog_uri: URL of the Postgres database that holds the Iceberg catalog.
        location: A local folder, or `s3://bucket/prefix`.
        s3: Access to the bucket; unused with a local folder.
        catalog_name: Name of the catalog in its database; Spark's JDBC catalog must use the same.
    """

    catalog_uri: str = field(repr=False)
    location: str
    s3: S3Access = S3Access()
    catalog_name: str = "lake"

    @cached_property
    def root(self) -> str:
        """`location` as a URI without a trailing slash.

        Raises:
            ConfigError: It is neither a folder nor an S3 prefix, or has characters that engines
                escape differently.
        """
        parts = urlsplit(self.location)
        # Engines disagree about percent-encoding in URIs: names that need it are refused.
        if set(self.location) & set("%#?"):
            raise ConfigError(
                f"the lake's path '{self.location}' has a '%', '#' or '?'",
                fix="use a folder whose path has none of them",
            )
        if parts.scheme == "s3" and parts.netloc:
            return self.location.rstrip("/")
        if parts.scheme not in {"", "file"}:
            raise ConfigError(
                f"the lake cannot be in '{self.location}'",
                fix="use a folder or s3://bucket/prefix",
            )
        return f"file://{Path(parts.path).expanduser().absolute()}"


@dataclass(frozen=True)
class LakeFile:
    """One file of the lake; `modified_at` is UTC."""

    uri: str
    size_bytes: int
    modified_at: datetime


class Storage:
    """Files by URI. It connects on first use; safe to share between threads."""

    def __init__(self, settings: LakeSettings) -> None:
        self._settings = settings
        self.is_remote = settings.root.startswith("s3://")
        self._prefix = "s3://" if self.is_remote else "file://"

    def __repr__(self) -> str:
        return f"Storage({self._settings.root!r})"

    @cached_property
    def filesystem(self) -> fs.FileSystem:
        """The storage as an Arrow file system."""
        if not self.is_remote:
            return fs.LocalFileSystem()
        s3, scheme, endpoint = self._settings.s3, None, None
        if s3.endpoint:
            scheme, _, endpoint = s3.endpoint.partition("://")
        return fs.S3FileSystem(
            access_key=s3.access_key_id,
            secret_key=s3.secret_access_key,
            region=s3.region,
            scheme=scheme,
            endpoint_override=endpoint,
        )

    def path(self, uri: str) -> str:
        """The path of `uri` in the file system."""
        if not uri.startswith(self._prefix):
            # PyIceberg and Spark also write plain paths and file:/x for local files.
            return urlsplit(uri).path if uri.startswith(("/", "file:")) else uri
        return uri.removeprefix(self._prefix)

    def open(self, uri: str) -> pa.NativeFile:
        """Open a file for random reads; FileNotFoundError if it does not exist."""
        return self.filesystem.open_input_file(self.path(uri))

    def list_files(self, folder: str) -> tuple[LakeFile, ...]:
        """All files under `folder`, at any depth, by name; none if it does not exist."""
        selector = fs.FileSelector(self.path(folder), recursive=True, allow_not_found=True)
        found = (entry for entry in self.filesystem.get_file_info(selector) if entry.is_file)
        stored = (LakeFile(self._prefix + e.path, e.size, e.mtime) for e in found)
        return tuple(sorted(stored, key=lambda file: file.uri))

    def sizes(self, uris: Collection[str]) -> dict[str, int]:
        """Size in bytes of each of `uris` that exists."""
        if not self.is_remote:
            return self._sizes_by_request(list(uris))
        by_folder: dict[str, list[str]] = defaultdict(list)
        for uri in uris:
            by_folder[_staging_folder(uri)].append(uri)
        listed = [folder for folder, group in by_folder.items() if len(group) >= _LIST_FROM]
        requested = set(uris)
        sizes = {
            file.uri: file.size_bytes
            for files in self.in_parallel(self.list_files, listed)
            for file in files
            if file.uri in requested
        }
        others = [uri for f in by_folder.keys() - set(listed) for uri in by_folder[f]]
        for found in self.in_parallel(self._sizes_by_request, [[uri] for uri in others]):
            sizes |= found
        return sizes

    def delete(self, uris: Iterable[str]) -> None:
        """Delete files; no error for one that does not exist."""

        def remove(uri: str) -> None:
            try:
                self.filesystem.delete_file(self.path(uri))
            except FileNotFoundError:
                return

        self.in_parallel(remove, list(uris))

    def in_parallel(self, work: Callable[[A], B], arguments: Sequence[A]) -> list[B]:
        """Results of `work` in the order of `arguments`, on several threads."""
        with ThreadPoolExecutor(REMOTE_THREADS if self.is_remote else LOCAL_THREADS) as pool:
            return list(pool.map(work, arguments))

    def _sizes_by_request(self, uris: Sequence[str]) -> dict[str, int]:
        entries = self.filesystem.get_file_info([self.path(uri) for uri in uris])
        return {u: entry.size for u, entry in zip(uris, entries, strict=True) if entry.is_file}


def _staging_folder(uri: str) -> str:
    """The folder of a staging, for a file in it or in one of its day folders."""
    folder, _, _ = uri.rpartition("/")
    above, _, name = folder.rpartition("/")
    return above if name.startswith(DAY_FOLDER) else folder
