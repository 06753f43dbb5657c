r"""Numbers as people write them, made into texts that both engines read as the same decimal.

Belongs here: exponents, thousands, currency signs, digits of doubles.
Elsewhere: the parsing functions that callers use (headrace.engine.functions).

Anchors are `^` and `\z`: Java's `$` also matches before a line end, of which it knows six.
"""

import re

from pyspark.sql import Column
from pyspark.sql import functions as F

# What spreadsheets and editors leave around values: no-break and wide spaces, byte order marks.
BLANKS = " \t\n\r\x0b\x0c\u00a0\u2007\u202f\u3000\ufeff"
NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?\z"
LARGEST_DOUBLE = 1.7976931348623157e308

_NUMBER_PARTS = r"^[+-]?([0-9]*)\.?([0-9]*)(?:[eE][+-]?[0-9]+)?\z"
_EXPONENT = r"[eE]([+-]?[0-9]+)(?:e0)?\z"
# Integers up to here are doubles without gaps.
_EXACT_DOUBLE = 2.0**53
_LONG_LIMIT = 2.0**63
# More zeros than a decimal has digits: moving the point further changes nothing.
_PADDING = 80
# Thousands after the first four to six digits: with them a number has more than 38 digits.
_MAX_GROUPS = 12


def decimal_of_text(text: Column, precision: int, scale: int) -> Column:
    """An exact decimal from trimmed text; NULL if it is no number or does not fit."""
    # The engines read the same ASCII texts without an exponent, so most texts take the short way.
    # Counting bytes costs little, unlike a regular expression over every row.
    ascii_text = F.when(F.octet_length(text) == F.length(text), text)
    plain = ascii_text.try_cast(f"decimal({precision},{scale})")
    scientific = F.when(text.rlike(NUMBER), _moved_point(text, precision, scale))
    return F.coalesce(plain, scientific)


def _moved_point(text: Column, precision: int, scale: int) -> Column:
    """A number with an exponent, or with more digits than the engines read, without both."""
    # Every name below is written out wherever it stands, and engines plan every copy: a column's
    # plan took 20 ms with twice as many.
    whole = F.regexp_extract(text, _NUMBER_PARTS, 1)
    # An exponent stands behind every number then, and behind one that has its own, a second.
    exponent = F.regexp_extract(F.concat(text, F.lit("e0")), _EXPONENT, 1).try_cast("int")
    zeros = F.lit("0" * _PADDING)
    padded = F.concat(zeros, F.regexp_replace(text, _NUMBER_PARTS, "$1$2"), zeros)
    # Where the point stands among the padded digits. Beyond them at the left the number is less
    # than any last place; at the right it is zero, or larger than any decimal.
    after = F.greatest(F.length(whole) + exponent + (_PADDING + 1), F.lit(1))
    pointed = F.overlay(padded, F.lit("."), after, F.lit(0))
    # One digit past the scale decides about rounding; those after it cannot change a half.
    shortened = F.regexp_replace(pointed, rf"^0*([0-9]*\.[0-9]{{0,{scale + 1}}})[0-9]*\z", "0$1")
    sign = F.when(F.startswith(text, F.lit("-")), F.lit("-")).otherwise(F.lit(""))
    return F.concat(sign, shortened, F.lit("0")).try_cast(f"decimal({precision},{scale})")


def decimal_of_double(column: Column, precision: int, scale: int) -> Column:
    """The decimal that a double is printed as, rounded half away from zero; NULL if none fits."""
    # By the digits that the double is printed with: 1.005 gives 1.01 although it is less. From
    # 2^53 on, Java 17 prints digits too many at times (JDK-4511638), but a bigint is exact.
    size = F.abs(column)
    by_text = F.when(
        size <= LARGEST_DOUBLE, decimal_of_text(column.cast("string"), precision, scale)
    )
    is_whole = (size >= _EXACT_DOUBLE) & (size < _LONG_LIMIT)
    target = f"decimal({precision},{scale})"
    return F.when(is_whole, column.try_cast("bigint").try_cast(target)).otherwise(by_text)


def ungrouped(text: Column, decimal_mark: str, grouping: str) -> Column:
    """The number without the marks between its thousands; other text stays as it is."""
    # One call that names `text` once: what reads a number names it some ten times, and engines
    # plan every copy.
    mark = f"[{BLANKS}]" if grouping == " " else re.escape(grouping)
    zeros = f"0{{1,3}}(?:{mark}000)*{mark}([0-9]{{3}})"
    first = f"([0-9]{{1,3}}){mark}([0-9]{{3}})"
    rest = f"(?:{mark}([0-9]{{3}}))?" * _MAX_GROUPS
    fraction = f"((?:{re.escape(decimal_mark)}[0-9]*)?)"
    grouped = rf"^([+-]?)(?:{zeros}|{first}){rest}{fraction}\z"
    found = "".join(f"${number}" for number in range(1, _MAX_GROUPS + 6))
    return F.regexp_replace(text, grouped, found)


def without_currency(text: Column, currency: str) -> Column:
    """The number without its currency sign; `(5.00)` becomes `-5.00`; other text stays."""
    sign, blank = re.escape(currency), f"[{BLANKS}]*"
    number = rf"([0-9.,'{BLANKS}]*[0-9.])"
    signed = rf"^([+-]?){blank}(?:{sign})?{blank}([+-]?){blank}{number}{blank}(?:{sign})?\z"
    # As in `ungrouped`, each step names its input once.
    unbracketed = F.regexp_replace(text, r"^\(([^()]*)\)\z", "-$1")
    return F.regexp_replace(unbracketed, signed, "$1$2$3")
