"""Models of base.yaml and the overlays of environments: places, connections and schedules."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator

from headrace.config.model import Name, Secret, StrictModel
from headrace.config.sources.rest_connection import RestConnection
from headrace.config.sources.sftp_connection import SftpConnection


class PartitionSettings(StrictModel):
    """The days that exist: half-open, UTC."""

    start: date = Field(description="First day.")
    end: date | None = Field(None, description="The day after the last one; null: today.")

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end: {self.end} must lie after start, {self.start}")
        return self


class S3Settings(StrictModel):
    """An S3 endpoint; without keys, the machine's own credentials are used."""

    endpoint: str | None = Field(None, description="URL, for servers other than AWS.")
    region: str = Field("us-east-1", description="Region of the bucket.")
    access_key: Secret | None = Field(
        None, description="Without it, the machine's own credentials are used."
    )
    secret_key: Secret | None = Field(None, description="Goes with the access key.")


class StorageSettings(StrictModel):
    """A folder or an S3 prefix. `{home}` stands for HEADRACE_HOME."""

    uri: str = Field(
        description="A folder, or `s3://bucket/prefix`; `{home}` stands for HEADRACE_HOME."
    )
    s3: S3Settings = Field(S3Settings(), description="How the bucket is reached.")

    @field_validator("uri")
    @classmethod
    def _is_a_folder_or_a_bucket(cls, value: str) -> str:
        scheme, separator, _ = value.partition("://")
        if separator and scheme not in {"s3", "file"}:
            raise ValueError("must be a folder or s3://bucket/prefix")
        return value


class LandingSettings(StorageSettings):
    """Where sources deliver their files."""

    ignore: tuple[str, ...] = Field(
        ("_SUCCESS", "*/_SUCCESS"),
        description="Files that need not belong to an entity: shell patterns of paths below the "
        "landing zone, in which `*` matches `/`, too. Runs, `headrace status` and the sensor "
        "report all other files that match no entity's `path`.",
        examples=[["*/_SUCCESS", "*.md5", "archive/*"]],
    )


class PostgresSettings(StrictModel):
    """A Postgres database; without a URL, the embedded server in HEADRACE_HOME."""

    url: Secret | None = Field(None, description="Environment variable with a postgresql:// URL.")


class ConnectionSettings(StrictModel):
    """A database that sources read from."""

    kind: Literal["database"] = Field("database", description="A database.")
    url: Secret = Field(
        description="Environment variable with the URL, such as "
        "`postgresql://user:password@host:5432/database?sslmode=verify-full` or "
        "`mysql://user:password@host:3306/database?ssl_mode=verify_identity` or "
        "`mongodb://user:password@host:27017/database?tls=true`. The user needs to read only."
    )
    statement_timeout_seconds: int = Field(
        3600, ge=1, description="A statement that takes longer is cancelled."
    )
    sessions: int = Field(
        2,
        ge=1,
        le=16,
        description="How many sessions read an entity of many rows at a time; one more finds out "
        "what to read. Each takes up to 100 MB of memory here, and a core of the server.",
    )


class DemoConnection(StrictModel):
    """A server of the demo, for its own configuration: `headrace demo stage` fills it."""

    kind: Literal["demo"] = Field(
        description="A server of the demo, which the first capture that reads from it starts."
    )
    server: Literal["shop", "catalogue", "weather"] = Field(
        description="Which one: `shop`, a PostgreSQL database, or the API `catalogue` or `weather`."
    )

    @property
    def is_database(self) -> bool:
        """Whether it is a database; otherwise it is an API."""
        return self.server == "shop"


def kind(value: object) -> object:
    """The value of `kind`, by which a connection's model is chosen; without one, `database`.

    pydantic names the discriminator after this function, and messages place an error at that key.
    """
    at = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return "database" if at is None else at


AnyConnection = Annotated[
    Annotated[ConnectionSettings, Tag("database")]
    | Annotated[RestConnection, Tag("rest")]
    | Annotated[SftpConnection, Tag("sftp")]
    | Annotated[DemoConnection, Tag("demo")],
    Discriminator(kind),
]


class EngineSettings(StrictModel):
    """Where transformations run."""

    remote: str | None = Field(
        None, pattern=r"^sc://", description="Spark Connect URL; null: Sail in this process."
    )
    batch_bytes: int = Field(
        10 * 2**20,
        ge=2**20,
        description="Compressed bytes of input in one batch of partitions; bounds memory.",
    )


