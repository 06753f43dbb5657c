"""What a Postgres takes: names, columns and sizes beyond which it refuses a table or a row.

Belongs here: the numbers, as PostgreSQL's manual gives them (appendix K, chapter 5.6).
Elsewhere: names that keep to them (headrace.warehouse.identifiers), configuration that breaks them
(headrace.config.target_limits).
"""

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
