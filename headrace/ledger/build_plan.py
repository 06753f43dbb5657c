"""The plan of a step: its asset, the days to build, and the versions of their inputs."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from headrace.grain import Grain

# Content versions by the name of the input.
Inputs = Mapping[str, str]


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
            begin before it, or the first one. The last of these must be published.
        gates: Assets that are read as whole tables, and must have published every partition that
            begins within this asset's partition or contains its first day.
        inferring: The gates that infer members from this asset's inputs: they must have read the
            current version of the day's inputs.
        table_inputs: Assets that are read as whole tables: a change may affect any day.
        is_partitioned: False for an asset that has one state.
        grain: Grain of its partitions; a partition is named by its first day.
        grains: Grain of each input, lookup or gate that differs from `grain`.
        retained_from: Retention has dropped all days before; None without retention.
    """

    name: str
    code_version: str
    inputs: tuple[str, ...] = ()
    optional_inputs: tuple[str, ...] = ()
    lookups: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    inferring: tuple[str, ...] = ()
    table_inputs: tuple[str, ...] = ()
    is_partitioned: bool = True
    retained_from: date | None = None
    grain: Grain = Grain.DAY
    grains: Mapping[str, Grain] = field(default_factory=dict)

    def grain_of(self, name: str) -> Grain:
        """The grain of an input or gate."""
        return self.grains.get(name, self.grain)

    @property
    def read(self) -> tuple[str, ...]:
        """All assets whose partition of the same day is read."""
        return (*self.inputs, *self.optional_inputs)


@dataclass(frozen=True)
class Gate:
    """The days of a run that can be built, and those that cannot.

    Attributes:
        open: By day that can be built, the content version of each input.
        shut: By day that cannot, the reason: an input that is not published.
    """

    open: Mapping[date, Inputs] = field(default_factory=dict)
    shut: Mapping[date, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildPlan:
    """The partitions that a step builds, and the versions of their inputs, read before the inputs.

    Attributes:
        lineage: The asset.
        gate: The days of the run.
        table_versions: Content version of each whole-table input.
        stale: Stale days outside the run, with their inputs; only for assets that build these in
            every run.
        began: Time of the plan on the monotonic clock, in seconds.
    """

    lineage: AssetLineage
    gate: Gate
    table_versions: Inputs = field(default_factory=dict)
    stale: Mapping[date, Inputs] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def days(self) -> Sequence[date]:
        """The run's days that are built, in order."""
        return sorted(self.gate.open)

    def inputs(self, day: date) -> Inputs | None:
        """The input versions of a day; None for a day that is not in the plan."""
        return self.gate.open.get(day, self.stale.get(day))

    def derived_version(self, day: date) -> str:
        """Content version of a day whose rows are a function of its inputs and the code."""
        read = self.inputs(day) or {}
        return content_id(self.lineage.code_version, *(f"{k}={v}" for k, v in sorted(read.items())))


def content_id(*parts: str) -> str:
    """A hash of some texts, as 16 hexadecimal digits."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
