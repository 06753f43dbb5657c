"""Digests of many rows: in memory while they are few, else in files by the hash of their keys."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

# `row` identifies a row by its key, `content` its values. `at` is the key's number, if it is one.
DIGEST = np.dtype([("row", "i8"), ("content", "i8"), ("at", "i8"), ("day", "i4"), ("is_due", "?")])
Digests = npt.NDArray[Any]

_IN_MEMORY = 1_000_000
# Of 1,000 million rows, a file has 110 MB.
_FILES = 256


class DigestStore:
    """Digests in the order in which they are added, as long as the block lasts."""

    def __init__(self, most_in_memory: int = _IN_MEMORY) -> None:
        self.count = 0
        self._most = most_in_memory
        self._waiting: list[Digests] = []
        self._waiting_rows = 0
        self._resources = ExitStack()
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._resources.close()

    @property
    def is_in_files(self) -> bool:
        """Whether there were too many for the memory."""
        return self._folder is not None

    def add(self, digests: Digests) -> None:
        """Add digests; of those of one row, readers may rely on their order."""
        self._waiting.append(digests)
        self._waiting_rows += len(digests)
        self.count += len(digests)
        if self._waiting_rows > self._most:
            self.write()

    def write(self) -> None:
        """Write the digests in memory to the files."""
        if self._folder is None:
            made = TemporaryDirectory(prefix="headrace-reconcile-")
            self._folder = Path(self._resources.enter_context(made))
        digests = self._all_waiting()
        bucket = digests["row"].view(np.uint64) % np.uint64(_FILES)
        order = np.argsort(bucket, kind="stable")
        digests, bucket = digests[order], bucket[order]
        starts = np.searchsorted(bucket, np.arange(_FILES + 1, dtype=np.uint64))
        for number in range(_FILES):
            part = digests[starts[number] : starts[number + 1]]
            if len(part):
                with self._file(number).open("ab") as file:
                    part.tofile(file)
        self._waiting, self._waiting_rows = [], 0

    def parts(self) -> Iterator[Digests]:
        """All digests: those of one row are in one part, in the order in which they came."""
        if self._folder is None:
            yield self._all_waiting()
            return
        self.write()
        for number in range(_FILES):
            path = self._file(number)
            yield np.fromfile(path, DIGEST) if path.exists() else np.empty(0, DIGEST)

    def _all_waiting(self) -> Digests:
        return np.concatenate([np.empty(0, DIGEST), *self._waiting])

    def _file(self, number: int) -> Path:
        if self._folder is None:
            raise AssertionError("there is no folder")
        return self._folder / f"{number:03}"


def paired_parts(one: DigestStore, other: DigestStore) -> Iterator[tuple[Digests, Digests]]:
    """The parts of two stores, with the same rows in each pair."""
    if one.is_in_files or other.is_in_files:
        for store in (one, other):
            if not store.is_in_files:
                store.write()
    yield from zip(one.parts(), other.parts(), strict=True)
