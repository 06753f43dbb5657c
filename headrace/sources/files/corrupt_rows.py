"""Rows that cannot be told apart into columns, or not be kept in them: text and reason instead."""

import re
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.config.sources import EntityConfig

CORRUPT_RECORD = "_corrupt_record"
CORRUPT_REASON = "_corrupt_reason"
NUL = "a NUL character"


class NulWatch:
    """Tells whether a text that passes by has a NUL, for the price of one look at its bytes.

    PostgreSQL stores no text with a NUL, so that one such value would stop a whole load. It is
    most often a field that a program of fixed widths did not fill.
    """

    def __init__(self) -> None:
        self.found = False

    def over(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same chunks."""
        for chunk in chunks:
            self.found = self.found or b"\0" in chunk
            yield chunk


def without_nuls(read: pa.RecordBatch, entity: EntityConfig) -> pa.RecordBatch:
    """The same rows, those with a NUL in a column set aside."""
    lost = np.zeros(len(read), dtype=bool)
    for column in entity.columns:
        has_nul = pc.match_substring(read.column(column.name), "\0").fill_null(False)  # noqa: FBT003
        lost |= has_nul.to_numpy(zero_copy_only=False)
    return set_aside(read, lost, pa.scalar(NUL), entity) if lost.any() else read


def set_aside(
    read: pa.RecordBatch,
    lost: npt.NDArray[np.bool_],
    reasons: pa.StringArray | pa.StringScalar,
    entity: EntityConfig,
) -> pa.RecordBatch:
    """The same rows, the columns of the lost ones joined into `_corrupt_record`, with the reason.

    Rows that are corrupt already stay as they are.
    """
    is_lost = pa.array(lost & read.column(CORRUPT_RECORD).is_null().to_numpy(zero_copy_only=False))
    columns = dict(zip(read.schema.names, read.columns, strict=True))
    names = [column.name for column in entity.columns]
    delimiter = entity.extract.format.delimiter
    # A column that the file lacked has no text in it.
    there = [name for name in names if columns[name].null_count < len(read)]
    quoted = [_quoted(columns[name], delimiter) for name in there or names]
    joined = pc.binary_join_element_wise(*quoted, delimiter)
    columns[CORRUPT_RECORD] = pc.if_else(is_lost, joined, columns[CORRUPT_RECORD])
    columns[CORRUPT_REASON] = pc.if_else(is_lost, reasons, columns[CORRUPT_REASON])
    for name in names:
        columns[name] = pc.if_else(is_lost, pa.scalar(None, pa.string()), columns[name])
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=read.schema)


def _quoted(texts: pa.StringArray, delimiter: str) -> pa.StringArray:
    doubled = pc.replace_substring(texts, '"', '""')
    wrapped = pc.binary_join_element_wise('"', doubled, '"', "")
    special = pc.match_substring_regex(texts, rf'["\r\n]|{re.escape(delimiter)}')
    return pc.if_else(special, wrapped, texts)
