"""Files for which the landing sensor has requested a run: path and version of each."""

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
'Files of the landing zone for which the sensor has requested runs. Rows of a tick after the
sensor''s cursor do not count: that tick did not finish.';
"""


@dataclass(frozen=True)
class SeenMark:
    """The landing sensor's cursor.

    Attributes:
        watch: Random name; a reset of the cursor begins a new one.
        tick: Number of the last tick that found new files.
    """

    watch: str
    tick: int

    @classmethod
    def begin(cls) -> "SeenMark":
        """The cursor of a sensor that has seen no file."""
        return cls(uuid4().hex[:8], 0)

    @classmethod
    def parse(cls, cursor: str) -> "SeenMark | None":
        """Parse a cursor; None if it has another form."""
        watch, _, tick = cursor.partition(":")
        return cls(watch, int(tick)) if watch.isalnum() and tick.isdecimal() else None

    def __str__(self) -> str:
        """The cursor as Dagster stores it."""
        return f"{self.watch}:{self.tick}"


@dataclass(frozen=True)
class SeenFiles:
    """Reads and writes the table in one warehouse; creates it on first use."""

    connect: Borrow

    def read(self, mark: SeenMark) -> dict[str, str]:
        """The version of each file seen up to the mark, by path.

        Rows of later ticks are ignored: Dagster did not store their cursor, so their runs were not
        requested.
        """
        with map_errors("reading the files seen"), self.connect() as session:
            _ensure_table(session)
            found = session.execute(
                "select path, version from platform.seen_file where watch = %s and tick <= %s",
                (mark.watch, mark.tick),
            )
            return dict(found.fetchall())

    def write(self, mark: SeenMark, seen: Mapping[str, str], deleted: Collection[str]) -> SeenMark:
        """Record files, and remove deleted ones; returns the next mark."""
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
