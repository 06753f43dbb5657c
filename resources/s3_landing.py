"""A landing zone on S3 as a Dagster resource."""

from typing import Self

import dagster as dg
from dagster_aws.s3 import S3Resource

from headrace.config.model import Secret
from headrace.config.settings import S3Settings
from headrace.sources.landing.landing_zone import Landing
from headrace.sources.landing.s3_landing import S3Landing
from resources.landing import LandingResource


class S3LandingResource(LandingResource):
    """Where sources deliver their files: a bucket, or a prefix in it.

    Attributes:
        uri: `s3://bucket/prefix`.
        s3: Access to the bucket. Give keys as `dg.EnvVar`, which Dagster does not show.
    """

    s3: dg.ResourceDependency[S3Resource]

    @classmethod
    def of_settings(cls, uri: str, settings: S3Settings) -> Self:
        """The landing zone at `uri`; keys stay in the environment until used."""
        s3 = S3Resource(
            endpoint_url=settings.endpoint,
            region_name=settings.region,
            aws_access_key_id=_variable(settings.access_key),
            aws_secret_access_key=_variable(settings.secret_key),
        )
        return cls(uri=uri, s3=s3)

    def landing(self) -> Landing:
        """The landing zone; connects when it is first listed."""
        return S3Landing.of_uri(self.s3.get_client(), self.uri)


def _variable(secret: Secret | None) -> str | None:
    return dg.EnvVar(secret.env) if secret else None
