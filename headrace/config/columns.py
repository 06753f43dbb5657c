"""Model of one column of an entity: its text in the source, its type once processed.

Belongs here: the options of a column, and which types use them.
Elsewhere: entities (headrace.config.sources), parsing by the options (headrace.engine.functions).
"""

import re
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from headrace.config.model import ColumnName, StrictModel, TypeName
from headrace.engine.time_patterns import compile_patterns, has_short_year
from headrace.errors import ConfigError
from headrace.schema import decimal_parts

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
}
# strftime's codes, and the letters of Postgres, Oracle and moment.js, as this pattern language has
# them.
_STRFTIME = {"Y": "yyyy", "m": "MM", "d": "dd", "y": "yy", "H": "HH", "I": "hh", "M": "mm"}
_STRFTIME |= {"S": "ss", "f": "SSSSSS", "p": "a", "b": "MMM", "B": "MMMM", "a": "EEE", "z": "XXX"}
_STRFTIME |= {"F": "yyyy-MM-dd", "T": "HH:mm:ss", "D": "MM/dd/yy", "A": "EEEE", "%": "%"}
_OTHER_LETTERS = (
    *(("YYYY", "yyyy"), ("YY", "yy"), ("DD", "dd"), ("D", "d"), ("HH24", "HH"), ("HH12", "hh")),
    *(("MI", "mm"), ("Mon", "MMM"), ("SS", "ss"), ("AM", "a"), ("A", "a"), ("TT", "a")),
)
# What a number is made of cannot stand between its groups.
_OF_NUMBERS = "+-0123456789eE()"


class ColumnConfig(StrictModel):
    """One column of an entity: its text in the source, its type once processed.

    An option that the column's type does not use is an error.
    """

    name: ColumnName = Field(
        description="Its name in the lake. Lower snake case, at most 63 characters."
    )
    source: str | None = Field(
        None, alias="from", description="Its name in the source, when that differs from `name`."
    )
    type: TypeName = Field(description="string, boolean, int, bigint, double, decimal(p,s), …")
    required: bool = Field(False, description="A row without it is quarantined.")
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
        description="What becomes of a value with more places than its type has. By default the "
        "row is quarantined (zeros are no places: 1.500 fits decimal(12,2)). `half_up` rounds a "
        "decimal, half a unit of the last place away from zero; `down` cuts a time to "
        "microseconds. The values that change are counted (`values_rounded`).",
    )
    decimal_mark: Literal[".", ","] | None = Field(
        None,
        description="Character before the fraction of a number. By default `.`, and `,` where "
        "`grouping` is `.`.",
    )
    grouping: str = Field(
        "",
        max_length=1,
        description="Thousands separator, if any. A number is not read unless its groups have "
        "three digits and the first begins with 1 to 9: `1,23` and `0,001` are quarantined.",
    )
    group_sizes: tuple[int, ...] = Field(
        (3,),
        description="Digits of the groups between separators, the number's last group first; the "
        "last size repeats. `[3, 2]` reads 1,23,45,678.",
    )
    currency: str = Field(
        "",
        description="Currency sign or unit to drop, such as $; then (5.00) is -5.00, as "
        "accountants write.",
    )
    description: str = Field("", description="What it holds; shown in Dagster's UI.")

    @field_validator("group_sizes")
    @classmethod
    def _sizes_are_digits(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or not all(1 <= size <= 9 for size in value):  # noqa: PLR2004
            raise ValueError("must be one or more numbers from 1 to 9")
        return value

    @model_validator(mode="after")
    def _options_fit_the_type(self) -> Self:
        if problems := [*self._unused_options(), *self._number_problems(), *self._time_problems()]:
            raise ValueError("; ".join(problems))
        return self

    @property
    def source_name(self) -> str:
        """Its name in the source."""
        return self.source or self.name

    @property
    def kind(self) -> str:
        """Its type without precision and scale."""
        return "decimal" if decimal_parts(self.type) else self.type

    def _unused_options(self) -> Iterator[str]:
        for option, kinds in _USED_BY.items():
            if option in self.model_fields_set and getattr(self, option) and self.kind not in kinds:
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
            yield "round: a decimal is rounded half_up"
        if self.round == "half_up" and self.kind in TIMES:
            yield "round: a time is cut down to microseconds: write down"

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
    """The pattern in this language that one of another language most likely means."""
    if "%" in pattern:
        meant = re.sub(r"%-?(.)", lambda code: _STRFTIME.get(code[1], "?"), pattern)
    else:
        meant = pattern
        for theirs, ours in _OTHER_LETTERS:
            meant = meant.replace(theirs, ours)
        # Minutes beside a year, where no hour is: the month was meant.
        if "M" not in meant and "h" not in meant.lower():
            meant = meant.replace("mm", "MM")
    try:
        compile_patterns((meant,), zone=True, pivot=2000)
    except ConfigError:
        return None
    return meant if meant != pattern else None
