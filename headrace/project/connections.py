"""Where a configured project's databases and folders are, found out when they are used.

A URL with a password must not pass through Dagster, which stores resources' configuration with
every run: resources hold the name of the setting, and ask here at the moment of use.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from headrace.config.loader import Project, resolve_secret
from headrace.config.settings import S3Settings, Secret
from headrace.embedded_postgres.server import start
from headrace.engine.session import SessionSettings
from headrace.lake.storage import LakeSettings, S3Access
from headrace.ledger.ledger import Ledger
from headrace.project.home import Home
from headrace.sources.files.landing import Landing, LocalLanding
from headrace.warehouse.pool import session_pool

if TYPE_CHECKING:
    from headrace.lake.catalog import LakeCatalog

Database = Literal["warehouse", "lake", "dagster"]

# Dagster commits each of its events: of 256 flushes of one more day 215 were its own, and a year
# took 5 and 13% longer with them. A server that crashes may forget its last 0.6 s, but nothing of
# what happened before lake or warehouse published: their commits wait, and its log is one.
_DAGSTER_WAITS_FOR_NO_DISK = "options=-csynchronous_commit%3Doff"


def postgres_url(project: Project, database: Database, driver: str | None = None) -> str:
    """URL of one of the three databases, with SQLAlchemy's name of a driver if one is given.

    Raises:
        ConfigError: The environment variable that holds it is not set.
    """
    settings = {
        "warehouse": project.settings.warehouse,
        "lake": project.settings.catalog,
        "dagster": project.settings.dagster,
    }[database]
    if settings.url is None:
        url = start(Home(project.home).postgres).uri(database, driver=driver)
        return f"{url}&{_DAGSTER_WAITS_FOR_NO_DISK}" if database == "dagster" else url
    url = resolve_secret(settings.url)
    scheme, _, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}+{driver}://{rest}" if driver else url


def lake_settings(project: Project) -> LakeSettings:
    """Where the lake is and how it is reached."""
    storage = project.settings.lake
    return LakeSettings(
        catalog_uri=postgres_url(project, "lake", "psycopg2"),
        location=project.expand(storage.uri),
        s3=s3_settings(storage.s3),
    )


def s3_settings(configured: S3Settings) -> S3Access:
    """An S3 endpoint with its keys resolved."""
    return S3Access(
        endpoint=configured.endpoint,
        region=configured.region,
        access_key_id=_value(configured.access_key),
        secret_access_key=_value(configured.secret_key),
    )


def engine_settings(project: Project, declared: SessionSettings) -> SessionSettings:
    """The engine's settings, with what the embedded one needs to reach the lake's bucket."""
    lake = project.settings.lake
    if declared.remote or not lake.uri.startswith("s3://"):
        return declared
    return replace(declared, s3=_environment(s3_settings(lake.s3)))


def lake_of(project: Project) -> "LakeCatalog":
    """The project's lake."""
    # With PyIceberg come pandas and SQLAlchemy: who only asks the warehouse must not wait for them.
    from headrace.lake.catalog import LakeCatalog  # noqa: PLC0415

    return LakeCatalog(lake_settings(project))


def ledger_of(project: Project) -> Ledger:
    """The ledger in the project's warehouse."""
    return Ledger(session_pool(postgres_url(project, "warehouse")))


def landing_of(project: Project) -> Landing:
    """The project's landing zone."""
    storage = project.settings.landing
    uri = project.expand(storage.uri)
    if not uri.startswith("s3://"):
        return LocalLanding(Path(uri.removeprefix("file://")).expanduser().absolute())
    # boto3 takes a second to import: only where the files are on S3.
    import boto3  # type: ignore[import-untyped]  # noqa: PLC0415

    from headrace.sources.files.s3_landing import S3Landing  # noqa: PLC0415

    s3 = s3_settings(storage.s3)
    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        region_name=s3.region,
        aws_access_key_id=s3.access_key_id,
        aws_secret_access_key=s3.secret_access_key,
    )
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return S3Landing(client, bucket, prefix.rstrip("/"))


def _value(secret: Secret | None) -> str | None:
    return resolve_secret(secret) if secret else None


def _environment(s3: S3Access) -> dict[str, str]:
    """The variables that Sail reads; without keys, it looks for the machine's own."""
    found = {"AWS_REGION": s3.region}
    if s3.access_key_id and s3.secret_access_key:
        found |= {
            "AWS_ACCESS_KEY_ID": s3.access_key_id,
            "AWS_SECRET_ACCESS_KEY": s3.secret_access_key,
        }
    if s3.endpoint:
        found |= {
            "AWS_ENDPOINT": s3.endpoint,
            "AWS_ALLOW_HTTP": str(s3.endpoint.startswith("http://")).lower(),
            # A server other than AWS has no host name a bucket.
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
        }
    return found
