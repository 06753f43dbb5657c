"""Partitions of files whose name has no date."""

from datetime import date

import numpy as np

from headrace.config.settings import PartitionSettings
from headrace.config.sources import EntityConfig
from headrace.raw.lineage import with_days
from headrace.raw.manifest import current_versions
from headrace.raw.plan import Captured, path_id
from headrace.sources.files.csv_reader import read_csv
from headrace.sources.files.landing import Landing, StoredFile


def days_of_rows(
    entity: EntityConfig, landing: Landing, file: StoredFile, partitions: PartitionSettings
) -> frozenset[date]:
    """The days to which the rows of a file belong; those without one belong to the first.

    Rows of days outside the partitions belong to none.

    Reads the file from beginning to end, with the memory of one batch.

    Raises:
        SourceRejectedError: The file cannot be read as declared.
        SourceUnavailableError: It changed since it was listed, or the landing zone broke off.
    """
    days: set[date] = set()
    with landing.open(file) as stream:
        for batch in read_csv(stream, file.path, entity):
            found = with_days(batch, entity, partitions).days
            days.update(np.unique(found[~np.isnat(found)]).astype(object))
    return frozenset(days)


def days_held(captured: Captured, file: StoredFile) -> frozenset[date]:
    """The days that hold rows of an earlier version of a file: a new one may leave them out."""
    path = path_id(file)
    current = {day: current_versions(versions).get(path) for day, versions in captured.items()}
    return frozenset(day for day, version in current.items() if version and version.rows)
