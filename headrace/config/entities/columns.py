"""Model of a column of an entity: its form in the source, and its type once processed."""

import math
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from headrace.config.model import ColumnName, StrictModel, TypeName
from headrace.errors import ConfigError
from headrace.schema import decimal_parts
from headrace.time_patterns import (
    ISO_DATE,
    ISO_TIMESTAMP,
    ISO_TIMESTAMPTZ,
    compile_patterns,
    has_short_year,
)

Form = Literal["nfc", "strip_invisible", "casefold"]
# Normalization of keys, unless their column declares another one.
KEY_FORMS: tuple[Form, ...] = ("nfc", "strip_invisible")

_NUMBERS = ("int", "bigint", "double", "decimal")
TIMES = ("date", "timestamp", "timestamptz")
_USED_BY = {
    "decimal_mark": _NUMBERS,
    "grouping": _NUMBERS,
    "group_sizes": _NUMBERS,
    "currency": _NUMBERS,
    "round": ("decimal", *TIMES),
    "formats": TIMES,
    "pivot": TIMES,
    "ambiguous": ("timestamptz",),
    "nonexistent": ("timestamptz",),
    "normalize": ("string",),
}
# The letters of our patterns for strftime's codes, and for those of Postgres, Oracle and moment.js.
_STRFTIME = {"Y": "yyyy", "m": "MM", "d": "dd", "y": "yy", "H": "HH", "I": "hh", "M": "mm"}
_STRFTIME |= {"S": "ss", "f": "SSSSSS", "p": "a", "b": "MMM", "B": "MMMM", "a": "EEE", "z": "XXX"}
_STRFTIME |= {"F": "yyyy-MM-dd", "T": "HH:mm:ss", "D": "MM/dd/yy", "A": "EEEE", "%": "%"}
_OTHER_LETTERS = (
    *(("YYYY", "yyyy"), ("YY", "yy"), ("DD", "dd"), ("D", "d"), ("HH24", "HH"), ("HH12", "hh")),
    *(("MI", "mm"), ("Mon", "MMM"), ("SS", "ss"), ("AM", "a"), ("A", "a"), ("TT", "a")),
)
# Characters of numbers, which cannot be a mark between groups of digits.
_OF_NUMBERS = "+-0123456789eE()"


