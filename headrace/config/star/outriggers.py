"""Outriggers: a dimension whose columns name members of another dimension."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from pydantic import Field

from headrace.config.model import ColumnName, Name, StrictModel, did_you_mean, unknown_name


class Outrigger(StrictModel):
    """Another dimension that a dimension's columns refer to, by the key of its current version.

    The key is a column of the view `bi.<dimension>`, looked up at query time.
    """

    dimension: Name = Field(description="Name of the other dimension.")
    natural_key: dict[ColumnName, ColumnName] = Field(
        min_length=1,
        description="Natural key column of the other dimension: column of this one, which is "
        "versioned like any attribute.",
    )
    role: Name | None = Field(
        None,
        description="Role of the other dimension, where this one refers to it several times: "
        "`birth_city` gives the key birth_city_key.",
    )


class HasOutriggers(Protocol):
    """The properties of a dimension that this module reads."""

    @property
    def name(self) -> str:
        """Its table."""

    @property
    def key_column(self) -> str:
        """Its surrogate key."""

    @property
    def natural_key(self) -> dict[str, str]:
        """Its columns that identify a member."""

    @property
    def shown(self) -> dict[str, str]:
        """All its columns beside the natural key."""

    @property
    def outriggers(self) -> tuple[Outrigger, ...]:
        """The dimensions that it refers to."""


def outrigger_key(outrigger: Outrigger, target: HasOutriggers) -> str:
    """Name of the key to the other dimension: the role's, or that dimension's own."""
    return f"{outrigger.role}_key" if outrigger.role else target.key_column


def outrigger_problems(dimensions: Sequence[HasOutriggers]) -> Iterator[str]:
    """Each outrigger with an unknown target or in a cycle, after its path in star.yaml."""
    by_name = {dimension.name: dimension for dimension in dimensions}
    for i, dim in enumerate(dimensions):
        where = f"dimensions[{i}].outriggers"
        for outrigger in dim.outriggers:
            yield from _problems_of(where, outrigger, dim, by_name)
        keys = [outrigger_key(o, by_name[o.dimension]) for o in _known(dim, by_name)]
        taken = [*dim.natural_key, *dim.shown, dim.key_column, *keys]
        for key in dict.fromkeys(keys):
            if taken.count(key) > 1:
                yield f"{where}: {dim.name} has {key} twice; give an outrigger a role"
        if circle := _circle(dim, by_name):
            yield f"{where}: {' -> '.join(circle)} leads round in a circle"


def _problems_of(
    where: str, outrigger: Outrigger, dim: HasOutriggers, by_name: Mapping[str, HasOutriggers]
) -> Iterator[str]:
    target = by_name.get(outrigger.dimension)
    if target is None:
        yield f"{where}: {unknown_name(outrigger.dimension, by_name)}"
        return
    if {*outrigger.natural_key} != {*target.natural_key}:
        yield f"{where}: {target.name} is found by {', '.join(target.natural_key)}"
    columns = {**dim.natural_key, **dim.shown}
    for column in outrigger.natural_key.values():
        if column not in columns:
            meant = did_you_mean(column, columns)
            yield f"{where}: {dim.name} has no column '{column}'; add it to its attributes{meant}"


def _circle(start: HasOutriggers, by_name: Mapping[str, HasOutriggers]) -> list[str]:
    """Names of the dimensions in a cycle that begins with `start`; empty if there is none."""
    ways = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for outrigger in _known(way[-1], by_name):
            if outrigger.dimension == start.name:
                return [*(dimension.name for dimension in way), start.name]
            if outrigger.dimension not in seen:
                seen.add(outrigger.dimension)
                ways.append([*way, by_name[outrigger.dimension]])
    return []


def _known(dim: HasOutriggers, by_name: Mapping[str, HasOutriggers]) -> list[Outrigger]:
    return [outrigger for outrigger in dim.outriggers if outrigger.dimension in by_name]
