"""A job over assets of several grains, which Dagster's public way to declare a job refuses.

Dagster itself has such a job, in which the command line and the UI materialize; one that is
declared must have a single definition of partitions, or none. The run's tags name days, and every
asset translates them to periods of its own.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.job.asset_job import build_asset_job, get_asset_graph_for_job
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition


class MixedGrainsJob(UnresolvedAssetJobDefinition):
    """What `define_asset_job` returns, for assets with different partitions."""

    def resolve(
        self,
        asset_graph: Any,  # Dagster's, which has no public name
        default_executor_def: dg.ExecutorDefinition | None = None,
        resource_defs: Mapping[str, dg.ResourceDefinition] | None = None,
    ) -> dg.JobDefinition:
        """As its base class, without asking that all partitions are the same."""
        return build_asset_job(
            self.name,
            asset_graph=get_asset_graph_for_job(
                asset_graph, self.selection, allow_different_partitions_defs=True
            ),
            description=self.description,
            tags=self.tags,
            run_tags=self.run_tags,
            executor_def=self.executor_def or default_executor_def,
            op_retry_policy=self.op_retry_policy,
            resource_defs=resource_defs,
            allow_different_partitions_defs=True,
        )
