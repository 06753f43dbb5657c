"""A job over assets with different partitions definitions, which `define_asset_job` refuses.

Dagster's implicit asset job, which the UI uses to materialize, may contain them; a job of
`define_asset_job` may not. The run's tags name days, and each asset translates them to its grain.
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
        """As the base class, but with different partitions definitions allowed."""
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
