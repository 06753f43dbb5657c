"""Names of what is made in Postgres beside the tables that users name: the one place for them.

Postgres cuts a name at 63 bytes and says so in a notice only: two names that begin alike become
one. A name that is longer is cut here, and ends in a hash of the whole.
"""

import hashlib
from collections.abc import Sequence
from datetime import date

LONGEST_NAME_BYTES = 63
# A month's table adds nine bytes to its fact's name, and people look for it by that.
LONGEST_TABLE_NAME = 50
MOST_COLUMNS = 1_600
# Of an index, a primary key's included.
MOST_KEY_COLUMNS = 32
# An entry of a B-tree is at most a third of a page, 2,704 bytes with its header; Postgres
# compresses long texts before it measures, so that some longer ones fit, too.
LONGEST_KEY_BYTES = 2_600
# A field of a row, with its header.
LONGEST_TEXT_BYTES = 2**30 - 4
# Julian day 0, 4714-11-24 BC in the Gregorian calendar, counted from 1970, and the last day.
FIRST_DAY, LAST_DAY = -2_440_588, 2_145_031_948
FIRST_MICROSECOND = FIRST_DAY * 86_400_000_000
# Columns that every table has: no other column may be called so.
SYSTEM_COLUMNS = frozenset({"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"})

# A numeric of 38 digits; all other types of ours are shorter.
_LONGEST_NUMBER_BYTES = 24


def longest_texts(other_columns: int) -> int:
    """Bytes that the texts of an index may have together, beside columns of other types."""
    return LONGEST_KEY_BYTES - _LONGEST_NUMBER_BYTES * other_columns


_HASH_DIGITS = 10


def shortened(name: str) -> str:
    """`name`, or what fits of it and a hash; other names stay others."""
    encoded = name.encode()
    if len(encoded) <= LONGEST_NAME_BYTES:
        return name
    kept = encoded[: LONGEST_NAME_BYTES - _HASH_DIGITS - 1].decode(errors="ignore")
    return f"{kept}_{hashlib.sha256(encoded).hexdigest()[:_HASH_DIGITS]}"


def month_table_name(table: str, month: date) -> str:
    """Partition of a table that holds `month` (its first day)."""
    return f"{table}__{month:%Y_%m}"


def index_name(table: str, columns: Sequence[str]) -> str:
    """An index, the same on every call; unique for its table."""
    return shortened(f"{table}__{'_'.join(columns)}")


def key_name(table: str) -> str:
    """The primary key's constraint and index."""
    return shortened(f"{table}__pk")


def foreign_key_name(table: str, column: str) -> str:
    """The foreign key that a column is."""
    return shortened(f"{table}__{column}__fk")


def staging_table_name(load_id: str, number: int, table: str) -> str:
    """One of a load's staging tables; the load is known by how it begins."""
    return shortened(f"{load_id}_{number:04d}_{table}")


def staged_index_name(staging_table: str, number: int | None = None) -> str:
    """An index of a staging table; without a number, its primary key's."""
    # The number of a load's table makes it unique, and stands within the first bytes.
    return shortened(f"{staging_table}_{'pk' if number is None else number}")


def temporary_table_name(purpose: str, table: str) -> str:
    """A temporary table that a load makes for one of its tables."""
    return shortened(f"{purpose}_{table}")


def policy_name(role: str) -> str:
    """The policy that narrows what a role sees of a table."""
    return shortened(f"headrace_{role}")
