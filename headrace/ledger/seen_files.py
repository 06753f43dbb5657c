"""Files for which the landing sensor has requested a run: path and version of each."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import uuid4

from headrace.ledger.tables import NAMESPACE
from headrace.warehouse.pool import Borrow
from headrace.warehouse.sessions import Session, advisory_key, ensure_namespace, map_errors

_TABLE = """
create table if not exists platform.seen_file (
    cursor_id text not null,
    path text not null,
    version text not null,
    tick bigint not null,
    primary key (cursor_id, path)
);
comment on table platform.seen_file is
'Files of the landing zone for which the sensor has requested runs. Rows of a tick after the
sensor''s cursor do not count: that tick did not finish.';
"""
# Tables that were created before the column had this name.
_RENAMED = "alter table platform.seen_file rename column watch to cursor_id"


@dataclass(frozen=True)
class LandingCursor:
    """The landing sensor's cursor, as Dagster stores it: it says which rows of the table count.

    Attributes:
        cursor_id: Random text. After a reset there is another one, so that all files count as new.
        tick: Number of the last tick that found new files.
    """

    cursor_id: str
    tick: int

    @classmethod
    def new(cls) -> "LandingCursor":
        """The cursor of a sensor that has seen no file."""
        return cls(uuid4().hex[:8], 0)

    @classmethod
    def parse(cls, cursor: str) -> "LandingCursor | None":
        """Parse a cursor; None if it has another form."""
        cursor_id, _, tick = cursor.partition(":")
        return cls(cursor_id, int(tick)) if cursor_id.isalnum() and tick.isdecimal() else None

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return f"{self.cursor_id}:{self.tick}"


@dataclass(frozen=True)
class SeenFiles:
    """Reads and writes the table in one warehouse; creates it on first use."""

    connect: Borrow

    def read(self, cursor: LandingCursor) -> dict[str, str]:
        """The version of each file seen up to the cursor's tick, by path.

        Rows of later ticks are ignored: Dagster did not store their cursor, so their runs were not
        requested.
        """
        with map_errors("reading the files seen"), self.connect() as session:
            _ensure_table(session)
            found = session.execute(
                "select path, version from platform.seen_file where cursor_id = %s and tick <= %s",
                (cursor.cursor_id, cursor.tick),
            )
            return dict(found.fetchall())

    def write(
        self, cursor: LandingCursor, seen: Mapping[str, str], deleted: Collection[str]
    ) -> LandingCursor:
        """Record files, and remove deleted ones; returns the next cursor."""
        following = LandingCursor(cursor.cursor_id, cursor.tick + 1)
        with (
            map_errors("writing the files seen"),
            self.connect() as session,
            session.transaction(),
        ):
            _ensure_table(session)
            session.execute(
                "delete from platform.seen_file where cursor_id = %s and path = any(%s)",
                (cursor.cursor_id, [*deleted]),
            )
            session.execute(
                "insert into platform.seen_file (path, version, cursor_id, tick)"
                " select path, version, %s, %s from unnest(%s::text [], %s::text [])"
                " as new (path, version)"
                " on conflict (cursor_id, path) do update set"
                " version = excluded.version, tick = excluded.tick",
                (following.cursor_id, following.tick, [*seen], [*seen.values()]),
            )
        return following


def _ensure_table(session: Session) -> None:
    if "cursor_id" in _columns(session):
        return
    with session.transaction():
        key = advisory_key("namespace", "seen_file")
        session.execute("select pg_advisory_xact_lock(%s)", (key,))
        ensure_namespace(session, NAMESPACE)
        session.execute(_RENAMED if "watch" in _columns(session) else _TABLE)


def _columns(session: Session) -> set[str]:
    found = session.execute(
        "select attname::text from pg_attribute"
        " where attrelid = to_regclass('platform.seen_file') and attnum > 0"
    )
    return {row[0] for row in found}
