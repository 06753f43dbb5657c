"""Rows that wait in sources which tell: tables of databases with a watermark."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from headrace.config.loader import Project
from headrace.errors import HeadraceError
from headrace.lake.table import LakeTable
from headrace.pipeline.raw import RawStep
from headrace.sources.base import Connector


@dataclass(frozen=True)
class PendingRows:
    """What a look at some entities found.

    Attributes:
        partitions: By `source.entity`, the partitions with new rows; see
            `Connector.pending_partitions`.
        errors: Entities that could not be looked at.
        looked_at: Entities, in order.
    """

    partitions: Mapping[str, Mapping[date, str]] = field(default_factory=dict)
    errors: Mapping[str, HeadraceError] = field(default_factory=dict)
    looked_at: tuple[str, ...] = ()


def watched_entities(project: Project) -> list[str]:
    """The entities, as `source.entity`, whose sources tell."""
    entities = project.entities().items()
    return [name for name, (_, entity) in entities if entity.extract.tells_new_rows]


def look_for_rows(
    project: Project,
    names: Sequence[str],
    *,
    connector: Callable[[str], Connector],
    table: Callable[[str], LakeTable],
    seconds: float | None = None,
) -> PendingRows:
    """Ask sources for partitions with rows that no capture has read.

    Args:
        project: The configuration.
        names: Entities, in the order in which they are looked at.
        connector: Gives the connector of an entity.
        table: Gives the raw table of an entity.
        seconds: After so many no further entity is looked at; None: all are.
    """
    ends_at = None if seconds is None else time.monotonic() + seconds
    partitions: dict[str, Mapping[date, str]] = {}
    errors: dict[str, HeadraceError] = {}
    looked_at: list[str] = []
    for name in names:
        if ends_at is not None and looked_at and time.monotonic() > ends_at:
            break
        looked_at.append(name)
        step = RawStep(
            asset=f"raw/{name}",
            source=name,
            entity=project.entities()[name][1],
            connector=connector(name),
            table=table(name),
            partitions=project.settings.partitions,
            run_id="",
        )
        try:
            if found := step.pending_partitions():
                partitions[name] = found
        except HeadraceError as error:
            errors[name] = error
    return PendingRows(partitions, errors, tuple(looked_at))
