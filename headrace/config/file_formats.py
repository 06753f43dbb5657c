"""Models of the formats of files other than delimited text and Parquet, and of compression."""

import codecs
import re
from typing import Literal

from pydantic import Field, field_validator

from headrace.config.model import StrictModel

_STEP = re.compile(r"\.([^.\[\]'\"]+)|\['([^']+)'\]")


class _JsonFormat(StrictModel):
    """What both formats of JSON have in common."""

    encoding: str = Field("utf-8", description="Python's name of the encoding. JSON is UTF-8.")
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

    @field_validator("encoding")
    @classmethod
    def _encoding_exists(cls, value: str) -> str:
        try:
            codecs.lookup(value)
            "".encode(value)
        except LookupError:
            raise ValueError("is not an encoding that Python knows") from None
        return value


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


class UnpackLimits(StrictModel):
    """What a compressed file may become. A file that exceeds a limit fails."""

    max_bytes: int = Field(
        64 * 2**30, ge=1024, description="Most bytes of a file once it is decompressed."
    )
    max_ratio: int = Field(
        1000,
        ge=1,
        description="Most bytes of a decompressed file for each byte that it is delivered with. "
        "Does not count up to 64 MiB.",
    )

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
