"""What the platform asks of an entity's `extract`, whatever its connector."""

from datetime import date, datetime
from typing import Literal

from pydantic import Field

from headrace.config.model import ColumnName, StrictModel


class Extract(StrictModel):
    """How an entity is read. Each connector has its own models, which derive from this one."""

    mode: str = Field(description="How it is read.")
    partition_by: ColumnName | None = Field(
        None, description="Date or timestamp column whose day is the row's partition."
    )

    @property
    def time_columns(self) -> dict[str, str]:
        """Columns that say a time, by the key that names them."""
        return {"extract.partition_by": self.partition_by} if self.partition_by else {}

    @property
    def day_of_object(self) -> Literal["name", "rows", "time"]:
        """What says the day: the name of an object, its rows, or when it was written or read."""
        return "rows" if self.partition_by is not None else "time"

    @property
    def is_typed(self) -> bool:
        """Whether the values of the source have types."""
        return True

    @property
    def tells_new_rows(self) -> bool:
        """Whether its connector says which partitions have new rows (`pending_partitions`)."""
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
        """The strftime patterns by which the name of an object says the day."""
        return ()

    @property
    def named_period(self) -> Literal["day", "month", "year"] | None:
        """The shortest period that the name of an object tells; None: not even a year."""
        return None

    @property
    def day_remedy(self) -> str:
        """What to declare where nothing says the day of a row."""
        return "give the extract partition_by"

    def no_day_of(self, event_time: str) -> str:
        """What is wrong where an entity has an event time and nothing says the day of a row."""
        return (
            f"extract: give it `partition_by: {event_time}`, since a row's day is that of its "
            "event_time"
        )

    @property
    def expects_any(self) -> bool:
        """Whether there must be an object at all."""
        return False

    def expects_file(self, day: date) -> bool:  # noqa: ARG002
        """Whether a day without a delivery waits for one."""
        return False

    def waits_until(self, day: date) -> datetime | None:  # noqa: ARG002
        """Until when a delivery of `day` is waited for, UTC; None: for good."""
        return None

    def deadlines(self) -> str | None:
        """The times at which a delivery is due, UTC, as cron; None where there is no limit."""
        return None
