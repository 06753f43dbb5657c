"""What the watch on the landing zone has asked for: path and version of each file."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import uuid4

from headrace.ledger.tables import NAMESPACE
from headrace.warehouse.pool import Borrow
from headrace.warehouse.sessions import Session, advisory_key, ensure_namespace, map_errors

_TABLE = """
create table if not exists platform.seen_file (
    watch text not null,
    path text not null,
    version text not null,
    tick bigint not null,
    primary key (watch, path)
);
comment on table platform.seen_file is
'Files of the landing zone whose days were asked for; one of a tick that its sensor''s cursor has
not reached yet counts as never seen.';
"""


@dataclass(frozen=True)
class SeenMark:
    """How far a watch has come: its cursor.

    Attributes:
        watch: Names the watch since it was begun, or begun anew.
        tick: Its last tick that saw something new.
    """

    watch: str
    tick: int

    @classmethod
    def begin(cls) -> "SeenMark":
        """A watch that has seen nothing."""
        return cls(uuid4().hex[:8], 0)

    @classmethod
    def parse(cls, cursor: str) -> "SeenMark | None":
        """The mark that a cursor holds; None if it holds something else."""
        watch, _, tick = cursor.partition(":")
        return cls(watch, int(tick)) if watch.isalnum() and tick.isdecimal() else None

    def __str__(self) -> str:
        """As a cursor."""
        return f"{self.watch}:{self.tick}"


@dataclass(frozen=True)
class SeenFiles:
    """Reads and writes the table in one warehouse; it is made when first needed."""

    connect: Borrow

    def read(self, mark: SeenMark) -> dict[str, str]:
        """Path to version of all files that a watch has seen up to its mark.

        What a later tick wrote and its cursor never said was not asked for: the tick broke off.
        """
        with map_errors("reading the files seen"), self.connect() as session:
            _ensure_table(session)
            found = session.execute(
                "select path, version from platform.seen_file where watch = %s and tick <= %s",
                (mark.watch, mark.tick),
            )
            return dict(found.fetchall())

    def write(self, mark: SeenMark, seen: Mapping[str, str], deleted: Collection[str]) -> SeenMark:
        """Note files and forget the deleted ones; returns the next mark."""
        after = SeenMark(mark.watch, mark.tick + 1)
        with (
            map_errors("writing the files seen"),
            self.connect() as session,
            session.transaction(),
        ):
            _ensure_table(session)
            session.execute(
                "delete from platform.seen_file where watch = %s and path = any(%s)",
                (mark.watch, [*deleted]),
            )
            session.execute(
                "insert into platform.seen_file (path, version, watch, tick)"
                " select path, version, %s, %s from unnest(%s::text [], %s::text [])"
                " as new (path, version)"
                " on conflict (watch, path) do update set"
                " version = excluded.version, tick = excluded.tick",
                (after.watch, after.tick, [*seen], [*seen.values()]),
            )
        return after


def _ensure_table(session: Session) -> None:
    found = session.execute("select to_regclass('platform.seen_file')").fetchone()
    if found is None or found[0] is None:
        with session.transaction():
            key = advisory_key("namespace", "seen_file")
            session.execute("select pg_advisory_xact_lock(%s)", (key,))
            ensure_namespace(session, NAMESPACE)
            session.execute(_TABLE)
