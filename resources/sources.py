"""Sources as a Dagster resource: gives raw assets their connectors."""

import dagster as dg

from headrace.config.loader import Project
from headrace.sources.base import Connector
from headrace.sources.registry import connector_of
from resources.landing import LandingResource


class SourcesResource(dg.ConfigurableResource[None]):
    """Makes connectors, which connect on first use.

    It holds no URL and no key: Dagster stores the configuration of resources with every run.

    Attributes:
        landing: Where sources deliver their files.
    """

    landing: dg.ResourceDependency[LandingResource]

    def connector(self, project: Project, name: str) -> Connector:
        """The connector of the entity `name` (`source.entity`) of a project."""
        return connector_of(project, name, self.landing.landing)
