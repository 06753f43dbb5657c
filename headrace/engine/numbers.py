r"""Numbers as people write them, made into texts that both engines read as the same decimal.

Anchors are `^` and `\z`: Java's `$` also matches before a line end, of which it knows six.
"""

import re
from dataclasses import dataclass
from typing import Literal

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
# Groups after the first ones: with them a number has more than 38 digits.
_MAX_GROUPS = 12


@dataclass(frozen=True)
class NumberMarks:
    """What a source writes into its numbers, besides digits, a sign and an exponent.

    Attributes:
        decimal_mark: What stands before the fraction; None: `,` where `.` groups, else `.`.
        grouping: What may stand between groups of digits, and only there: `1,23` is no number. A
            space stands for every kind of space. '' for none.
        group_sizes: Digits of the groups, the number's last group first; the last size repeats:
            (3,) for 12,345,678 and (3, 2) for 1,23,45,678.
        currency: Sign that may stand before or after the number; then `(5.00)` is -5.00 too.
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
    """A trimmed number with `.` as its only mark; text that is none is no number afterwards."""
    if marks.currency:
        text = _without_currency(text, marks)
    if marks.grouping:
        text = _ungrouped(text, marks)
    if marks.point != ".":
        # A point is no decimal mark then: it must not become one.
        text = F.translate(text, f"{marks.point}.", ".?")
    return text


def decimal_of_text(text: Column, precision: int, scale: int, *, rounds: bool) -> Column:
    """A decimal from trimmed text; NULL if it is no number or does not fit.

    Args:
        text: A number without marks other than a point, a sign and an exponent.
        precision: Digits in all.
        scale: Digits after the point.
        rounds: Whether a number with more places is rounded, half a unit away from zero, or NULL.
    """
    target = f"decimal({precision},{scale})"
    # The engines read the same ASCII texts without an exponent, so most texts take the short way.
    if rounds:
        # Counting bytes costs little, unlike a regular expression over every row.
        plain = F.when(F.octet_length(text) == F.length(text), text).try_cast(target)
    else:
        # 30 ns a value more than counting bytes, but a smaller plan than counting places, too.
        has_room = text.rlike(rf"^[+-]?[0-9]*\.?[0-9]{{0,{scale}}}\z")
        plain = F.when(has_room, text).try_cast(target)
    moved = _moved_point(text, precision, scale, rounds=rounds)
    return F.coalesce(plain, F.when(text.rlike(NUMBER), moved))


def _moved_point(text: Column, precision: int, scale: int, *, rounds: bool) -> Column:
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
    if rounds:
        # One digit past the scale decides about rounding; those after it cannot change a half.
        some = rf"^0*([0-9]*\.[0-9]{{0,{scale + 1}}})[0-9]*\z"
        shortened = F.regexp_replace(pointed, some, "0$1")
    else:
        # Digits past the scale are left there with an x behind them, which is no number.
        all_digits = rf"^0*([0-9]*\.[0-9]{{0,{scale}}})0*(?:x|([0-9]+x))\z"
        shortened = F.regexp_replace(F.concat(pointed, F.lit("x")), all_digits, "0$1$2")
    sign = F.when(F.startswith(text, F.lit("-")), F.lit("-")).otherwise(F.lit(""))
    return F.concat(sign, shortened, F.lit("0")).try_cast(f"decimal({precision},{scale})")


def decimal_of_double(column: Column, precision: int, scale: int) -> Column:
    """The decimal that a double is printed as, rounded half away from zero; NULL if none fits."""
    # By the digits that the double is printed with: 1.005 gives 1.01 although it is less. From
    # 2^53 on, Java 17 prints digits too many at times (JDK-4511638), but a bigint is exact.
    size = F.abs(column)
    by_text = F.when(
        size <= LARGEST_DOUBLE,
        decimal_of_text(column.cast("string"), precision, scale, rounds=True),
    )
    is_whole = (size >= _EXACT_DOUBLE) & (size < _LONG_LIMIT)
    target = f"decimal({precision},{scale})"
    return F.when(is_whole, column.try_cast("bigint").try_cast(target)).otherwise(by_text)


def _ungrouped(text: Column, marks: NumberMarks) -> Column:
    """The number without the marks between its groups; other text stays as it is."""
    # One call that names `text` once: what reads a number names it some ten times, and engines
    # plan every copy.
    mark = f"[{BLANKS}]" if marks.grouping == " " else re.escape(marks.grouping)
    size = marks.group_sizes[-1]
    last_sizes = marks.group_sizes[:-1] or marks.group_sizes
    last = "".join(f"{mark}([0-9]{{{count}}})" for count in reversed(last_sizes))
    # A group of zeros in front is none that a program writes: 0,001 may be a fraction.
    first = f"([1-9][0-9]{{0,{size - 1}}})"
    more = f"(?:{mark}([0-9]{{{size}}}))?" * _MAX_GROUPS
    fraction = f"((?:{re.escape(marks.point)}[0-9]*)?)"
    grouped = rf"^([+-]?){first}{more}{last}{fraction}\z"
    groups = 3 + _MAX_GROUPS + len(last_sizes)
    found = "".join(f"${number}" for number in range(1, groups + 1))
    return F.regexp_replace(text, grouped, found)


def _without_currency(text: Column, marks: NumberMarks) -> Column:
    """The number without its currency sign; `(5.00)` becomes `-5.00`; other text stays."""
    sign, blank = re.escape(marks.currency), f"[{BLANKS}]*"
    number = rf"([0-9.,'{re.escape(marks.grouping)}{BLANKS}]*[0-9.,])"
    signed = rf"^([+-]?){blank}(?:{sign})?{blank}([+-]?){blank}{number}{blank}(?:{sign})?\z"
    # As in `_ungrouped`, each step names its input once.
    unbracketed = F.regexp_replace(text, r"^\(([^()]*)\)\z", "-$1")
    return F.regexp_replace(unbracketed, signed, "$1$2$3")
