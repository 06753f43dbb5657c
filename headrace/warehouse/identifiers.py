"""Names of indexes, constraints, partitions and staging tables, and Postgres's limits.

Postgres truncates names at 63 bytes with a notice only, which makes two long names equal. Longer
names are truncated here, and end in a hash of the whole name.
"""

import hashlib
from collections.abc import Sequence
from datetime import date

LONGEST_NAME_BYTES = 63
# The name of a month's partition is the table's name and nine bytes, and must not be truncated.
LONGEST_TABLE_NAME = 50
MOST_COLUMNS = 1_600
# Columns of an index or primary key.
MOST_KEY_COLUMNS = 32
# A B-tree entry has at most a third of a page, 2,704 bytes with its header. Postgres compresses
# long texts first, so that some longer ones fit.
LONGEST_KEY_BYTES = 2_600
# A value of a row, less its header.
LONGEST_TEXT_BYTES = 2**30 - 4
# Julian day 0, 4714-11-24 BC in the Gregorian calendar, counted from 1970, and the last day.
FIRST_DAY, LAST_DAY = -2_440_588, 2_145_031_948
FIRST_MICROSECOND = FIRST_DAY * 86_400_000_000
# Names that no other column may have.
SYSTEM_COLUMNS = frozenset({"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"})

# A numeric of 38 digits; the other types are shorter.
_LONGEST_NUMBER_BYTES = 24


def longest_texts(other_columns: int) -> int:
    """The bytes available to all text columns of an index that has `other_columns` others."""
    return LONGEST_KEY_BYTES - _LONGEST_NUMBER_BYTES * other_columns


_HASH_DIGITS = 10


def shortened(name: str) -> str:
    """`name`; if it is too long, truncated and with a hash of the whole name."""
    encoded = name.encode()
    if len(encoded) <= LONGEST_NAME_BYTES:
        return name
    prefix = encoded[: LONGEST_NAME_BYTES - _HASH_DIGITS - 1].decode(errors="ignore")
    return f"{prefix}_{hashlib.sha256(encoded).hexdigest()[:_HASH_DIGITS]}"


def month_table_name(table: str, month: date) -> str:
    """The partition of a table for `month` (its first day)."""
    return f"{table}__{month:%Y_%m}"


def index_name(table: str, columns: Sequence[str]) -> str:
    """An index of a table."""
    return shortened(f"{table}__{'_'.join(columns)}")


def key_name(table: str) -> str:
    """The constraint and the index of a primary key."""
    return shortened(f"{table}__pk")


def foreign_key_name(table: str, column: str) -> str:
    """The foreign key of a column."""
    return shortened(f"{table}__{column}__fk")


def staging_table_name(load_id: str, number: int, table: str) -> str:
    """A staging table of a load; begins with the load's id."""
    return shortened(f"{load_id}_{number:04d}_{table}")


def staged_index_name(staging_table: str, number: int | None = None) -> str:
    """An index of a staging table; without a number, that of its primary key."""
    # Unique though truncated: the load's id and the table's number come first.
    return shortened(f"{staging_table}_{'pk' if number is None else number}")


def temporary_table_name(purpose: str, table: str) -> str:
    """A temporary table that a load creates for one of its tables."""
    return shortened(f"{purpose}_{table}")


def policy_name(role: str) -> str:
    """The row-level security policy of a role."""
    return shortened(f"headrace_{role}")
