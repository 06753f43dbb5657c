"""Models of base.yaml and the environments' overlays: where things are and how they run.

Belongs here: settings of the platform itself.
Elsewhere: sources (headrace.config.sources), the star (headrace.config.star).
"""

from datetime import date
from typing import Self

from pydantic import Field, model_validator

from headrace.config.model import StrictModel


class Secret(StrictModel):
    """The name of an environment variable that holds a secret; the value is read at use."""

    env: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")


class PartitionSettings(StrictModel):
    """The days that exist: half-open, UTC."""

    start: date
    end: date | None = Field(None, description="First day that no longer exists; null: today.")

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise ValueError("end must lie after start")
        return self


class S3Settings(StrictModel):
    """An S3 endpoint; without keys, the machine's own credentials are used."""

    endpoint: str | None = Field(None, description="URL, for servers other than AWS.")
    region: str = "us-east-1"
    access_key: Secret | None = None
    secret_key: Secret | None = None


class StorageSettings(StrictModel):
    """A folder or an S3 prefix. `{home}` stands for HEADRACE_HOME."""

    uri: str
    s3: S3Settings = S3Settings()


class PostgresSettings(StrictModel):
    """A Postgres database; without a URL, the embedded server in HEADRACE_HOME."""

    url: Secret | None = Field(None, description="Environment variable with a postgresql:// URL.")


class EngineSettings(StrictModel):
    """Where transformations run."""

    remote: str | None = Field(
        None, pattern=r"^sc://", description="Spark Connect URL; null: Sail in this process."
    )
    slice_bytes: int = Field(
        5 * 2**20,
        ge=2**20,
        description="Compressed bytes of input that one slice of days may have: bounds memory.",
    )


class ScheduleSettings(StrictModel):
    """The daily run."""

    cron: str = "0 2 * * *"
    max_retries: int = Field(2, ge=0)
    retry_delay_seconds: int = Field(300, ge=0)


class SensorSettings(StrictModel):
    """The watch on the landing zone."""

    interval_seconds: int = Field(5, ge=1)
    settle_seconds: float = Field(
        2.0, ge=0, description="A file younger than this may still be written; it waits."
    )
    max_days_per_tick: int = Field(500, ge=1)


class Settings(StrictModel):
    """All of one environment."""

    partitions: PartitionSettings
    landing: StorageSettings = StorageSettings(uri="{home}/landing")
    lake: StorageSettings = StorageSettings(uri="{home}/lake")
    engine: EngineSettings = EngineSettings()
    catalog: PostgresSettings = Field(PostgresSettings(), description="Iceberg's catalog.")
    warehouse: PostgresSettings = PostgresSettings()
    dagster: PostgresSettings = Field(PostgresSettings(), description="Dagster's storage.")
    dbt_project: str = Field("../dbt", description="dbt project, from the configuration's folder.")
    schedule: ScheduleSettings = ScheduleSettings()
    sensor: SensorSettings = SensorSettings()
