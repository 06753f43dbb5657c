r"""Parses numbers with grouping, decimal mark, currency or exponent, alike on both engines.

Regular expressions use the anchors `^` and `\z`: Java's `$` also matches before a line end.
"""

import re
from dataclasses import dataclass
from typing import Literal

from pyspark.sql import Column
from pyspark.sql import functions as F

# Blanks that spreadsheets and editors leave around values: no-break and wide spaces, BOM.
BLANKS = " \t\n\r\x0b\x0c\u00a0\u2007\u202f\u3000\ufeff"
NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?\z"
LARGEST_DOUBLE = 1.7976931348623157e308

_NUMBER_PARTS = r"^[+-]?([0-9]*)\.?([0-9]*)(?:[eE][+-]?[0-9]+)?\z"
_EXPONENT = r"[eE]([+-]?[0-9]+)(?:e0)?\z"
# Up to here every integer is a double.
_EXACT_DOUBLE = 2.0**53
_LONG_LIMIT = 2.0**63
# More zeros than a decimal has digits: moving the point further does not change the result.
_PADDING = 80
# Optional groups of digits; together with the others they exceed the 38 digits of a decimal.
_MAX_GROUPS = 12


@dataclass(frozen=True)
class NumberMarks:
    """Characters of a source's numbers other than digits, sign and exponent.

    Attributes:
        decimal_mark: Mark before the fraction; None: `,` if `.` is the grouping mark, else `.`.
        grouping: Mark that may stand between groups of digits, and nowhere else: `1,23` does not
            parse. A space matches every kind of space. '' for none.
        group_sizes: Digits of the groups from the right; the last size repeats: (3,) for
            12,345,678 and (3, 2) for 1,23,45,678.
        currency: Sign that may precede or follow the number; then `(5.00)` is -5.00, too.
    """

    decimal_mark: Literal[".", ","] | None = None
    grouping: str = ""
    group_sizes: tuple[int, ...] = (3,)
    currency: str = ""

    @property
    def point(self) -> str:
        """The decimal mark in effect."""
        return self.decimal_mark or ("," if self.grouping == "." else ".")


def plain_number(text: Column, marks: NumberMarks) -> Column:
    """A trimmed number with `.` as its only mark; other text stays unparsable."""
    if marks.currency:
        text = _without_currency(text, marks)
    if marks.grouping:
        text = _ungrouped(text, marks)
    if marks.point != ".":
        # `?` makes a text with a point unparsable: the point is not the decimal mark.
        text = F.translate(text, f"{marks.point}.", ".?")
    return text


def decimal_of_text(text: Column, precision: int, scale: int, *, rounds: bool) -> Column:
    """A decimal from trimmed text; NULL if it does not parse or does not fit.

    Args:
        text: A number without marks other than a point, a sign and an exponent.
        precision: Total number of digits.
        scale: Digits after the point.
        rounds: Whether a number with more places is rounded half up, away from zero; else it
            gives NULL.
    """
    target = f"decimal({precision},{scale})"
    # Both engines cast ASCII texts without an exponent alike, so most texts take the fast path.
    if rounds:
        # Comparing lengths (is the text ASCII?) is cheaper than a regular expression a row.
        plain = F.when(F.octet_length(text) == F.length(text), text).try_cast(target)
    else:
        # 30 ns a value more than comparing lengths, but a smaller plan than counting places.
        has_room = text.rlike(rf"^[+-]?[0-9]*\.?[0-9]{{0,{scale}}}\z")
        plain = F.when(has_room, text).try_cast(target)
    moved = _moved_point(text, precision, scale, rounds=rounds)
    return F.coalesce(plain, F.when(text.rlike(NUMBER), moved))


