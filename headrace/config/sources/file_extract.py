"""Models of the files of an entity: path, day, arrival, and format."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from encodings.aliases import aliases
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)

from headrace.config.entities.extract import Extract
from headrace.config.model import (
    ColumnName,
    StrictModel,
    did_you_mean,
)
from headrace.config.sources.file_arrival import (
    Arrival,
    ManifestArrival,
    MarkerArrival,
    SettledArrival,
)
from headrace.config.sources.file_formats import (
    ExcelFormat,
    FixedWidthFormat,
    JsonFormat,
    JsonLinesFormat,
    UnpackLimits,
)

_BRACES = re.compile(r"\{[^{}]*\}?|\}")
_DATE_FIELD = re.compile(r"\{date:([^{}]+)\}")
# Codes of a date that stand outside of a field, with what is between them.
_BARE_CODES = re.compile(r"%[YmdybjBHF](?:[-_.]?%[YmdybjBHF])*")
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
MonthDay = Annotated[str, StringConstraints(pattern=r"^(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])$")]
_MEMBERS = re.compile(r"\.zip!", re.IGNORECASE)
_OTHER_ARCHIVE = re.compile(r"(\.(?:tar|tar\.gz|tgz|tar\.zst|7z|rar))(?:!|$)", re.IGNORECASE)
_A_MONDAY = date(2024, 1, 1)
_WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
# A day, and first days of periods, to find the shortest period that a date in a path determines.
_PROBES: Mapping[Literal["day", "month", "year"], date] = {
    "day": date(2017, 11, 23),
    "month": date(2017, 11, 1),
    "year": date(2017, 1, 1),
}


class CsvFormat(StrictModel):
    """How the bytes of a delimited text file become rows of text."""

    type: Literal["csv"] = Field("csv", description="Delimited text.")
    delimiter: str = Field(
        ",", min_length=1, max_length=8, description="Text between fields: one character or more."
    )
    quote: str | None = Field(
        '"',
        max_length=1,
        description="Quote character; null: none. Two of them in a quoted field mean one.",
    )
    escape: str | None = Field(
        None,
        max_length=1,
        description="Character that makes the quote, delimiter, line end or escape character after "
        "it part of the text, such as \\ in MySQL's exports. Before any other character it is text "
        "itself. null: none.",
    )
    header: bool | tuple[str, ...] = Field(
        True,
        description="Whether the first line names the fields. false: the fields are `columns`, in "
        "their order. A list: the fields are these, in this order.",
        examples=[["id", "sold_at", "unused", "amount"]],
    )
    skip_lines: int = Field(0, ge=0, description="Number of lines to skip before the header.")
    footer: Annotated[int, Field(ge=0)] | Annotated[str, Field(min_length=1)] = Field(
        0,
        description="Number of lines to skip at the end, not counting blank ones. A text: the last "
        "line begins with it and is skipped; a file without that line is incomplete and fails.",
        examples=[1, "TRAILER|"],
    )
    comment: str | None = Field(
        None, min_length=1, description="Prefix of comment lines, which are skipped."
    )
    encoding: str = Field("utf-8", description="Python's name of the encoding, such as cp1252.")
    bad_bytes: Literal["fail", "quarantine", "replace"] = Field(
        "fail",
        description="Treatment of bytes that are invalid in `encoding`: the file fails, their row "
        "is quarantined, or the character U+FFFD replaces them.",
    )
    max_line_breaks: int = Field(
        100,
        ge=0,
        description="Most line breaks in a quoted field. With more, the quote counts as never "
        "closed, and the lines are quarantined. 0: no field has line breaks.",
    )
    null_texts: tuple[str, ...] = Field(
        (), description="Texts that mean NULL, besides the empty text."
    )

    @field_validator("quote", "escape")
    @classmethod
    def _one_byte(cls, value: str | None) -> str | None:
        if value == "":
            raise ValueError("must be one sign, or null for none")
        # Arrow's reader takes bytes; no source seen so far uses another character.
        if value is not None and (not value.isascii() or value.isalnum() or value in "\r\n\0"):
            raise ValueError("must be an ASCII sign: no letter, digit or line end")
        return value

    @field_validator("delimiter")
    @classmethod
    def _is_no_name_of_a_sign(cls, value: str) -> str:
        if value.startswith("\\") and len(value) > 1 and value[1:].isalnum():
            raise ValueError(f'in quotes like "{value}" it is a sign; in others it is a text')
        if len(value) > 1 and value.isalnum():
            raise ValueError('must be the sign itself, such as ";", or "\\t" for a tab')
        return value

    @field_validator("delimiter", "comment", "footer")
    @classmethod
    def _within_a_line(cls, value: str | int | None) -> str | int | None:
        if isinstance(value, str) and set(value) & set("\r\n\0"):
            raise ValueError("must not contain a line end or a NUL")
        return value

    @field_validator("encoding")
    @classmethod
    def _encoding_exists(cls, value: str) -> str:
        try:
            "".encode(value)
        except LookupError:
            # Codecs are no encodings of texts.
            known = (name for name in aliases.values() if not name.endswith(("_codec", "rot_13")))
            near = did_you_mean(value.replace("-", "_"), known)
            raise ValueError(f"is not an encoding that Python knows{near}") from None
        return value

    @model_validator(mode="after")
    def _characters_differ(self) -> Self:
        if len(self.delimiter) == 1 and self.delimiter.isalnum():
            raise ValueError(f"delimiter {self.delimiter!r} is a letter or digit")
        if self.quote == self.delimiter:
            raise ValueError(
                f"quote: {self.quote!r} is the delimiter too; `quote: null`: no quotes"
            )
        if self.quote is not None and self.quote in self.delimiter:
            raise ValueError(f"quote {self.quote!r} is part of delimiter {self.delimiter!r}")
        if self.escape is not None and self.escape in self.delimiter:
            raise ValueError(f"escape {self.escape!r} is part of delimiter {self.delimiter!r}")
        for sign in filter(None, (self.quote, self.escape, self.delimiter)):
            if self.comment is not None and self.comment.startswith(sign):
                raise ValueError(f"comment {self.comment!r} begins with {sign!r}, as a row may")
        if isinstance(self.header, tuple) and not self.header:
            raise ValueError("header: a list names at least one field")
        return self

    @property
    def reading_id(self) -> tuple[str, ...]:
        """Options that the rows depend on: the first four, and those that differ from defaults."""
        first = (self.type, self.delimiter, str(self.quote), self.encoding)
        fields = type(self).model_fields
        others = (
            f"{name}={getattr(self, name)!r}"
            for name in _READING_OPTIONS
            if getattr(self, name) != fields[name].default
        )
        return (*first, *others)


class ParquetFormat(StrictModel):
    """Parquet files: their values have types, which raw keeps."""

    type: Literal["parquet"] = Field("parquet", description="Apache Parquet.")
    null_texts: tuple[str, ...] = Field((), description="Texts that mean NULL in text columns.")

    @property
    def reading_id(self) -> tuple[str, ...]:
        """Options that the rows depend on."""
        return (self.type,)


# Formats whose values have no types, besides delimited text.
TEXT_FORMATS = ("json", "json_lines", "excel", "fixed_width")


def _format_of(value: object) -> str:
    kind = value.get("type", "csv") if isinstance(value, dict) else getattr(value, "type", "csv")
    return kind if kind in ("parquet", *TEXT_FORMATS) else "csv"


FileFormat = Annotated[
    Annotated[CsvFormat, Tag("csv")]
    | Annotated[ParquetFormat, Tag("parquet")]
    | Annotated[JsonLinesFormat, Tag("json_lines")]
    | Annotated[JsonFormat, Tag("json")]
    | Annotated[ExcelFormat, Tag("excel")]
    | Annotated[FixedWidthFormat, Tag("fixed_width")],
    Discriminator(_format_of),
]

# Ids of files in raw must not change with a release, so options at their default are left out.
_READING_OPTIONS = (
    "escape",
    "header",
    "skip_lines",
    "footer",
    "comment",
    "bad_bytes",
    "max_line_breaks",
)


class FileExtract(Extract):
    """Files in the landing zone: their paths, and the days that they belong to."""

    mode: Literal["files"] = Field(description="Files in the landing zone.")
    path: str = Field(
        description="Path below the landing zone. `{date:%Y-%m-%d}` is the day (strftime codes %Y "
        "%m %d %y %b %j; several fields may give it together), `*` any characters except `/`. The "
        "same path with `.gz` or `.zst` after it matches, too; gzip and Zstandard are detected by "
        "the file's first bytes. After `.zip!` it is the path of a member of that archive.",
        examples=[
            "orders/orders-{date:%Y-%m-%d}.csv",
            "{date:%Y}/{date:%m}/sales-{date:%d}.csv",
            "orders-{date:%Y-%m-%d}.zip!*.csv",
        ],
    )
    partition_by: ColumnName | None = Field(
        None,
        description="Date or timestamp column whose day is the row's partition, where `path` has "
        "no {date:…}. Rows whose day cannot be read are captured as corrupt records of the first "
        "partition; rows of days outside the partitions are counted and left out. With neither "
        "{date:…} nor `partition_by`, the files are reference data, such as a product list: a "
        "file's first version belongs to the first partition, each later one to the day of its "
        "modification time.",
    )
    format: FileFormat = Field(
        CsvFormat(), description="Format of the files. By default that of the connector."
    )
    unpack: UnpackLimits = Field(
        UnpackLimits(), description="Limits of what a compressed file may become."
    )
    arrival: Arrival = Field(
        SettledArrival(),
        description="What says that a file has arrived whole. A day whose files have not all "
        "arrived is held; a file without a day in its path is left for a later run.",
        examples=[{"type": "marker", "path": "{path}.done"}],
    )
    archive_to: str | None = Field(
        None,
        min_length=1,
        description="Folder of the landing zone to which a file moves, with its path, once its "
        "rows are committed. Not with `partition_by`. By default files stay where they are.",
        examples=["archive"],
    )
    missing_file: Literal["hold", "empty"] = Field(
        "hold",
        description="Whether a day without a file is held until the file arrives, or is empty. "
        "This and the next three options are for a `path` with {date:…} only.",
    )
    expected_on: tuple[Weekday, ...] = Field(
        _WEEKDAYS,
        min_length=1,
        description="Weekdays for which a file is expected. Other days are empty without a file. "
        "Not for partitions longer than a week.",
        examples=[["mon", "tue", "wed", "thu", "fri"]],
    )
    closed_on: tuple[date | MonthDay, ...] = Field(
        (),
        description="Days for which no file is expected: dates, or `MM-DD` for every year. Not for "
        "partitions longer than a week.",
        examples=[["12-25", "2024-03-29"]],
    )
    expected_by: str | None = Field(
        None,
        pattern=r"^(?:\d{1,3}d )?(?:[01]\d|2[0-3]):[0-5]\d$",
        description="Deadline for the file of a day: a time (UTC) on the next day, or a number of "
        "days later and a time. A day without a file is held until then; afterwards it is empty, "
        "with a warning. Without a deadline, it stays held. For longer partitions, days are "
        "counted from the last day. For daily partitions, it is also the freshness policy of the "
        "asset in Dagster.",
        examples=["06:00", "3d 12:00"],
    )
    optional: bool = Field(
        False,
        description="Whether it is valid that no file has ever matched `path`; otherwise that "
        "fails every day.",
    )
    extra_columns: Literal["fail", "ignore"] = Field(
        "fail",
        description="Whether a file with a column that is not declared fails, or the column is "
        "ignored.",
    )

    @field_validator("path")
    @classmethod
    def _lies_below_the_landing_zone(cls, value: str) -> str:
        if "://" in value or value.startswith(("/", "~")):
            raise ValueError(
                "must be a path below the landing zone (`landing.uri`), without a / first"
            )
        if "\\" in value:
            raise ValueError("must have / between folders, not \\")
        if re.match(r"[A-Za-z]:/", value):
            raise ValueError("must be a path below the landing zone (`landing.uri`), not a drive's")
        if any(part in {"", ".", ".."} for part in value.split("/")):
            raise ValueError("must name folders and a file, without empty parts, . or ..")
        if other := _OTHER_ARCHIVE.search(value):
            raise ValueError(f"{other[1]} is no archive whose members can be read: deliver a .zip")
        if value.lower().endswith((".zip", ".zip!")):
            name = value.rstrip("!")
            raise ValueError(f"names an archive: name its members, too, such as {name}!*.csv")
        if len(_MEMBERS.findall(value)) > 1:
            raise ValueError("names an archive in an archive: deliver its files in one archive")
        return value

    @field_validator("expected_by", mode="before")
    @classmethod
    def _time_of_day(cls, value: object) -> object:
        # YAML reads 10:30 as minutes: 630.
        return f"{value // 60:02d}:{value % 60:02d}" if isinstance(value, int) else value

    def expects_file(self, day: date) -> bool:
        """Whether a file of `day` is expected, by weekdays and closed days."""
        closed = {day, f"{day:%m-%d}"} & {*self.closed_on}
        return _WEEKDAYS[day.weekday()] in self.expected_on and not closed

    def waits_until(self, day: date) -> datetime | None:
        """The deadline for a file of `day`, UTC; None: none."""
        if self.expected_by is None:
            return None
        days, _, time = self.expected_by.rpartition("d ")
        at = datetime.strptime(time, "%H:%M").time()  # noqa: DTZ007  # UTC is added below
        return datetime.combine(day + timedelta(days=int(days or 1)), at, UTC)

    def deadlines(self) -> str | None:
        """The deadlines of files, UTC, as a cron expression; None without deadlines."""
        due = self.waits_until(_A_MONDAY)
        if due is None or self.day_of_object != "name":
            return None
        later = (due.date() - _A_MONDAY).days
        # Cron counts from Sunday.
        days = sorted((_WEEKDAYS.index(day) + 1 + later) % 7 for day in self.expected_on)
        return f"{due.minute} {due.hour} * * {','.join(map(str, days))}"

    @property
    def day_of_object(self) -> Literal["name", "rows", "time"]:
        """What determines the day of a row: its file's path, the row, or the modification time."""
        if self.date_fields:
            return "name"
        return "rows" if self.partition_by is not None else "time"

    @property
    def delimiter(self) -> str:
        """Text between the columns of a corrupt record."""
        return self.format.delimiter if isinstance(self.format, CsvFormat) else ","

    @property
    def null_texts(self) -> tuple[str, ...]:
        """See Extract."""
        return self.format.null_texts

    @property
    def day_remedy(self) -> str:
        """See Extract."""
        return "give the path {date:…} or the extract partition_by"

    def no_day_of(self, event_time: str) -> str:
        """See Extract."""
        return (
            f"extract.path: names no day: add {{date:…}}, or partition_by: {event_time} beside it, "
            "since a row's day is that of its event_time"
        )

    @property
    def expects_any(self) -> bool:
        """See Extract."""
        return not self.optional

    @property
    def csv(self) -> CsvFormat:
        """The format of delimited text."""
        if not isinstance(self.format, CsvFormat):
            raise TypeError(f"{self.path} is not delimited text")
        return self.format

    @property
    def is_typed(self) -> bool:
        """Whether the values of its files have types."""
        return isinstance(self.format, ParquetFormat)

    @property
    def archive_path(self) -> str | None:
        """The part of `path` that names a zip archive, where it names members of one."""
        found = _MEMBERS.search(self.path)
        return self.path[: found.end() - 1] if found else None

    @property
    def date_fields(self) -> tuple[str, ...]:
        """The strftime patterns in `path`, which give the day together; empty without a date."""
        return tuple(_DATE_FIELD.findall(self.path))

    def path_of(self, day: date) -> str:
        """`path` with the day filled in; `*` stays."""
        return _DATE_FIELD.sub(lambda match: day.strftime(match[1]), self.path)

    @model_validator(mode="after")
    def _days_are_known(self) -> Self:
        fields = self.date_fields
        if any(week in field for field in fields for week in ("%U", "%V", "%W")):
            raise ValueError(
                "path: no date names a week: name one of its days, such as {date:%Y-%m-%d}, and "
                "write `partition: week` beside `extract`"
            )
        if stray := _BRACES.findall(_DATE_FIELD.sub("", self.path)):
            raise ValueError(
                f"path: {stray[0]} stands for nothing: the day is {{date:%Y-%m-%d}}, and * is any "
                "run of characters"
            )
        if code := _BARE_CODES.search(_DATE_FIELD.sub("", self.path)):
            raise ValueError(
                f"path: {code[0]} stands outside of braces, so it is no date: write "
                f"{{date:{code[0]}}}"
            )
        if fields and self.partition_by is not None:
            raise ValueError(
                "partition_by: the path names the day already: drop it, or drop {date:…} from the "
                "path"
            )
        if fields and self.named_period is None:
            raise ValueError(
                f"path: {{date:{'} {date:'.join(fields)}}} does not name one day: year, month and "
                "day in strftime's codes, such as {date:%Y-%m-%d}"
            )
        return self

    @field_validator("archive_to")
    @classmethod
    def _is_a_folder(cls, value: str | None) -> str | None:
        parts = (value or "x").rstrip("/").split("/")
        if "\\" in str(value) or any(
            p in {"", ".", ".."} or p.startswith((".", "~")) for p in parts
        ):
            raise ValueError(
                "must be a folder below the landing zone (`landing.uri`), not hidden and without .."
            )
        return value.rstrip("/") if value else value

    @model_validator(mode="after")
    def _archived_files_are_read_once(self) -> Self:
        if self.archive_to is not None and self.day_of_object == "rows":
            raise ValueError(
                "archive_to: files whose rows say the day are read again for days that come to "
                "exist: drop archive_to, or give path {date:…}"
            )
        return self

    @model_validator(mode="after")
    def _arrival_has_a_day(self) -> Self:
        arrival = self.arrival
        if not isinstance(arrival, MarkerArrival | ManifestArrival):
            return self
        if "{date:" in arrival.path and not self.date_fields:
            raise ValueError("arrival.path: has {date:…}, and path has none to take the day from")
        if arrival.path in ("{path}", self.path):
            raise ValueError("arrival.path: is the file itself: name the file that comes after it")
        return self

    @property
    def named_period(self) -> Literal["day", "month", "year"] | None:
        """The shortest period that the date in a path determines; None: not even a year."""
        for period, day in _PROBES.items():
            if _name_one(self.date_fields, day):
                return period
        return None


def _name_one(fields: Sequence[str], probe: date) -> bool:
    # Each code once: folder and file name may both have the day.
    pattern = " ".join(dict.fromkeys(re.findall(r"%.", "".join(fields))))
    try:
        return datetime.strptime(probe.strftime(pattern), pattern).date() == probe  # noqa: DTZ007
    except ValueError:
        return False
