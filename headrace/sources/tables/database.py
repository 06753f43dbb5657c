"""What a database does for the connector of tables: the part that differs between products."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

import pyarrow as pa

from headrace.errors import HeadraceError

Days = tuple[date, date]
# A value of a cursor: an instant, or an id.
Position = datetime | int


@dataclass(frozen=True)
class Selection:
    """Rows of a relation.

    Attributes:
        columns: Names of declared columns, in the order in which they are read.
        days: Half-open ranges of days by `partition_by`; None: rows of all days.
        with_undated: Whether rows without a day belong to it: NULL, infinity, before year 1 and
            after 9999.
        since: Rows whose cursor is at or after it, or NULL; None: all rows.
        snapshot: See `HeldSnapshot`; None: the rows are of a snapshot of their own.
        is_large: Whether it may be worth a process of its own.
        is_sorted: Whether rows are read in the order of the key: equal contents are then equal in
            their order.
    """

    columns: tuple[str, ...]
    days: tuple[Days, ...] | None = None
    with_undated: bool = False
    since: Position | None = None
    is_sorted: bool = False
    snapshot: str | None = None
    is_large: bool = False


@dataclass(frozen=True)
class Pending:
    """Rows of one day that a capture may have to read.

    Attributes:
        rows: How many.
        first: The least cursor among them; None: it is NULL in all, or infinite.
        last: The greatest id among them; None of a cursor that is a time.
        digest: Differs when a value differs, of rows with an increasing id when an id does.
    """

    rows: int
    first: Position | None
    digest: str
    last: int | None = None


@dataclass(frozen=True)
class Horizon:
    """Up to when no row can come any more, as the server knows it.

    Attributes:
        now: The server's clock.
        oldest: When the oldest transaction began that may still write; None: there is none.
        sees_all: Whether the transactions of all users are seen.
        is_held: Whether there is a transaction of which nobody knows when it began (a prepared
            one): the watermark must not advance.
        remedy: What lets the user see the transactions of all users.
    """

    now: datetime
    oldest: datetime | None = None
    sees_all: bool = True
    is_held: bool = False
    remedy: str = ""


class Snapshot(Protocol):
    """A look at the relation: every answer is of one moment."""

    def horizon(self) -> Horizon:
        """Of a moment before the look began."""
        ...

    def pending(self, since: Position | None) -> Mapping[date | None, Pending]:
        """Rows whose cursor is at or after `since` or NULL, by day; None: rows without a day."""
        ...

    def counted(self, selection: Selection) -> Mapping[date | None, Pending]:
        """Number of rows of a selection by day; None: rows without a day. Reads no values."""
        ...

    def is_indexed(self, column: str) -> bool:
        """Whether rows are found by a declared column without a scan of the table."""
        ...

    def later(self) -> datetime:
        """A moment after the look began, by the server's clock."""
        ...


@dataclass(frozen=True)
class HeldSnapshot:
    """A snapshot that several sessions read, as long as it is held.

    Attributes:
        id: The server's name of it; None: the server has no such thing.
        release: Ends the session that holds it.
    """

    id: str | None
    release: Callable[[], None]


class Database(Protocol):
    """One relation of a database: a table, a view or a query.

    Every method raises SourceUnavailableError where a retry may help, otherwise
    SourceRejectedError. No message has the URL, a value or the driver's text.
    """

    @property
    def label(self) -> str:
        """The relation's name in `_source_object` and in errors."""
        ...

    def check(self) -> None:
        """Check that the declared columns are there and have the declared types."""
        ...

    def columns(self) -> Mapping[str, str]:
        """The relation's columns as they are now, and their types; see FoundColumn."""
        ...

    def faults(self, found: Mapping[str, str]) -> Iterator[tuple[str, HeadraceError]]:
        """What does not fit `columns`: the path below the entity, and the error."""
        ...

    def relations(self) -> list[str]:
        """Names that `table` may have, as far as the user sees them."""
        ...

    def look(self) -> AbstractContextManager[Snapshot]:
        """Look at the relation; ends the session afterwards."""
        ...

    @property
    def sessions(self) -> int:
        """How many sessions may read at a time."""
        ...

    def hold(self) -> HeldSnapshot:
        """Hold a snapshot until it is released."""
        ...

    def read(self, selection: Selection) -> Iterator[pa.RecordBatch]:
        """Rows in one snapshot, with the memory of a few batches.

        Returns:
            Batches as `Connector.read` gives them.
        """
        ...


def ranges_of(days: Sequence[date], ends: Mapping[date, date]) -> tuple[Days, ...]:
    """Half-open ranges that cover periods, adjacent ones joined.

    Args:
        days: First days of the periods.
        ends: By first day, the day after the period.
    """
    found: list[Days] = []
    for start in sorted(days):
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], ends[start])
        else:
            found.append((start, ends[start]))
    return tuple(found)
