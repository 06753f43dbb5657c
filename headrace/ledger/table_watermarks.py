"""Watermarks of whole tables: which content or snapshot of an upstream table an asset has read."""

from collections.abc import Collection
from dataclasses import dataclass

from headrace.ledger.build_plan import InputVersions
from headrace.ledger.tables import ensure_tables
from headrace.warehouse.pool import Borrow
from headrace.warehouse.sessions import Session, map_errors


@dataclass(frozen=True)
class TableWatermarks:
    """Reads and writes `platform.table_input` and `platform.loaded_snapshot`."""

    connect: Borrow

    def current_versions(self, assets: Collection[str]) -> dict[str, str]:
        """By asset, a hash of the content versions of all its published partitions."""
        with map_errors("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            found = session.execute(
                "select asset, md5(string_agg(concat(partition, ' ', data_version), ','"
                " order by partition)) from platform.partition_ledger"
                " where asset = any(%s) and data_version is not null group by asset",
                ([*assets],),
            )
            return dict.fromkeys(assets, "") | {row[0]: row[1] for row in found}

    def versions_read(self, asset: str) -> dict[str, str]:
        """By whole-table input of an asset, the version that the asset has read."""
        with map_errors("reading the ledger"), self.connect() as session:
            ensure_tables(session)
            found = session.execute(
                "select input, data_version from platform.table_input where asset = %s", (asset,)
            )
            return {row[0]: row[1] for row in found}

    def record_versions_read(self, asset: str, versions: InputVersions) -> None:
        """Record the versions of whole-table inputs that an asset has read."""
        with map_errors("writing the ledger"), self.connect() as session:
            ensure_tables(session)
            session.execute(
                "insert into platform.table_input"
                " select %s, input, data_version from unnest(%s::text [], %s::text [])"
                " as read (input, data_version)"
                " on conflict (asset, input) do update set data_version = excluded.data_version",
                (asset, list(versions), list(versions.values())),
            )

    def loaded_snapshot(self, relation: str) -> int | None:
        """The lake's snapshot that a table of the warehouse holds.

        None if it is unknown, or the table does not exist.

        Args:
            relation: As namespace/name or namespace.name.
        """
        with map_errors("reading the ledger"), self.connect() as session:
            return self.loaded_snapshot_in(session, relation)

    def loaded_snapshot_in(self, session: Session, relation: str) -> int | None:
        """The same, as the transaction of `session` sees it."""
        ensure_tables(session)
        namespace, _, name = _dotted(relation).partition(".")
        row = session.execute(
            "select snapshot_id from platform.loaded_snapshot"
            " where relation = %s and to_regclass(format('%%I.%%I', %s::text, %s::text))"
            " is not null",
            (_dotted(relation), namespace, name),
        ).fetchone()
        return None if row is None else int(row[0])

    def record_loaded_in(
        self, session: Session, relation: str, snapshot_id: int, run_id: str
    ) -> None:
        """Record, in the transaction that loads a table, the snapshot that it then holds."""
        ensure_tables(session)
        session.execute(
            "insert into platform.loaded_snapshot values (%s, %s, %s, statement_timestamp())"
            " on conflict (relation) do update set snapshot_id = excluded.snapshot_id,"
            " run_id = excluded.run_id, loaded_at = excluded.loaded_at",
            (_dotted(relation), snapshot_id, run_id),
        )


def _dotted(relation: str) -> str:
    return relation.replace("/", ".")
