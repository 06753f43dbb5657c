"""The landing zone as a Dagster resource."""

import dagster as dg

from headrace.sources.landing.landing_zone import Landing, LocalLanding


class LandingResource(dg.ConfigurableResource[None]):
    """Where sources deliver their files: a folder. `resources.s3_landing` has the one for S3.

    Attributes:
        uri: A local folder.
    """

    uri: str

    def landing(self) -> Landing:
        """The landing zone; nothing is read before the first listing."""
        return LocalLanding.of_uri(self.uri)
