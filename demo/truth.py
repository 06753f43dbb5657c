"""The history in the staged files, computed by a naive oracle without the engine."""

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from demo.history import DELETE

BEGINNING = datetime(1900, 1, 1)  # noqa: DTZ001 - as the star's timestamps, without a zone
_NO_ATTRIBUTES = ("operation", "changed_at")


@dataclass(frozen=True)
class Version:
    """A state of a member: attributes as text, '' where there is none; `valid_to` is exclusive."""

    attributes: Mapping[str, str]
    valid_from: datetime
    valid_to: datetime | None


def read_versions(landing: Path, name: str, key: str) -> dict[int, list[Version]]:
    """By key, the versions of every member that a file of `name` tells of, the earliest first.

    Args:
        landing: Folder that demo.stage filled.
        name: `products` or `households`.
        key: Their column that identifies one.
    """
    told: defaultdict[int, dict[datetime, dict[str, str]]] = defaultdict(dict)
    # By the names' dates: what a later file says of the same instant counts.
    for path in sorted((landing / name).glob(f"{name}-*.csv")):
        with path.open(newline="") as lines:
            for row in csv.DictReader(lines):
                told[int(row[key])][datetime.fromisoformat(row["changed_at"])] = row
    return {member: list(_versions(rows, key)) for member, rows in told.items()}


def _versions(told: Mapping[datetime, dict[str, str]], key: str) -> Iterator[Version]:
    """The first version also holds before; a row that changes nothing begins none."""
    states: list[tuple[datetime, dict[str, str] | None]] = []
    for at, row in sorted(told.items(), key=lambda pair: pair[0]):
        state = None
        if row["operation"] != DELETE:
            state = {k: v for k, v in row.items() if k not in (key, *_NO_ATTRIBUTES)}
        if not states:
            states.append((BEGINNING, state))
        elif state != states[-1][1]:
            states.append((at, state))
    ends = [*(at for at, _ in states[1:]), None]
    for (begin, state), end in zip(states, ends, strict=True):
        if state is not None:
            yield Version(state, begin, end)
