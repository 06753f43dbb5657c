"""URLs of a project's databases and storage, resolved when they are used.

Dagster stores the configuration of resources with every run, so resources must not contain a URL
with a password: they call these functions instead.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from headrace.config.loader import Project, resolve_secret
from headrace.config.model import Secret
from headrace.config.settings import S3Settings
from headrace.embedded_postgres.server import start
from headrace.engine.session import SessionSettings
from headrace.lake.storage import LakeSettings, S3Access
from headrace.ledger.ledger import Ledger
from headrace.project.home import Home
from headrace.sources.landing.landing_zone import Landing, LocalLanding
from headrace.warehouse.pool import session_pool

if TYPE_CHECKING:
    from headrace.lake.catalog import LakeCatalog

Database = Literal["warehouse", "lake", "dagster"]

# Dagster commits each event: 215 of the 256 flushes of one more day were for events, and a year
# took 5 to 13 % longer with them. A server crash may lose the last 0.6 s of events. Events from
# before a publication are safe: the publication's commit flushes the same write-ahead log.
_ASYNCHRONOUS_COMMIT = "options=-csynchronous_commit%3Doff"


def postgres_url(project: Project, database: Database, driver: str | None = None) -> str:
    """URL of one of the three databases, with SQLAlchemy's driver name if one is given.

    Raises:
        ConfigError: The environment variable with the URL is not set.
    """
    settings = {
        "warehouse": project.settings.warehouse,
        "lake": project.settings.catalog,
        "dagster": project.settings.dagster,
    }[database]
    if settings.url is None:
        url = start(Home(project.home).postgres).uri(database, driver=driver)
        return f"{url}&{_ASYNCHRONOUS_COMMIT}" if database == "dagster" else url
    url = resolve_secret(settings.url)
    scheme, _, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}+{driver}://{rest}" if driver else url


def lake_settings(project: Project) -> LakeSettings:
    """Location of the lake, its catalog and its credentials."""
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
        access_key_id=_resolved(configured.access_key),
        secret_access_key=_resolved(configured.secret_key),
    )


def engine_settings(project: Project, declared: SessionSettings) -> SessionSettings:
    """The engine's settings; for an embedded engine with access to the lake's bucket."""
    lake = project.settings.lake
    if declared.remote or not lake.uri.startswith("s3://"):
        return declared
    return replace(declared, s3=_sail_environment(s3_settings(lake.s3)))


def lake_of(project: Project) -> "LakeCatalog":
    """The project's lake."""
    # PyIceberg imports pandas and SQLAlchemy, which commands without the lake need not load.
    from headrace.lake.catalog import LakeCatalog  # noqa: PLC0415

    return LakeCatalog(lake_settings(project))


def ledger_of(project: Project) -> Ledger:
    """The ledger in the project's warehouse."""
    return Ledger(session_pool(postgres_url(project, "warehouse")))


def landing_of(project: Project) -> Landing:
    """The project's landing zone.

    In a run of Dagster it is a resource (`resources.project.landing_resource`), so that definitions
    can replace it.
    """
    storage = project.settings.landing
    uri = project.expand(storage.uri)
    if not uri.startswith("s3://"):
        return LocalLanding.of_uri(uri)
    # boto3 takes a second to import, and is needed for S3 only.
    import boto3  # type: ignore[import-untyped]  # noqa: PLC0415

    from headrace.sources.landing.s3_landing import S3Landing  # noqa: PLC0415

    s3 = s3_settings(storage.s3)
    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        region_name=s3.region,
        aws_access_key_id=s3.access_key_id,
        aws_secret_access_key=s3.secret_access_key,
    )
    return S3Landing.of_uri(client, uri)


def _resolved(secret: Secret | None) -> str | None:
    return resolve_secret(secret) if secret else None


def _sail_environment(s3: S3Access) -> dict[str, str]:
    """The variables that Sail reads; without keys, it uses the machine's credentials."""
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
            # Servers other than AWS have no host name for each bucket.
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
        }
    return found
