"""What a step sets out to build: an asset, its days, and the versions of what it reads."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from headrace.grain import Grain

# Data versions by the name of the input.
Inputs = Mapping[str, str]


@dataclass(frozen=True)
class AssetLineage:
    """One asset, and what a partition of it is built from.

    Attributes:
        name: As in the ledger: `curated/fact_sales`.
        code_version: Of the code and the configuration that build it.
        inputs: Assets whose partition of the same day is read; without one the day waits. On days
            that begin no partition of an input, there is nothing to read of it.
        optional_inputs: Assets whose partition of the same day is read if it was published.
        gates: Assets that must have published what begins in the partition, or else holds on its
            first day, though they are followed as whole tables.
        inferring: Those of `gates` that infer members from this asset's inputs: they must have read
            the day's as they are now.
        table_inputs: Assets that are followed whole: a change moves whatever days it touches.
        is_partitioned: False where one state is all there is.
        grain: Of its partitions; a partition is named by its first day.
        grains: By input or gate: its grain, where that is not `grain`.
        kept_from: Days before it were dropped on purpose; None: all days are kept.
    """

    name: str
    code_version: str
    inputs: tuple[str, ...] = ()
    optional_inputs: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    inferring: tuple[str, ...] = ()
    table_inputs: tuple[str, ...] = ()
    is_partitioned: bool = True
    kept_from: date | None = None
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
    """The days that may be built, with the versions that they will read, and those that wait.

    Attributes:
        open: By day: the data version of each input.
        shut: By day: which input is not there, and why.
    """

    open: Mapping[date, Inputs] = field(default_factory=dict)
    shut: Mapping[date, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildPlan:
    """What a step has to build, and the versions of its inputs, found out before it reads them.

    Attributes:
        lineage: The asset.
        gate: The days of the run: those that are built, and those that wait.
        table_versions: Content of the whole tables that the asset follows.
        stale: Days besides the run's that have to be built, with what they read; only of assets
            that take these up in every run.
        began: When it was made, by a clock that only durations are taken of, in seconds.
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
        """The versions that a day was built from; None for a day that was not planned."""
        return self.gate.open.get(day, self.stale.get(day))

    def derived_version(self, day: date) -> str:
        """Stands for the content of a day that is a function of its inputs and of the code."""
        read = self.inputs(day) or {}
        return content_id(self.lineage.code_version, *(f"{k}={v}" for k, v in sorted(read.items())))


def content_id(*parts: str) -> str:
    """16 hexadecimal digits that stand for some texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