# Smallest and largest value of a cron line's fields, and the names that may stand for numbers.
_CRON = (
    *((0, 59, ""), (0, 23, ""), (1, 31, "")),
    (1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"),
    (0, 7, "sun mon tue wed thu fri sat"),
)


def _cron_line(line: str) -> str:
    """Check a cron line: Dagster would refuse a wrong one only when it loads the definitions."""
    fields = line.lower().split()
    if len(fields) != len(_CRON):
        raise ValueError(f"needs five fields, minute hour day month weekday, and has {len(fields)}")
    for field, (least, most, names) in zip(fields, _CRON, strict=True):
        for part in field.split(","):
            if not _is_cron_part(part, least, most, names.split()):
                raise ValueError(f"'{part}' is none of {least} to {most}, such as * */5 1-3 or 7")
    return line


def _is_cron_part(part: str, least: int, most: int, names: list[str]) -> bool:
    span, _, step = part.partition("/")
    if (step and not (step.isdigit() and int(step))) or part.endswith("/"):
        return False
    if span == "*":
        return True
    bounds = [least + names.index(end) if end in names else end for end in span.split("-", 1)]
    return all(str(end).isdigit() and least <= int(end) <= most for end in bounds)


CronLine = Annotated[str, AfterValidator(_cron_line)]


class ScheduleSettings(StrictModel):
    """The daily run."""

    cron: CronLine = Field(
        "0 2 * * *", description="When the daily run begins, UTC; it takes the day before."
    )
    max_retries: int = Field(
        2, ge=0, description="Most retries of a step that failed with a transient error."
    )
    retry_delay_seconds: int = Field(300, ge=0, description="Wait before each retry.")
    retention_cron: CronLine = Field(
        "0 5 * * *",
        description="When old months are dropped, UTC; only if a fact has `keep_months`.",
    )


class MaintenanceSettings(StrictModel):
    """The daily maintenance of the lake: it expires old snapshots and deletes orphan files."""

    cron: CronLine = Field("30 5 * * *", description="When it begins, UTC.")
    keep_hours: int = Field(
        24,
        ge=1,
        description="Hours for which snapshots are kept after they were current, for readers that "
        "still use them and for time travel. Those that a run in progress reads are kept longer.",
    )
    keep_attempts_days: int = Field(
        400, ge=1, description="Days for which the ledger keeps its history of attempts."
    )
    max_minutes: int = Field(
        60,
        ge=1,
        description="Minutes after which no further table is started; the next day continues.",
    )


class ReconcileSettings(StrictModel):
    """The comparison of raw with tables of databases, by a schedule."""

    cron: CronLine | None = Field(
        None,
        description="When it begins, UTC; null: only by the command or by hand. It reads every "
        "table whole.",
        examples=["0 3 * * sun"],
    )
    repair: bool = Field(False, description="Whether rows that differ are captured again.")


class SensorSettings(StrictModel):
    """The sensors of the landing zone and of new rows in databases."""

    interval_seconds: int = Field(5, ge=1, description="Least time between two evaluations.")
    rows_interval_seconds: int = Field(
        60,
        ge=1,
        description="Least time between two evaluations of the sensor of new rows in databases.",
    )
    settle_seconds: float = Field(
        2.0,
        ge=0,
        description="A file that arrived less than this ago may be incomplete. The sensor requests "
        "its day later; a run waits until it is older, or, if this setting exceeds 15 s, fails the "
        "day, which may be retried.",
    )
    max_days_per_tick: int = Field(
        500, ge=1, description="Most days that one evaluation requests; the next one continues."
    )


class Settings(StrictModel):
    """The settings of one environment."""

    partitions: PartitionSettings = Field(description="The days that exist.")
    landing: LandingSettings = Field(
        LandingSettings(uri="{home}/landing"), description="Where sources deliver their files."
    )
    connections: dict[Name, AnyConnection] = Field(
        default_factory=dict,
        description="Databases, APIs (`kind: rest`) and SFTP servers (`kind: sftp`) that sources "
        "read from, by the name that a source's `connection` gives.",
        examples=[{"shop": {"url": {"env": "SHOP_URL"}}}],
    )
    lake: StorageSettings = Field(
        StorageSettings(uri="{home}/lake"), description="Where the lake's tables are."
    )
    engine: EngineSettings = Field(EngineSettings(), description="Where transformations run.")
    catalog: PostgresSettings = Field(PostgresSettings(), description="Iceberg's catalog.")
    warehouse: PostgresSettings = Field(
        PostgresSettings(), description="The star, the marts and the ledger."
    )
    dagster: PostgresSettings = Field(PostgresSettings(), description="Dagster's storage.")
    dbt_project: str = Field("../dbt", description="dbt project, from the configuration's folder.")
    schedule: ScheduleSettings = Field(ScheduleSettings(), description="The daily run.")
    sensor: SensorSettings = Field(SensorSettings(), description="The sensor of the landing zone.")
    reconcile: ReconcileSettings = Field(
        ReconcileSettings(), description="The comparison of raw with tables of databases."
    )
    maintenance: MaintenanceSettings = Field(
        MaintenanceSettings(), description="The daily maintenance of the lake."
    )