def _moved_point(text: Column, precision: int, scale: int, *, rounds: bool) -> Column:
    """Rewrite a number with an exponent or too many digits as plain digits, and cast it."""
    # Expressions are copied wherever they are used, and engines plan every copy: with twice as
    # many copies a column's plan took 20 ms.
    whole = F.regexp_extract(text, _NUMBER_PARTS, 1)
    # Appending e0 gives every number an exponent; the pattern skips a second one.
    exponent = F.regexp_extract(F.concat(text, F.lit("e0")), _EXPONENT, 1).try_cast("int")
    zeros = F.lit("0" * _PADDING)
    padded = F.concat(zeros, F.regexp_replace(text, _NUMBER_PARTS, "$1$2"), zeros)
    # Position of the point among the padded digits. Left of them the number is smaller than the
    # last place; right of them it is zero or larger than any decimal.
    after = F.greatest(F.length(whole) + exponent + (_PADDING + 1), F.lit(1))
    pointed = F.overlay(padded, F.lit("."), after, F.lit(0))
    if rounds:
        # One digit past the scale decides the rounding.
        some = rf"^0*([0-9]*\.[0-9]{{0,{scale + 1}}})[0-9]*\z"
        shortened = F.regexp_replace(pointed, some, "0$1")
    else:
        # An x after digits past the scale makes the text unparsable.
        all_digits = rf"^0*([0-9]*\.[0-9]{{0,{scale}}})0*(?:x|([0-9]+x))\z"
        shortened = F.regexp_replace(F.concat(pointed, F.lit("x")), all_digits, "0$1$2")
    sign = F.when(F.startswith(text, F.lit("-")), F.lit("-")).otherwise(F.lit(""))
    return F.concat(sign, shortened, F.lit("0")).try_cast(f"decimal({precision},{scale})")


def decimal_of_double(column: Column, precision: int, scale: int) -> Column:
    """The decimal of a double's printed digits, rounded half away from zero; NULL on overflow."""
    # Printed digits: 1.005 gives 1.01 although the double is smaller. From 2^53 on Java 17 may
    # print surplus digits (JDK-4511638), so the double is cast to bigint, which is exact.
    size = F.abs(column)
    by_text = F.when(
        size <= LARGEST_DOUBLE,
        decimal_of_text(column.cast("string"), precision, scale, rounds=True),
    )
    is_whole = (size >= _EXACT_DOUBLE) & (size < _LONG_LIMIT)
    target = f"decimal({precision},{scale})"
    return F.when(is_whole, column.try_cast("bigint").try_cast(target)).otherwise(by_text)


def _ungrouped(text: Column, marks: NumberMarks) -> Column:
    """The number without its grouping marks; other text is unchanged."""
    # One call that uses `text` once: callers use the result some ten times, and engines plan
    # every copy.
    mark = f"[{BLANKS}]" if marks.grouping == " " else re.escape(marks.grouping)
    size = marks.group_sizes[-1]
    last_sizes = marks.group_sizes[:-1] or marks.group_sizes
    last = "".join(f"{mark}([0-9]{{{count}}})" for count in reversed(last_sizes))
    # No leading group of zeros: 0,001 may be a fraction.
    first = f"([1-9][0-9]{{0,{size - 1}}})"
    more = f"(?:{mark}([0-9]{{{size}}}))?" * _MAX_GROUPS
    fraction = f"((?:{re.escape(marks.point)}[0-9]*)?)"
    grouped = rf"^([+-]?){first}{more}{last}{fraction}\z"
    groups = 3 + _MAX_GROUPS + len(last_sizes)
    found = "".join(f"${number}" for number in range(1, groups + 1))
    return F.regexp_replace(text, grouped, found)


def _without_currency(text: Column, marks: NumberMarks) -> Column:
    """The number without its currency sign; `(5.00)` becomes `-5.00`; other text is unchanged."""
    sign, blank = re.escape(marks.currency), f"[{BLANKS}]*"
    number = rf"([0-9.,'{re.escape(marks.grouping)}{BLANKS}]*[0-9.,])"
    signed = rf"^([+-]?){blank}(?:{sign})?{blank}([+-]?){blank}{number}{blank}(?:{sign})?\z"
    # Each step uses its input once, as in `_ungrouped`.
    unbracketed = F.regexp_replace(text, r"^\(([^()]*)\)\z", "-$1")
    return F.regexp_replace(unbracketed, signed, "$1$2$3")