class ColumnConfig(StrictModel):
    """One column of an entity. An option that the column's type does not use is an error."""

    name: ColumnName = Field(
        description="Its name in the lake. Lower snake case, at most 63 characters."
    )
    source: str | tuple[str, ...] | None = Field(
        None,
        alias="from",
        description="Its name in the source, if that differs from `name`. A list if the source "
        "renamed it: a file has one of these names. Of a REST API also a path in the record, such "
        "as `$.address.city`.",
        examples=["TotalAmount", ["amount", "total_amount"]],
    )
    type: TypeName = Field(
        description="`string`, `boolean`, `int`, `bigint`, `double`, `decimal(p,s)`, `date`, "
        "`timestamp` (local time) or `timestamptz` (instant)."
    )
    source_type: TypeName | None = Field(
        None,
        description="Its type in a source whose values have types (Parquet), if that differs from "
        "`type`. The value is converted; a row with a value that does not fit is quarantined.",
        examples=["double"],
    )
    required: bool = Field(False, description="Whether a row without a value is quarantined.")
    optional: bool = Field(
        False, description="Whether a file may lack the column. By default, such a file fails."
    )
    since: date | None = Field(
        None, description="First day whose files have it; files of earlier days may lack it."
    )
    until: date | None = Field(
        None,
        description="First day whose files may lack it again, because the source dropped it.",
    )
    null_texts: tuple[str, ...] = Field(
        (),
        description="Texts of this column that mean NULL, besides the empty text and those of "
        "`format`, as a source writes `never` or `unknown`.",
        examples=[["9999-12-31", "0000-00-00", "-"]],
    )
    default: str | None = Field(
        None,
        description="Value in rows of files that lack the column; without it, NULL. In ISO form "
        "(2024-01-31, 1.5), whatever `formats` and `decimal_mark` are.",
        examples=["web", "0", "2024-01-01"],
    )
    formats: tuple[str, ...] = Field(
        (),
        description="Patterns of a date or timestamp, tried in order, such as M/d/yyyy H:mm; "
        "docs/how-to/read-dates-and-times.md lists the letters. Without them: ISO 8601.",
    )
    pivot: int | None = Field(
        None,
        ge=1000,
        le=9900,
        description="First of the hundred years that a year of two digits (`yy` in `formats`) "
        "stands for: with 1930, `30` is 1930 and `29` is 2029. A pattern with `yy` needs it.",
    )
    round: Literal["half_up", "down"] | None = Field(
        None,
        description="Treatment of a value with more decimal places than its type has. By default "
        "the row is quarantined (trailing zeros do not count: 1.500 fits decimal(12,2)). `half_up` "
        "rounds a decimal, half a unit of the last place away from zero; `down` truncates a time "
        "to microseconds. Values that change are counted (`values_rounded`).",
    )
    ambiguous: Literal["earlier", "later", "quarantine"] = Field(
        "earlier",
        description="The instant of a local time that occurs twice, where clocks are put back: the "
        "earlier or the later one; or the row is quarantined.",
    )
    nonexistent: Literal["quarantine", "shift_forward"] = Field(
        "quarantine",
        description="Treatment of a local time that does not occur, where clocks are put forward: "
        "the row is quarantined, or the time is shifted by as much as the clocks.",
    )
    decimal_mark: Literal[".", ","] | None = Field(
        None,
        description="Character before the fraction of a number. By default `.`, or `,` if "
        "`grouping` is `.`.",
    )
    grouping: str = Field(
        "",
        max_length=1,
        description="Thousands separator, if any. Groups must have three digits (or those of "
        "`group_sizes`), and the first must begin with 1 to 9: `1,23` and `0,001` are quarantined.",
    )
    group_sizes: tuple[int, ...] = Field(
        (3,),
        description="Digits of the groups between separators, the number's last group first; the "
        "last size repeats. `[3, 2]` reads 1,23,45,678.",
    )
    currency: str = Field(
        "",
        description="Currency sign or unit to remove, such as $. With one, (5.00) is -5.00, as in "
        "accounting.",
    )
    normalize: tuple[Form, ...] | None = Field(
        None,
        description="Normalization of texts, so that those that look equal are equal. `nfc`: "
        "accents are composed with their letters (Unicode NFC, except for Hangul). "
        "`strip_invisible`: zero-width and control characters are removed, and every kind of blank "
        "becomes a space. `casefold`: lower case, `ß` as `ss`. By default `[nfc, strip_invisible]` "
        "for columns of a key or of a join of the star, and none for others. `[]`: none.",
        examples=[["nfc", "strip_invisible", "casefold"]],
    )
    description: str = Field("", description="What it holds; shown in Dagster's UI.")

    @field_validator("default", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return text_of(value)

    @field_validator("null_texts", mode="before")
    @classmethod
    def _as_texts(cls, value: object) -> object:
        return [text_of(text) for text in value] if isinstance(value, list | tuple) else value

    @field_validator("source")
    @classmethod
    def _one_name_or_more(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        if isinstance(value, tuple) and len({*value}) < max(len(value), 1):
            raise ValueError("must be one name or a list of different names")
        if not all(value if isinstance(value, tuple) else (value or value is None,)):
            raise ValueError("must not be empty: leave it out where the source calls it `name`")
        return value

    @field_validator("group_sizes")
    @classmethod
    def _sizes_are_digits(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or not all(1 <= size <= 9 for size in value):  # noqa: PLR2004
            raise ValueError("must be one or more numbers from 1 to 9")
        return value

    @model_validator(mode="after")
    def _options_fit_the_type(self) -> Self:
        checks = (
            self._unused_options,
            self._number_problems,
            self._time_problems,
            self._absence_problems,
        )
        if problems := [problem for check in checks for problem in check()]:
            raise ValueError("; ".join(problems))
        return self

    @property
    def source_names(self) -> tuple[str, ...]:
        """Its names in the source; a file has one of them."""
        return self.source if isinstance(self.source, tuple) else (self.source or self.name,)

    @property
    def source_name(self) -> str:
        """Its name in the source, or the first of several."""
        return self.source_names[0]

    @property
    def may_be_absent(self) -> bool:
        """Whether the files of some days may lack it."""
        return self.optional or self.since is not None or self.until is not None

    @property
    def has_always_a_value(self) -> bool:
        """Whether every good row has a value: a row without a required value is quarantined."""
        return self.required and (self.default is not None or not self.may_be_absent)

    def may_lack(self, day: date | None) -> bool:
        """Whether a file of a day may lack it; without a day, whether a file of any day may."""
        before = self.since is not None and (day is None or day < self.since)
        after = self.until is not None and (day is None or day >= self.until)
        return self.optional or before or after

    @property
    def kind(self) -> str:
        """Its type without precision and scale."""
        return "decimal" if decimal_parts(self.type) else self.type

    def _unused_options(self) -> Iterator[str]:
        fields = type(self).model_fields
        for option, kinds in _USED_BY.items():
            is_set = getattr(self, option) != fields[option].default
            if is_set and self.kind not in kinds:
                yield f"{option}: is for {', '.join(kinds)}, not for {self.type}: drop it"
        if self.type == "list<string>":
            yield "type: a list cannot be read from one text: declare the column a string"

    def _number_problems(self) -> Iterator[str]:
        if self.grouping and (self.grouping in _OF_NUMBERS or self.grouping.isalnum()):
            yield f"grouping: '{self.grouping}' cannot stand between groups of digits"
        if self.grouping and self.grouping == self.decimal_mark:
            yield f"grouping: '{self.grouping}' is the decimal_mark too"
        if any(sign.isdigit() for sign in self.currency) or self.currency.strip() in {*"+-.,"}:
            yield f"currency: '{self.currency}' cannot be told from the number beside it"
        if self.round == "down" and self.kind == "decimal":
            yield "round: a decimal is rounded half_up: write `round: half_up`"
        if self.round == "half_up" and self.kind in TIMES:
            yield "round: a time is truncated to microseconds: write `round: down`"

    def _absence_problems(self) -> Iterator[str]:
        if self.since is not None and self.until is not None and self.until <= self.since:
            yield f"until: {self.until} does not lie after since, {self.since}"
        if self.default is None:
            return
        if not self.may_be_absent:
            yield "default: is for a column that a file may lack: say optional, since or until"
        elif "\0" in self.default:
            yield "default: has a NUL character, which Postgres does not store"
        elif not is_value_of(self.type, self.default):
            yield f"default: '{self.default}' is not a {self.type}"

    def _time_problems(self) -> Iterator[str]:
        if self.kind not in TIMES:
            return
        if self.pivot is not None and not any(map(has_short_year, self.formats)):
            yield "pivot: is for formats with a year of two digits (yy)"
        for pattern in self.formats:
            try:
                compile_patterns((pattern,), zone=self.type == "timestamptz", pivot=self.pivot)
            except ConfigError as error:
                near = _pattern_meant(pattern)
                fix = f"write {near}" if near else error.fix
                yield f"formats: {error}: {fix}"


def _pattern_meant(pattern: str) -> str | None:
    """The pattern of ours that a pattern in another language most likely means."""
    if "%" in pattern:
        meant = re.sub(r"%-?(.)", lambda code: _STRFTIME.get(code[1], "?"), pattern)
    else:
        meant = pattern
        for theirs, ours in _OTHER_LETTERS:
            meant = meant.replace(theirs, ours)
        # `mm` without an hour: the month was meant.
        if "M" not in meant and "h" not in meant.lower():
            meant = meant.replace("mm", "MM")
    try:
        compile_patterns((meant,), zone=True, pivot=2000)
    except ConfigError:
        return None
    return meant if meant != pattern else None


def text_of(value: object) -> object:
    """A scalar of YAML as text: without quotes, YAML reads 9999-12-31 as a date."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float | date) else value


def is_value_of(type_name: str, text: str) -> bool:
    """Whether a text is a value of the type, as ISO writes it and the engine reads it."""
    if text != text.strip() or "_" in text:  # Python reads 1_000.
        return type_name == "string" and bool(text.strip())
    size = decimal_parts(type_name)
    readers: dict[str, Callable[[str], bool]] = {
        "string": bool,
        "boolean": {"true", "false"}.__contains__,
        "int": lambda text: abs(int(text)) < 2**31,
        "bigint": lambda text: abs(int(text)) < 2**63,
        "double": lambda text: math.isfinite(float(text)),
        "date": lambda text: _is_time(text, ISO_DATE),
        "timestamp": lambda text: _is_time(text, ISO_TIMESTAMP),
        "timestamptz": lambda text: _is_time(text, ISO_TIMESTAMPTZ),
    }
    try:
        return _fits(Decimal(text), *size) if size else readers[type_name](text)
    except (ValueError, ArithmeticError):
        return False


def _is_time(text: str, patterns: tuple[str, ...]) -> bool:
    datetime.fromisoformat(text)
    compiled = compile_patterns(patterns, zone=True)
    return any(re.fullmatch(pattern.uncaptured, text) for pattern in compiled)


def _fits(value: Decimal, precision: int, scale: int) -> bool:
    """Whether a decimal holds the value exactly."""
    _, digits, exponent = value.normalize().as_tuple()
    if not isinstance(exponent, int):
        return False  # infinite, or not a number
    return not value or (-exponent <= scale and len(digits) + exponent <= precision - scale)
