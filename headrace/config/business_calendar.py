"""Model of the holidays of the calendar, by which it says which days are business days."""

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from headrace.config.model import StrictModel, did_you_mean, unknown_name

if TYPE_CHECKING:
    from holidays import HolidayBase

# Without a country: Saturday and Sunday, as `date.weekday` numbers them.
_WEEKEND = frozenset({5, 6})


class BusinessCalendarConfig(StrictModel):
    """Holidays of a country, declared days, or both."""

    country: str | None = Field(
        None,
        description="Country whose public holidays count: its code of two letters in the package "
        "`holidays`.",
        examples=["DE"],
    )
    subdivision: str | None = Field(
        None,
        description="State or region of the country, whose holidays count too.",
        examples=["BY"],
    )
    language: str = Field(
        "en_US", description="Language of the names, where the package has it.", examples=["de"]
    )
    days: dict[date, str] = Field(
        default_factory=dict,
        description="Further holidays by day: their names. Alone or besides those of the country.",
        examples=[{"2024-12-24": "Christmas Eve"}],
    )
    open_days: tuple[date, ...] = Field(
        (),
        description="Days that are business days although they are a weekend or a holiday.",
        examples=[["2024-12-22"]],
    )

    @model_validator(mode="after")
    def _has_holidays(self) -> Self:
        if self.country is None and not self.days:
            raise ValueError("days: is missing: name a `country`, or list the holidays")
        if self.country is None:
            if self.subdivision is not None:
                raise ValueError("subdivision: is one of a country: name the `country`")
            return self
        # 0.9 s to import: only where a country is declared.
        from holidays import list_supported_countries  # noqa: PLC0415

        known: Mapping[str, list[str]] = list_supported_countries()
        if self.country not in known:
            near = did_you_mean(self.country, known)
            raise ValueError(
                f"country: '{self.country}' is no country of the package holidays{near}; write its "
                "code of two letters, such as DE"
            )
        parts = known[self.country]
        if self.subdivision is not None and self.subdivision not in parts:
            raise ValueError(f"subdivision: {unknown_name(self.subdivision, parts)}")
        return self

    def problem(self, start: date, end: date) -> str | None:
        """Why the holidays of a calendar's days are not known; None if they are."""
        if outside := [day for day in (*self.days, *self.open_days) if not start <= day <= end]:
            return f"{min(outside)} lies outside the calendar, {start} to {end}"
        if self.country is None:
            return None
        found = self._of_country(start, start)
        first, last = found.start_year, found.end_year
        if start.year < first or end.year > last:
            return (
                f"country: the holidays of {self.country} are known from {first} to {last} only: "
                "begin and end the calendar there"
            )
        return None

    def holidays(self, start: date, end: date) -> dict[date, str]:
        """The holidays from `start` to `end`, both included, with their names."""
        found = self._of_country(start, end) if self.country else {}
        names = {day: name for day, name in found.items() if start <= day <= end}
        return {**names, **self.days}

    def working_days(self, start: date, end: date, days: list[date]) -> set[date]:
        """Those of some days from `start` to `end` that are business days."""
        country = self._of_country(start, end) if self.country else None
        weekend = country.weekend if country is not None else _WEEKEND
        closed = self.holidays(start, end)
        swapped = country.weekend_workdays if country is not None else set()
        return {
            day
            for day in days
            if day in self.open_days
            or (day not in closed and (day.weekday() not in weekend or day in swapped))
        }

    def _of_country(self, start: date, end: date) -> "HolidayBase":
        from holidays import country_holidays  # noqa: PLC0415

        return country_holidays(
            str(self.country),
            subdiv=self.subdivision,
            years=range(start.year, end.year + 1),
            # Without it, the language of the environment.
            language=self.language,
        )
