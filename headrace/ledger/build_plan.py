"""The plan of a step: its asset, the partitions to build, and the versions of their inputs."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from headrace.grain import Grain

# Content versions by the name of the input.
InputVersions = Mapping[str, str]


@dataclass(frozen=True)
class AssetLineage:
    """One asset, and the inputs of its partitions.

    Attributes:
        name: Name in the ledger, such as `curated/fact_sales`.
        code_version: Version of the code and configuration that build it.
        inputs: Assets whose partition of the same day is read and must be published. An input with
            a longer grain is read only on the first day of its partitions.
        optional_inputs: Assets whose partition of the same day is read if it is published.
        lookups: Assets that are read as of the end of this asset's partition: all partitions that
            begin before its end, or the first one. The last of these must be published.
        required_tables: Assets that are read as whole tables. Each must have published every
            partition that begins within this asset's partition or contains its first day.
        inferring_tables: The required tables that infer members from this asset's inputs. They must
            have read the current version of the day's inputs.
        table_inputs: Assets that are read as whole tables, of which a change makes any day stale.
        is_partitioned: False for an asset that has one state.
        grain: Grain of its partitions; a partition is named by its first day.
        grains: Grain of each input, lookup or required table that differs from `grain`.
        retained_from: Retention has dropped all days before; None without retention.
    """

    name: str
    code_version: str
    inputs: tuple[str, ...] = ()
    optional_inputs: tuple[str, ...] = ()
    lookups: tuple[str, ...] = ()
    required_tables: tuple[str, ...] = ()
    inferring_tables: tuple[str, ...] = ()
    table_inputs: tuple[str, ...] = ()
    is_partitioned: bool = True
    retained_from: date | None = None
    grain: Grain = Grain.DAY
    grains: Mapping[str, Grain] = field(default_factory=dict)

    def grain_of(self, name: str) -> Grain:
        """The grain of an input, a lookup or a required table."""
        return self.grains.get(name, self.grain)

    @property
    def partition_inputs(self) -> tuple[str, ...]:
        """All assets whose partition of the same day is read."""
        return (*self.inputs, *self.optional_inputs)


@dataclass(frozen=True)
class Gate:
    """The gate's result for the days of a run: those that can be built, and those that cannot.

    Attributes:
        open: For each day that can be built, the content version of each input.
        shut: For each other day, the reason: an input that is not published.
    """

    open: Mapping[date, InputVersions] = field(default_factory=dict)
    shut: Mapping[date, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildPlan:
    """The partitions that a step builds, and the versions of their inputs, read before the inputs.

    Attributes:
        lineage: The asset.
        gate: The days of the run, open or shut.
        table_versions: Content version of each whole-table input.
        stale: Stale days outside the run, with their inputs; only for assets that build these in
            every run.
        began: When the plan was made, in seconds of the monotonic clock.
    """

    lineage: AssetLineage
    gate: Gate
    table_versions: InputVersions = field(default_factory=dict)
    stale: Mapping[date, InputVersions] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def days(self) -> Sequence[date]:
        """The run's days that are built, in order."""
        return sorted(self.gate.open)

    def inputs(self, day: date) -> InputVersions | None:
        """The input versions of a day; None for a day that is not in the plan."""
        return self.gate.open.get(day, self.stale.get(day))

    def derived_version(self, day: date) -> str:
        """Content version of a day whose rows are a function of its inputs and the code."""
        versions = sorted((self.inputs(day) or {}).items())
        return content_id(self.lineage.code_version, *(f"{name}={v}" for name, v in versions))


def content_id(*parts: str) -> str:
    """A hash of some texts, as 16 hexadecimal digits."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
