"""A table of the lake: staged files go in, published states come out."""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Literal
from uuid import uuid4

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

PARTITION_COLUMN = "_partition_date"

_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NONE: Mapping[str, str] = MappingProxyType({})
_Files = Mapping[date | None, tuple[StagedFile, ...]]


class LakeTable:
    """One Iceberg table by name, whether or not it exists yet. Every call asks the catalog anew."""

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
        """URI of the table's folder; where it will be while it does not exist."""
        table = self.load()
        return table.location() if table else self._connection.default_location(self._identifier)

    def exists(self) -> bool:
        """Whether the table was ever published."""
        return self.load() is not None

    def load(self) -> Table | None:
        """PyIceberg's view of the table now, for what this class does not offer."""
        return self._connection.load(self._identifier)

    def schema(self) -> TableSchema:
        """The columns of the published table.

        Raises:
            UnpublishedTableError: Nothing was ever published to it.
        """
        return table_schema(self.name, self._published().schema())

    def current_snapshot_id(self) -> int | None:
        """The snapshot that readers see now; None while nothing is published."""
        table = self.load()
        snapshot = table.current_snapshot() if table else None
        return snapshot.snapshot_id if snapshot else None

    def snapshot_ids(self) -> list[int]:
        """The current snapshot and those that it came from, newest first, as far as they are kept.

        Empty while nothing is published.
        """
        table = self.load()
        if table is None:
            return []
        return [s.snapshot_id for s in ancestors_of(table.current_snapshot(), table.metadata)]

    def snapshot_properties(self) -> dict[str, str]:
        """What the last publication recorded of itself, Iceberg's own figures among it."""
        table = self.load()
        snapshot = table.current_snapshot() if table else None
        return dict(snapshot.summary.additional_properties) if snapshot and snapshot.summary else {}

    def new_token(self) -> str:
        """A name for one staging that nobody used before; begins with the time (UTC)."""
        return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex}"

    def staging_uri(self, token: str) -> str:
        """The folder where an engine writes what may be published, unseen until it is.

        It lies in the table's own folder, so that publication moves nothing. Partitioned writes
        split it by `_pd`, the day, as `yyyymmdd` or ISO.

        Args:
            token: Names one attempt of one step, and is never used again: the files of a token
                may be published, and writing over them would change what readers see.
        """
        if not _TOKEN.fullmatch(token):
            raise ValueError(f"a staging token is letters, digits, '.', '_' and '-': {token!r}")
        return f"{self.location}/data/{token}"

    def staged(self, token: str) -> dict[date, StagedPartition]:
        """What was written to the `_pd=<day>` folders of a staging, by day.

        Days without rows are left out: whoever publishes says which days were asked for.

        Raises:
            StagedFileRejectedError: A file is broken, or its rows have no day.
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
        """What was written to a staging of a table without partitions.

        Raises:
            StagedFileRejectedError: A file is broken.
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
        """Make the days hold exactly these files, in one commit; all other days stay as they are.

        An empty partition empties its day. Publishing the same files again changes nothing. With
        `rebuild` the table takes the schema as it is, other types under the same names too; the
        days must then be all that are published.

        Raises:
            IncompatibleSchemaError: The table cannot take the schema, or a file does not have it.
            StagedFileRejectedError: A file is broken, or holds rows of another day.
            CommitConflictError: Other runs committed first for two minutes on end.
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
        """Add files to the days, in one commit; a file that the table holds already stays once.

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
        """Make a table without partitions hold exactly these files, in one commit.

        With `rebuild` it takes the schema as it is, other types under the same names too.

        Raises: as `replace` does.
        """
        whole: _Files = {None: tuple(files)}
        return self._publish("replace", whole, schema, properties, rebuild=rebuild)

    def scan(
        self, days: Collection[date] | None = None, *, where: BooleanExpression = EVERYTHING
    ) -> LakeScan:
        """The published state of some days, or of all: pinned, so that later commits do not show.

        Args:
            days: None for all that have rows.
            where: Leaves out files that, by their statistics, have no such row. The files that
                stay have other rows too: ask for the rows again.

        Raises:
            UnpublishedTableError: Nothing was ever published to the table.
        """
        return LakeScan.of(self.name, self._published(), self.storage, days, where)

    def changes_since(self, snapshot_id: int) -> FileChanges | None:
        """Files by which the published state differs from an earlier snapshot's.

        None if that snapshot was expired, or never was one of this table: compare all then.

        Raises:
            UnpublishedTableError: Nothing was ever published to the table.
        """
        return changes_since(self.name, self._published(), self.storage, snapshot_id)

    def _published(self) -> Table:
        table = self.load()
        if table is None:
            raise UnpublishedTableError(
                f"nothing was ever published to {self.name}",
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
        wanted = PublishRequest(mode, files, column, schema, properties, rebuild)
        return publish(self._connection, self._identifier, wanted)


def _by_day(partitions: Mapping[date, StagedPartition]) -> _Files:
    return {day: partition.files for day, partition in partitions.items()}


def _is_hidden(uri: str, folder: str) -> bool:
    names = uri.removeprefix(folder).strip("/").split("/")
    # Spark's _SUCCESS and _temporary; a folder `_x=y` holds rows and must not be lost.
    return any(n.startswith(".") or (n.startswith("_") and "=" not in n) for n in names)


def _day_in(uri: str, folder: str) -> date | None:
    for name in uri.removeprefix(folder).split("/"):
        if name.startswith(DAY_FOLDER):
            # Anything but a day is the engine's name for NULL.
            with suppress(ValueError):
                return date.fromisoformat(name.removeprefix(DAY_FOLDER))
    return None
