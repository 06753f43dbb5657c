"""The landing zone as a Dagster resource."""

from importlib import import_module
from pathlib import Path

import dagster as dg

from headrace.config.loader import Project
from headrace.sources.files.landing import Landing, LocalLanding


class LandingResource(dg.ConfigurableResource[None]):
    """Where sources deliver their files.

    Attributes:
        uri: A local folder.
    """

    uri: str

    @classmethod
    def of(cls, project: Project) -> "LandingResource":
        """The landing zone that the configuration names."""
        storage = project.settings.landing
        uri = project.expand(storage.uri)
        if not uri.startswith("s3://"):
            return LandingResource(uri=uri)
        # dagster-aws and boto3 take over a second to import: only where the files are on S3.
        on_s3 = import_module("resources.s3_landing").S3LandingResource
        resource: LandingResource = on_s3.of_settings(uri, storage.s3)
        return resource

    def landing(self) -> Landing:
        """The landing zone; nothing is read before it is asked for."""
        return LocalLanding(Path(self.uri.removeprefix("file://")).expanduser().absolute())
