"""A table of the lake: publishes staged files, and scans published states."""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import date
from types import MappingProxyType
from typing import Literal

from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table
from pyiceberg.table.snapshots import ancestors_of

from headrace.errors import StagedFileRejectedError, UnpublishedTableError
from headrace.lake.changes import FileChanges, changes_since
from headrace.lake.commit import Commit, PublishRequest, publish
from headrace.lake.connection import LakeConnection
from headrace.lake.parquet_files import read_staged_file
from headrace.lake.scan import EVERYTHING, LakeScan
from headrace.lake.schema import table_schema
from headrace.lake.storage import DAY_FOLDER, LakeFile
from headrace.schema import TableSchema
from headrace.staged import StagedFile, StagedPartition

_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NONE: Mapping[str, str] = MappingProxyType({})
_Files = Mapping[date | None, tuple[StagedFile, ...]]


class LakeTable:
    """One Iceberg table by name, which need not exist. Every call reads the catalog."""

    def __init__(
        self, connection: LakeConnection, namespace: str, name: str, partition_column: str
    ) -> None:
        self.name = f"{namespace}.{name}"
        self.partition_column = partition_column
        self.storage = connection.storage
        self._connection = connection
        self._identifier = (namespace, name)

    def __repr__(self) -> str:
        return f"LakeTable({self.name!r})"

    @property
    def location(self) -> str:
        """URI of the table's folder, also before the table exists."""
        table = self.load()
        return table.location() if table else self._connection.default_location(self._identifier)

    def exists(self) -> bool:
        """Whether the table exists."""
        return self.load() is not None

    def load(self) -> Table | None:
        """The current table as PyIceberg's object; None if it does not exist."""
        return self._connection.load(self._identifier)

    def schema(self) -> TableSchema:
        """The columns of the published table.

        Raises:
            UnpublishedTableError: The table does not exist.
        """
        return table_schema(self.name, self._published().schema())

    def current_snapshot_id(self) -> int | None:
        """The current snapshot; None before the first publication."""
        table = self.load()
        snapshot = table.current_snapshot() if table else None
        return snapshot.snapshot_id if snapshot else None

    def snapshot_ids(self) -> list[int]:
        """The current snapshot and its ancestors that are not expired, newest first.

        Empty before the first publication.
        """
        table = self.load()
        if table is None:
            return []
        return [s.snapshot_id for s in ancestors_of(table.current_snapshot(), table.metadata)]

    def snapshot_properties(self) -> dict[str, str]:
        """The properties of the current snapshot: the publication's and Iceberg's figures."""
        table = self.load()
        snapshot = table.current_snapshot() if table else None
        return dict(snapshot.summary.additional_properties) if snapshot and snapshot.summary else {}

    def staging_uri(self, token: str) -> str:
        """The folder for staged files, which readers do not see.

        It lies in the table's folder, so that a publication moves no files. Files of a day are in
        its subfolder `_pd=<day>`; the day is `yyyymmdd` or ISO.

        Args:
            token: From `new_token` of `headrace.staged`. It must be unique: files of an earlier
                staging may be published, and overwriting them would change published rows.
        """
        if not _TOKEN.fullmatch(token):
            raise ValueError(f"a staging token is letters, digits, '.', '_' and '-': {token!r}")
        return f"{self.location}/data/{token}"

    def staged(self, token: str) -> dict[date, StagedPartition]:
        """The staged files of the `_pd=<day>` folders, by day; days without rows are omitted.

        Raises:
            StagedFileRejectedError: A file is corrupt, or its rows have no day.
        """
        files: dict[date, list[StagedFile]] = {}
        for day, file in self._read_staging(token):
            if day is None:
                raise StagedFileRejectedError(
                    f"{self.name}: {file.rows} staged rows have no {self.partition_column}: "
                    f"{file.path}",
                    fix=f"fill {self.partition_column}, or quarantine the rows",
                )
            files.setdefault(day, []).append(file)
        return {day: StagedPartition(day, tuple(files[day])) for day in sorted(files)}

    def staged_files(self, token: str) -> tuple[StagedFile, ...]:
        """The staged files of a table without partitions.

        Raises:
            StagedFileRejectedError: A file is corrupt.
        """
        return tuple(file for _, file in self._read_staging(token))

    def replace(
        self,
        partitions: Mapping[date, StagedPartition],
        *,
        schema: TableSchema,
        properties: Mapping[str, str] = _NONE,
        rebuild: bool = False,
    ) -> Commit:
        """Overwrite the days with these files, in one commit; other days are unchanged.

        An empty partition empties its day. Publishing the same files again changes nothing.
        `rebuild` replaces the table's schema, also with incompatible types; the days must then
        include all published days.

        Raises:
            IncompatibleSchemaError: The schema is incompatible with the table, or a file with it.
            StagedFileRejectedError: A file is corrupt, or has rows of another day.
            CommitConflictError: Conflicts with other runs for two minutes.
            CatalogUnavailableError: The catalog's database does not answer.
        """
        return self._publish("replace", _by_day(partitions), schema, properties, rebuild=rebuild)

    def append(
        self,
        partitions: Mapping[date, StagedPartition],
        *,
        schema: TableSchema,
        properties: Mapping[str, str] = _NONE,
    ) -> Commit:
        """Add files to the days, in one commit; files that are published already are skipped.

        Raises: as `replace` does.
        """
        return self._publish("append", _by_day(partitions), schema, properties)

    def overwrite(
        self,
        files: Sequence[StagedFile],
        *,
        schema: TableSchema,
        properties: Mapping[str, str] = _NONE,
        rebuild: bool = False,
    ) -> Commit:
        """Overwrite a table without partitions with these files, in one commit.

        `rebuild` replaces the table's schema, also with incompatible types.

        Raises: as `replace` does.
        """
        whole: _Files = {None: tuple(files)}
        return self._publish("replace", whole, schema, properties, rebuild=rebuild)

    def scan(
        self, days: Collection[date] | None = None, *, where: BooleanExpression = EVERYTHING
    ) -> LakeScan:
        """The published state of some days, or of all, in the current snapshot.

        Args:
            days: None for all days with rows.
            where: Skips files whose bounds exclude it. The rows of the remaining files are not
                filtered.

        Raises:
            UnpublishedTableError: The table does not exist.
        """
        return LakeScan.of(self.name, self._published(), self.storage, days, where)

    def changes_since(self, snapshot_id: int) -> FileChanges | None:
        """The files by which the current snapshot differs from an earlier one.

        None if the earlier snapshot is expired or unknown.

        Raises:
            UnpublishedTableError: The table does not exist.
        """
        return changes_since(self.name, self._published(), self.storage, snapshot_id)

    def _published(self) -> Table:
        table = self.load()
        if table is None:
            raise UnpublishedTableError(
                f"{self.name} does not exist: nothing was published to it",
                fix="run the step that publishes it first",
            )
        return table

    def _read_staging(self, token: str) -> list[tuple[date | None, StagedFile]]:
        folder, storage = self.staging_uri(token), self.storage
        stored = [f for f in storage.list_files(folder) if not _is_hidden(f.uri, folder)]

        def read(file: LakeFile) -> tuple[date | None, StagedFile]:
            return _day_in(file.uri, folder), read_staged_file(storage, file)

        return [(day, file) for day, file in storage.in_parallel(read, stored) if file.rows]

    def _publish(
        self,
        mode: Literal["replace", "append"],
        files: _Files,
        schema: TableSchema,
        properties: Mapping[str, str],
        *,
        rebuild: bool = False,
    ) -> Commit:
        column = None if None in files else self.partition_column
        request = PublishRequest(mode, files, column, schema, properties, rebuild)
        return publish(self._connection, self._identifier, request)


def _by_day(partitions: Mapping[date, StagedPartition]) -> _Files:
    return {day: partition.files for day, partition in partitions.items()}


def _is_hidden(uri: str, folder: str) -> bool:
    names = uri.removeprefix(folder).strip("/").split("/")
    # Such as Spark's _SUCCESS and _temporary. A folder of a partitioned write, `_x=y`, has rows.
    return any(n.startswith(".") or (n.startswith("_") and "=" not in n) for n in names)


def _day_in(uri: str, folder: str) -> date | None:
    for name in uri.removeprefix(folder).split("/"):
        if name.startswith(DAY_FOLDER):
            # Other values are the engine's name for NULL.
            with suppress(ValueError):
                return date.fromisoformat(name.removeprefix(DAY_FOLDER))
    return None
