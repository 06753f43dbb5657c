"""Models of the formats of files other than delimited text and Parquet, and of compression."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from headrace.config.model import ColumnName, StrictModel

_STEP = re.compile(r"\.([^.\[\]'\"]+)|\['([^']+)'\]")


class _TextFormat(StrictModel):
    """What formats of text have in common."""

    encoding: str = Field("utf-8", description="Python's name of the encoding, such as cp1252.")

    @field_validator("encoding")
    @classmethod
    def _encoding_exists(cls, value: str) -> str:
        try:
            "".encode(value)
        except LookupError:
            raise ValueError("is not an encoding that Python knows") from None
        return value


class _JsonFormat(_TextFormat):
    """What both formats of JSON have in common."""

    max_record_bytes: int = Field(
        16 * 2**20,
        ge=1024,
        le=2**30,
        description="Longest record. A file with a longer one fails: a record is read whole into "
        "memory.",
    )
    null_texts: tuple[str, ...] = Field(
        (), description="Texts that mean NULL, besides null and the empty text."
    )


class JsonLinesFormat(_JsonFormat):
    """One JSON object a line. Values are captured as text, and objects and arrays as JSON."""

    type: Literal["json_lines"] = Field(description="One JSON object a line.")

    @property
    def reading_id(self) -> tuple[str, ...]:
        """Options that the rows depend on."""
        return (self.type, self.encoding)


class JsonFormat(_JsonFormat):
    """One JSON document with an array of objects, which are the rows."""

    type: Literal["json"] = Field(description="One JSON document.")
    records: str = Field(
        "$",
        description="Path of the array: `$` if the document is the array, else names of members.",
        examples=["data", "result.items", "$['all items']"],
    )

    @field_validator("records")
    @classmethod
    def _is_path(cls, value: str) -> str:
        member_path(value)
        return value

    @property
    def steps(self) -> tuple[str, ...]:
        """The members that lead to the array."""
        return member_path(self.records)

    @property
    def reading_id(self) -> tuple[str, ...]:
        """Options that the rows depend on."""
        return (self.type, self.encoding, self.records)


class ExcelFormat(StrictModel):
    """A sheet of an Excel workbook. Cells are captured as text."""

    type: Literal["excel"] = Field(description="An Excel workbook: .xlsx, .xlsb, .xls or .ods.")
    sheet: Annotated[int, Field(ge=1)] | Annotated[str, Field(min_length=1)] = Field(
        1, description="The sheet: its number, from 1, or its name.", examples=[1, "Orders"]
    )
    header_row: int = Field(
        1, ge=1, description="Number of the row that names the columns. Rows above are skipped."
    )
    max_bytes: int = Field(
        2**30,
        ge=1024,
        description="Most bytes of the workbook once decompressed. It is read whole into memory.",
    )
    null_texts: tuple[str, ...] = Field(
        (), description="Texts that mean NULL, besides the empty cell."
    )

    @property
    def reading_id(self) -> tuple[str, ...]:
        """Options that the rows depend on."""
        return (self.type, str(self.sheet), str(self.header_row))


class FixedWidthFormat(_TextFormat):
    """Text in which each column has its positions in the line."""

    type: Literal["fixed_width"] = Field(description="Text by positions in the line.")
    positions: Mapping[ColumnName, tuple[int, int]] = Field(
        description="By column, its first and last character in the line, both included, from 1.",
        examples=[{"id": [1, 10], "name": [11, 40]}],
    )
    skip_lines: int = Field(0, ge=0, description="Number of lines to skip at the start.")
    may_be_short: bool = Field(
        False,
        description="Whether a line may end before the last column does, since blanks at its end "
        "were removed. By default such a line is quarantined: it may have been cut off.",
    )
    max_line_bytes: int = Field(
        2**20,
        ge=1024,
        le=2**30,
        description="Longest line. A file with a longer one fails: a line is read whole into "
        "memory.",
    )
    null_texts: tuple[str, ...] = Field(
        (), description="Texts that mean NULL, besides the empty text."
    )

    @model_validator(mode="after")
    def _positions_lie_apart(self) -> Self:
        before, owner = 0, ""
        for name, (first, last) in sorted(self.positions.items(), key=lambda item: item[1]):
            if not 1 <= first <= last:
                raise ValueError(
                    f"positions.{name}: [{first}, {last}] is no first and last character, from 1"
                )
            if first <= before:
                raise ValueError(
                    f"positions.{name}: begins at {first}, within {owner}, which ends at {before}"
                )
            before, owner = last, name
        return self

    def __hash__(self) -> int:
        # Extracts are keys of caches; a mapping has no hash.
        return hash((self.reading_id, self.max_line_bytes, self.null_texts))

    @property
    def reading_id(self) -> tuple[str, ...]:
        """Options that the rows depend on."""
        places = ",".join(f"{name}={a}-{b}" for name, (a, b) in sorted(self.positions.items()))
        return (self.type, self.encoding, places, str(self.skip_lines), str(self.may_be_short))


class UnpackLimits(StrictModel):
    """What a compressed file or an archive may become. One that exceeds a limit fails."""

    max_bytes: int = Field(
        64 * 2**30,
        ge=1024,
        description="Most bytes of a file, or of all members of an archive, once decompressed.",
    )
    max_ratio: int = Field(
        1000,
        ge=1,
        description="Most bytes of a decompressed file for each byte that it is delivered with. "
        "Does not count up to 64 MiB.",
    )
    max_members: int = Field(10_000, ge=1, description="Most members of a zip archive.")

    @property
    def ratio_from_bytes(self) -> int:
        """Up to this size the ratio does not count: a few repeated rows compress well."""
        return 64 * 2**20


def member_path(text: str) -> tuple[str, ...]:
    """The members that a path leads through: `address.city`, `$.address.city`, `$['a.b']`.

    Raises:
        ValueError: It is no such path.
    """
    if not text.startswith("$"):
        if not all(text.split(".")):
            raise ValueError(f"{text}: is no path of members, such as address.city")
        return tuple(text.split("."))
    steps: list[str] = []
    at = 1
    while step := _STEP.match(text, at):
        steps.append(step[1] or step[2])
        at = step.end()
    if at < len(text):
        raise ValueError(
            f"{text}: is no path of members, such as $.address.city or $['postal code']; a path "
            "into an array is not supported: declare the array itself, which is captured as JSON"
        )
    return tuple(steps)
