"""A naive oracle: the versions of members, computed from the staged files without the engine."""

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
    """A version: attributes as text, empty for NULL; `valid_to` is exclusive."""

    attributes: Mapping[str, str]
    valid_from: datetime
    valid_to: datetime | None


def read_versions(landing: Path, name: str, key: str) -> dict[int, list[Version]]:
    """The versions of every member, by key, in order of time.

    Args:
        landing: Landing folder of `demo.stage`.
        name: `products` or `households`.
        key: Their key column.
    """
    changes: defaultdict[int, dict[datetime, dict[str, str]]] = defaultdict(dict)
    # In order of the dates in names: of rows for one instant, that of the latest file counts.
    for path in sorted((landing / name).glob(f"{name}-*.csv")):
        with path.open(newline="") as lines:
            for row in csv.DictReader(lines):
                changes[int(row[key])][datetime.fromisoformat(row["changed_at"])] = row
    return {member: list(_versions(rows, key)) for member, rows in changes.items()}


def _versions(changes: Mapping[datetime, dict[str, str]], key: str) -> Iterator[Version]:
    """The first version begins at BEGINNING; a row without a change begins no version."""
    states: list[tuple[datetime, dict[str, str] | None]] = []
    for at, row in sorted(changes.items(), key=lambda pair: pair[0]):
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
