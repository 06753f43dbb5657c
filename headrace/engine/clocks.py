"""Local times and instants of a time zone, the same on both engines.

Belongs here: which instant a local time is, which local day an instant lies on.
Elsewhere: reading texts (headrace.engine.functions), what is compared (headrace.star).

Where clocks are put back, a local time happens twice: it is the first of the two instants. Where
they are put forward, an hour of local times never happens: `instant_of_local` is NULL then, and
`moment_of_local` the time that clocks show instead, an hour later.
"""

from pyspark.sql import Column
from pyspark.sql import functions as F

# Of all systems that read the tables.
_LAST_YEAR = 9999


def instant_of_local(local: Column, timezone: str) -> Column:
    """The instant at which clocks of a zone show a `timestamp_ntz`; NULL if they never do."""
    utc = F.to_utc_timestamp(local, timezone)
    is_shown = F.from_utc_timestamp(utc, timezone).cast("timestamp_ntz") == local
    return F.when(is_shown & (F.year(utc) <= _LAST_YEAR), utc).cast("timestamp")


def moment_of_local(local: Column, timezone: str | None) -> Column:
    """UTC, as `timestamp_ntz`, of a local time; without a zone, the local time itself."""
    if timezone is None:
        return local
    return F.to_utc_timestamp(local, timezone).cast("timestamp_ntz")


def moment_of(value: Column, type_name: str, timezone: str | None) -> Column:
    """A value as `timestamp_ntz` to compare: an instant in UTC, others as `moment_of_local`."""
    wall_clock = value.cast("timestamp_ntz")
    return wall_clock if type_name == "timestamptz" else moment_of_local(wall_clock, timezone)


def day_of(value: Column, type_name: str, timezone: str | None) -> Column:
    """The day of a date or time: of an instant, the one in its zone, or in UTC without one."""
    if type_name != "timestamptz" or timezone is None:
        return value.cast("date")
    return F.from_utc_timestamp(value, timezone).cast("date")
