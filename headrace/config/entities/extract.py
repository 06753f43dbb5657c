"""The base of all models of `extract`: what the platform reads from it, whatever the connector."""

from datetime import date, datetime
from typing import Literal

from pydantic import Field

from headrace.config.model import ColumnName, StrictModel


class Extract(StrictModel):
    """How an entity is read. The models of each connector derive from this one."""

    mode: str = Field(description="How it is read.")
    partition_by: ColumnName | None = Field(
        None, description="Date or timestamp column whose day is the row's partition."
    )

    @property
    def time_columns(self) -> dict[str, str]:
        """Columns that must be dates or timestamps, by the key that names them."""
        return {"extract.partition_by": self.partition_by} if self.partition_by else {}

    @property
    def object_names(self) -> tuple[str, ...]:
        """What it reads of the source, such as the name of a table; () if files say it."""
        return ()

    @property
    def day_of_object(self) -> Literal["name", "rows", "time"]:
        """What determines the day of a row.

        The name of its object, the row itself, or the time at which the object was written or read.
        """
        return "rows" if self.partition_by is not None else "time"

    @property
    def is_typed(self) -> bool:
        """Whether the values of the source have types."""
        return True

    @property
    def tells_new_rows(self) -> bool:
        """Whether its connector finds partitions with new rows (`Connector.pending_partitions`)."""
        return False

    @property
    def is_full_snapshot(self) -> bool:
        """Whether a key that a later capture lacks was deleted."""
        return False

    @property
    def states_deletes(self) -> bool:
        """Whether a row may say that the row of its key was deleted (`_operation`)."""
        return False

    @property
    def null_texts(self) -> tuple[str, ...]:
        """Texts that mean NULL in all columns, besides the empty one."""
        return ()

    @property
    def delimiter(self) -> str:
        """Text between the columns of a corrupt record."""
        return ","

    @property
    def date_fields(self) -> tuple[str, ...]:
        """The strftime patterns in the name of an object, which give the day together."""
        return ()

    @property
    def named_period(self) -> Literal["day", "month", "year"] | None:
        """The shortest period that the name of an object determines; None: not even a year."""
        return None

    @property
    def day_remedy(self) -> str:
        """What to declare if nothing determines the day of a row."""
        return "give the extract partition_by"

    def no_day_of(self, event_time: str) -> str:
        """The error of an entity with an event time if nothing determines the day of a row."""
        return (
            f"extract: give it `partition_by: {event_time}`, since a row's day is that of its "
            "event_time"
        )

    @property
    def expects_any(self) -> bool:
        """Whether it is an error that the source has no object."""
        return False

    def expects_file(self, day: date) -> bool:  # noqa: ARG002
        """Whether a day without a delivery waits for one."""
        return False

    def waits_until(self, day: date) -> datetime | None:  # noqa: ARG002
        """Until when a delivery of `day` is waited for, UTC; None: without a limit."""
        return None

    def deadlines(self) -> str | None:
        """The times at which a delivery is due, UTC, as cron; None: there are none."""
        return None
