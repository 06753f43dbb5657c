"""The run launcher under the path that `dagster.yaml` files of earlier releases name.

Headrace writes `dagster.yaml` once and never changes it, so this path has to stay.
"""

from platform_assets.processes.run_launcher import ForkRunLauncher

__all__ = ["ForkRunLauncher"]
