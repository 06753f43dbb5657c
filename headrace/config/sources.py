"""Models of `config/sources/*.yaml`: one file a source, with its entities."""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal, Self, get_args
from zoneinfo import available_timezones

from pydantic import (
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)

from headrace.config.columns import KEY_FORMS, TIMES, ColumnConfig, Form
from headrace.config.model import (
    OWNERS_DESCRIPTION,
    TAGS_DESCRIPTION,
    ColumnName,
    KeyColumnName,
    Name,
    Owner,
    StrictModel,
    TagName,
    TagValue,
    did_you_mean,
)
from headrace.grain import Grain
from headrace.schema import Column, TableSchema

_BRACES = re.compile(r"\{[^{}]*\}?|\}")
_DATE_FIELD = re.compile(r"\{date:([^{}]+)\}")
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
MonthDay = Annotated[str, StringConstraints(pattern=r"^(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])$")]
_A_MONDAY = date(2024, 1, 1)
_WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
# A day, and first days of periods, by which it is seen what a date in a path tells.
_PROBES: Mapping[Literal["day", "month", "year"], date] = {
    "day": date(2017, 11, 23),
    "month": date(2017, 11, 1),
    "year": date(2017, 1, 1),
}
_FROM_DOUBLE = ("double", "decimal", "int", "bigint")
_PERIODS = ("day", "week", "month", "year", "none")
# Where a row was read: part of the key where the source repeats its own (KeyColumnName).
PLACE_COLUMNS = {
    "_source_object": Column(
        "_source_object", "string", description="File, table or topic partition."
    ),
    "_source_position": Column(
        "_source_position", "bigint", description="Line, row, offset or LSN in it."
    ),
}
OPERATION_DESCRIPTION = "insert, update or delete of a change feed; NULL: a row as it was found."
# What was delivered later is newer, whichever run captured it; within a file, the later line is.
SOURCE_ORDER = ("_delivery_order", *PLACE_COLUMNS)


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
        "it part of the text, such as \\ in MySQL's exports. Before anything else it stays as it "
        "is; null: none.",
    )
    header: bool | tuple[str, ...] = Field(
        True,
        description="Whether the first line names the fields. false: the fields are `columns`, in "
        "their order. A list: the fields are these, in this order.",
        examples=[["id", "sold_at", "unused", "amount"]],
    )
    skip_lines: int = Field(0, ge=0, description="Lines before the header that are no rows.")
    footer: Annotated[int, Field(ge=0)] | Annotated[str, Field(min_length=1)] = Field(
        0,
        description="How many lines at the end are no rows; blank ones do not count. A text: the "
        "last line begins with it and is no row, and a file without that line was cut off.",
        examples=[1, "TRAILER|"],
    )
    comment: str | None = Field(
        None, min_length=1, description="A line that begins with this text is no row."
    )
    encoding: str = Field("utf-8", description="Python's name of the encoding, such as cp1252.")
    bad_bytes: Literal["fail", "quarantine", "replace"] = Field(
        "fail",
        description="What becomes of bytes that are no text in `encoding`: the file fails, their "
        "row is quarantined, or the character U+FFFD takes their place.",
    )
    max_line_breaks: int = Field(
        100,
        ge=0,
        description="Line breaks that a quoted field may have. A field with more is taken for a "
        "quote that was left open, and its lines are quarantined. 0: no field has line breaks.",
    )
    null_texts: tuple[str, ...] = Field(
        (), description="Texts that mean NULL, besides the empty one."
    )

    @field_validator("quote", "escape")
    @classmethod
    def _one_byte(cls, value: str | None) -> str | None:
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
            raise ValueError(f"'{value}' is not an encoding that Python knows") from None
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
        """What a file's rows depend on: options that are not the default, and the first four."""
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
        """What a file's rows depend on, besides the columns."""
        return (self.type,)


def _format_of(value: object) -> str:
    kind = value.get("type", "csv") if isinstance(value, dict) else getattr(value, "type", "csv")
    return "parquet" if kind == "parquet" else "csv"


FileFormat = Annotated[
    Annotated[CsvFormat, Tag("csv")] | Annotated[ParquetFormat, Tag("parquet")],
    Discriminator(_format_of),
]

# Ids of files that raw holds must stay the same, so an option at its default is not part of them.
_READING_OPTIONS = (
    "escape",
    "header",
    "skip_lines",
    "footer",
    "comment",
    "bad_bytes",
    "max_line_breaks",
)


class FileExtract(StrictModel):
    """Files in the landing zone: where an entity's files lie and which days they belong to."""

    mode: Literal["files"] = Field(description="Files in the landing zone.")
    path: str = Field(
        description="Path below the landing zone. `{date:%Y-%m-%d}` stands for the day (strftime "
        "codes %Y %m %d %y %b %j; several fields may name it together), `*` for any run of "
        "characters but `/`. The same path with .gz after it matches too; gzip is known by a "
        "file's bytes.",
        examples=["orders/orders-{date:%Y-%m-%d}.csv", "{date:%Y}/{date:%m}/sales-{date:%d}.csv"],
    )
    partition_by: ColumnName | None = Field(
        None,
        description="Date or timestamp column whose day is the row's partition, where `path` has "
        "no {date:…}. Rows whose day cannot be read are captured as corrupt records of the first "
        "partition; rows of days outside the partitions are counted and passed over. With neither, "
        "the files are reference data, such as a product list: a file's first version belongs to "
        "the first partition, each later one to the day of its modification time.",
    )
    format: FileFormat = Field(
        CsvFormat(), description="How bytes become rows. By default that of the connector."
    )
    missing_file: Literal["hold", "empty"] = Field(
        "hold",
        description="A day without a file is held until one comes, or is an empty day. Asked only "
        "where `path` has {date:…}.",
    )
    expected_on: tuple[Weekday, ...] = Field(
        _WEEKDAYS,
        min_length=1,
        description="Days of the week of which there is a file; the others are empty without one.",
        examples=[["mon", "tue", "wed", "thu", "fri"]],
    )
    closed_on: tuple[date | MonthDay, ...] = Field(
        (),
        description="Days of which there is no file: dates, or `MM-DD` for every year.",
        examples=[["12-25", "2024-03-29"]],
    )
    expected_by: str | None = Field(
        None,
        pattern=r"^(?:\d{1,3}d )?(?:[01]\d|2[0-3]):[0-5]\d$",
        description="Until when a day without a file is held: a time (UTC) on the day after it, or "
        "so many days after it. Then it is empty, with a warning. Without it, it is held for good. "
        "In a longer partition the days count from its last day. For partitions of a day it is the "
        "asset's freshness policy in Dagster.",
        examples=["06:00", "3d 12:00"],
    )
    optional: bool = Field(
        False, description="Whether there may be no file at all; otherwise that fails every day."
    )
    extra_columns: Literal["fail", "ignore"] = Field(
        "fail", description="A file with a column that is not declared fails, or loses that column."
    )

    @field_validator("path")
    @classmethod
    def _lies_below_the_landing_zone(cls, value: str) -> str:
        if "://" in value or value.startswith("/"):
            raise ValueError(
                "must be a path below the landing zone (`landing.uri`), without a / first"
            )
        if "\\" in value:
            raise ValueError("must have / between folders, not \\")
        if re.match(r"[A-Za-z]:/", value):
            raise ValueError("must be a path below the landing zone (`landing.uri`), not a drive's")
        if any(part in {"", ".", ".."} for part in value.split("/")):
            raise ValueError("must name folders and a file, without empty parts, . or ..")
        return value

    @field_validator("expected_by", mode="before")
    @classmethod
    def _time_of_day(cls, value: object) -> object:
        # YAML reads 10:30 as minutes: 630.
        return f"{value // 60:02d}:{value % 60:02d}" if isinstance(value, int) else value

    def expects_file(self, day: date) -> bool:
        """Whether there is a file of `day`, by what is declared of weekdays and closed days."""
        closed = {day, f"{day:%m-%d}"} & {*self.closed_on}
        return _WEEKDAYS[day.weekday()] in self.expected_on and not closed

    def waits_until(self, day: date) -> datetime | None:
        """Until when a file of `day` is waited for, UTC; None: for good."""
        if self.expected_by is None:
            return None
        days, _, time = self.expected_by.rpartition("d ")
        at = datetime.strptime(time, "%H:%M").time()  # noqa: DTZ007  # UTC is put on below
        return datetime.combine(day + timedelta(days=int(days or 1)), at, UTC)

    def deadlines(self) -> str | None:
        """The times at which a file is due, UTC, as cron says it; None where there is no limit."""
        due = self.waits_until(_A_MONDAY)
        if due is None or self.day_of_file != "name":
            return None
        later = (due.date() - _A_MONDAY).days
        # Cron counts from Sunday.
        days = sorted((_WEEKDAYS.index(day) + 1 + later) % 7 for day in self.expected_on)
        return f"{due.minute} {due.hour} * * {','.join(map(str, days))}"

    @property
    def day_of_file(self) -> Literal["name", "rows", "time"]:
        """What says the day: the name of a file, its rows, or when it was written."""
        if self.date_fields:
            return "name"
        return "rows" if self.partition_by is not None else "time"

    @property
    def delimiter(self) -> str:
        """Text between the columns of a corrupt record."""
        return self.format.delimiter if isinstance(self.format, CsvFormat) else ","

    @property
    def csv(self) -> CsvFormat:
        """The format of delimited text."""
        if not isinstance(self.format, CsvFormat):
            raise TypeError(f"{self.path} is not delimited text")
        return self.format

    @property
    def is_typed(self) -> bool:
        """Whether the values of its files have types."""
        return not isinstance(self.format, CsvFormat)

    @property
    def date_fields(self) -> tuple[str, ...]:
        """The strftime patterns in `path`; together they name the day. None: see `day_of_file`."""
        return tuple(_DATE_FIELD.findall(self.path))

    def path_of(self, day: date) -> str:
        """`path` with the day filled in; `*` stays."""
        return _DATE_FIELD.sub(lambda match: day.strftime(match[1]), self.path)

    @model_validator(mode="after")
    def _days_are_known(self) -> Self:
        fields = self.date_fields
        if stray := _BRACES.findall(_DATE_FIELD.sub("", self.path)):
            raise ValueError(
                f"path: {stray[0]} stands for nothing: the day is {{date:%Y-%m-%d}}, and * is any "
                "run of characters"
            )
        if fields and self.partition_by is not None:
            raise ValueError("the day is in the path or in a row: give {date:…} or partition_by")
        if fields and self.named_period is None:
            raise ValueError(
                f"path: {{date:{'} {date:'.join(fields)}}} does not name one day: year, month and "
                "day in strftime's codes, such as {date:%Y-%m-%d}"
            )
        return self

    @property
    def named_period(self) -> Literal["day", "month", "year"] | None:
        """The shortest period that the date in a file's name tells; None: not even a year."""
        for period, day in _PROBES.items():
            if _name_one(self.date_fields, day):
                return period
        return None


def _name_one(fields: Sequence[str], probe: date) -> bool:
    # Each code once: a day that is in the folder and in the name is no contradiction.
    pattern = " ".join(dict.fromkeys(re.findall(r"%.", "".join(fields))))
    try:
        return datetime.strptime(probe.strftime(pattern), pattern).date() == probe  # noqa: DTZ007
    except ValueError:
        return False


def _second(names: Sequence[str]) -> int | None:
    """The place of the first name that stands before it already."""
    return next((i for i, name in enumerate(names) if name in names[:i]), None)


class RowRule(StrictModel):
    """A condition that every processed row keeps; a row that breaks it is quarantined."""

    name: Name = Field(description="Lower snake case, at most 48 characters.")
    expect: str = Field(
        description="SQL condition over the entity's columns; NULL passes. "
        "docs/how-to/write-rules-and-conditions.md says what it may use."
    )
    reason: str = Field(description="What the quarantined row says of itself.")


class QualityConfig(StrictModel):
    """When a whole partition is held, though its rows could be written."""

    max_quarantined_share: float = Field(
        0.05, ge=0, le=1, description="Share of a day's rows that may be quarantined."
    )
    min_rows: int = Field(0, ge=0, description="A day with fewer published rows is held…")
    allow_empty: bool = Field(True, description="…unless it has none at all and this is true.")
    max_rows: int | None = Field(None, ge=0, description="A day with more published rows is held.")

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        if self.max_rows is not None and self.min_rows > self.max_rows:
            raise ValueError(
                f"min_rows: {self.min_rows} is more than max_rows, {self.max_rows}: every day "
                "would be held"
            )
        return self


class EntityConfig(StrictModel):
    """One table, file set or topic of a source."""

    name: Name = Field(
        description="Second part of its tables' names. Lower snake case, at most 48 characters."
    )
    description: str = Field("", description="What one row stands for; shown in Dagster's UI.")
    extract: FileExtract = Field(description="How it is read.")
    partition: Literal["day", "week", "month", "year", "none"] | None = Field(
        None,
        description="How long a partition of its tables is: `day`, `week` (from Monday), `month`, "
        "`year`, or `none`: one state of all. Left out it is `day`; of files of which neither name "
        "nor rows say a day it is `none`, where no fact is made of them: each version that is "
        "captured counts from the day on which it was written.",
        examples=["month"],
    )
    where: str | None = Field(
        None,
        description="SQL condition over the columns. A row for which it is not true is no row of "
        "this entity: it is counted and left out. For files that tell of several entities.",
        examples=["customer_id is not null"],
    )
    key: tuple[KeyColumnName, ...] = Field(
        min_length=1,
        description="Natural key: of the rows of a day that agree in it, the latest counts: that "
        "of the file written last, and of the last line there. Where the source itself repeats a "
        "key and each row counts, add `_source_position`, the line in the file (and "
        "`_source_object`, the file, if a day has several).",
        examples=[["invoice_no", "stock_code"], ["invoice_no", "_source_position"]],
    )
    duplicates: Literal["keep", "drop"] = Field(
        "keep",
        description="What becomes of rows of a day that agree in every column, wherever they "
        "stand: `drop` keeps the first of them. Rows that differ in any column are not touched by "
        "it; dropped ones are counted (`rows_repeated`).",
    )
    event_time: ColumnName | None = Field(
        None,
        description="When the row happened. Its day (in `timezone`) must lie in the row's "
        "partition: a row of another day is quarantined. By default what a fact of the entity "
        "says, or `partition_by`.",
    )
    timezone: str | None = Field(
        None,
        description="Zone of its local times, by its IANA name. Then a `timestamptz` without an "
        "offset is local time there, a row's day is the local one, and a `timestamp` or a day is "
        "compared as the instant that it is. Without it, days are UTC and a `timestamptz` without "
        "an offset is, too.",
        examples=["Europe/Berlin"],
    )
    columns: tuple[ColumnConfig, ...] = Field(min_length=1, description="What it consists of.")
    rules: tuple[RowRule, ...] = Field(
        (), description="Conditions that every row keeps, besides its columns' types."
    )
    quality: QualityConfig = Field(QualityConfig(), description="When a whole day is held.")
    transform: str | None = Field(
        None,
        pattern=r"^[\w.]+:\w+$",
        description="package.module:function, DataFrame in, DataFrame out, after typing.",
    )
    owners: tuple[Owner, ...] = Field(
        (), description=f"{OWNERS_DESCRIPTION} By default the source's."
    )
    tags: dict[TagName, TagValue] = Field(
        default_factory=dict, description=f"{TAGS_DESCRIPTION} Besides the source's."
    )

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, value: str | None) -> str | None:
        if value is not None and value not in (known := available_timezones()):
            near = did_you_mean(value, (zone for zone in known if "/" in zone))
            raise ValueError(f"is not a time zone's name, such as Europe/Berlin{near}")
        return value

    @model_validator(mode="after")
    def _names_resolve(self) -> Self:
        names = [column.name for column in self.columns]
        if again := _second(names):
            raise ValueError(f"columns[{again}].name: '{names[again]}' is declared twice")
        times = {"event_time": self.event_time, "extract.partition_by": self.extract.partition_by}
        days = {place: name for place, name in times.items() if name is not None}
        wanted = {"key": self.key, **{place: (name,) for place, name in days.items()}}
        for place, used in wanted.items():
            if unknown := sorted({*used} - {*names, *PLACE_COLUMNS}):
                near = did_you_mean(unknown[0], names)
                raise ValueError(
                    f"{place}: {', '.join(unknown)}: not among the columns {', '.join(names)}{near}"
                )
        if len({*self.key}) < len(self.key):
            raise ValueError(f"key: {', '.join(self.key)}: names a column twice")
        if self.event_time is not None and self.extract.day_of_file == "time":
            raise ValueError(
                f"extract: a path without {{date:…}} needs partition_by: {self.event_time}, "
                "since a row's day is that of its event_time"
            )
        for place, name in days.items():
            if self.column(name).type not in TIMES:
                raise ValueError(f"{place}: '{name}' says the day, and is no date or timestamp")
        return self

    @model_validator(mode="after")
    def _source_types_fit(self) -> Self:
        for i, column in enumerate(self.columns):
            place = f"columns[{i}].source_type"
            if column.source_type and not self.extract.is_typed:
                raise ValueError(f"{place}: delimited text has no types: drop it")
            kinds = (self.captured_type(column), column.type)
            if kinds[0] == "double" and column.kind not in _FROM_DOUBLE:
                raise ValueError(f"{place}: a double is no {column.type}")
        return self

    @model_validator(mode="after")
    def _rules_once(self) -> Self:
        rules = [rule.name for rule in self.rules]
        if again := _second(rules):
            raise ValueError(f"rules[{again}].name: '{rules[again]}' is declared twice")
        return self

    @model_validator(mode="after")
    def _absent_columns_are_not_needed(self) -> Self:
        for column in self.columns:
            if column.name in self.key and column.may_be_absent and column.default is None:
                raise ValueError(
                    f"key: rows of files without '{column.name}' would have no key: give the "
                    "column a default"
                )
        by = self.extract.partition_by
        if by is not None and self.column(by).may_be_absent:
            raise ValueError(f"partition_by: '{by}' says the day of a row: no file may lack it")
        return self

    @property
    def grain(self) -> Grain:
        """The grain of its raw and processed tables."""
        if self.partition is None:
            return Grain.DAY
        if self.partition == "none" and self.extract.day_of_file == "time":
            return Grain.SPARSE
        return Grain(self.partition)

    def expects_file(self, partition: date) -> bool:
        """Whether there is a file of a partition, by the declared weekdays and closed days."""
        if self.grain == Grain.NONE:
            return not self.extract.optional
        return any(map(self.extract.expects_file, self.grain.days_of(partition)))

    def waits_until(self, partition: date) -> datetime | None:
        """Until when a file of a partition is waited for, UTC: counted from its last day.

        None: for good.
        """
        is_whole = self.grain == Grain.NONE
        last = partition if is_whole else self.grain.end_of(partition) - timedelta(days=1)
        return self.extract.waits_until(last)

    def deadlines(self) -> str | None:
        """The times at which a day's file is due, UTC, as cron; None without a limit.

        None of longer partitions too: cron cannot count days from the end of a month.
        """
        return self.extract.deadlines() if self.grain == Grain.DAY else None

    @model_validator(mode="after")
    def _periods_are_known(self) -> Self:
        """Refuse a partition that neither names nor rows of files tell."""
        extract = self.extract
        if extract.day_of_file == "time" and self.partition in ("week", "month", "year"):
            raise ValueError(
                f"partition: {self.partition}: neither files nor rows say a day: give the path "
                "{date:…} or the extract partition_by, or leave partition out"
            )
        if not extract.date_fields:
            return self
        named = extract.named_period
        if named is None or _PERIODS.index(named) > _PERIODS.index(self.partition or "day"):
            fields = "} {date:".join(extract.date_fields)
            raise ValueError(
                f"extract.path: {{date:{fields}}} does not name one {self.partition or 'day'}: "
                "year, month and day in strftime's codes, such as {date:%Y-%m-%d}"
            )
        return self

    @property
    def day_column(self) -> str | None:
        """The column whose day is the row's partition; None where only its file says the day."""
        return self.event_time or self.extract.partition_by

    @model_validator(mode="after")
    def _fields_have_columns(self) -> Self:
        form = self.extract.format
        fields = form.header if isinstance(form, CsvFormat) else None
        if isinstance(fields, tuple):
            for column in self.columns:
                count = sum(fields.count(name) for name in column.source_names)
                if count > 1 or (not count and not column.may_be_absent):
                    times = "more than once" if count else "not"
                    raise ValueError(
                        f"{column.source_name} is {times} among the fields of format.header"
                    )
        return self

    def column(self, name: str) -> ColumnConfig:
        """The column called `name`; KeyError if there is none."""
        return {column.name: column for column in self.columns}[name]

    def forms_of(self, column: ColumnConfig) -> tuple[Form, ...]:
        """How texts of a column that look equal are made equal."""
        if column.normalize is not None:
            return column.normalize
        return KEY_FORMS if column.type == "string" and column.name in self.key else ()

    def with_joined(self, names: Collection[str]) -> Self:
        """The entity with the columns called `names` normalized as keys are, if they may be."""
        columns = [
            column.model_copy(update={"normalize": KEY_FORMS})
            if column.name in names and column.type == "string" and column.normalize is None
            else column
            for column in self.columns
        ]
        return self.model_copy(update={"columns": tuple(columns)})

    def processed_column(self, name: str) -> Column:
        """The column called `name` as processed, those of PLACE_COLUMNS too.

        Raises:
            KeyError: There is no such column.
        """
        return PLACE_COLUMNS[name] if name in PLACE_COLUMNS else self.declared_schema().column(name)

    def captured_columns(self) -> tuple[Column, ...]:
        """The declared columns as raw keeps them; see `captured_type`."""
        return tuple(
            Column(c.name, self.captured_type(c), description=c.description) for c in self.columns
        )

    def captured_type(self, column: ColumnConfig) -> str:
        """A column's type in raw: that of the source, text where the source has no types."""
        return (column.source_type or column.type) if self.extract.is_typed else "string"

    def declared_schema(self) -> TableSchema:
        """The declared columns as processed."""
        filled = {*self.key, *(c.name for c in self.columns if c.has_always_a_value)}
        return TableSchema(
            tuple(Column(c.name, c.type, c.name not in filled, c.description) for c in self.columns)
        )


def _in_parquet(entity: object) -> object:
    if not isinstance(entity, dict) or not isinstance(extract := entity.get("extract"), dict):
        return entity
    form = extract.get("format", {})
    if not isinstance(form, dict) or "type" in form:
        return entity
    return entity | {"extract": extract | {"format": form | {"type": "parquet"}}}


class SourceConfig(StrictModel):
    """One source: a connector and its entities."""

    name: Name = Field(
        description="First part of its tables' names. Lower snake case, at most 48 characters."
    )
    connector: Literal["files", "parquet_files"] = Field(
        description="The kind of source: `files`, delimited text in the landing zone; or "
        "`parquet_files`, Parquet there, whose values have types."
    )
    description: str = Field("", description="What it is, for people.")
    entities: tuple[EntityConfig, ...] = Field(
        min_length=1, description="Its tables, file sets or topics."
    )
    owners: tuple[Owner, ...] = Field((), description=OWNERS_DESCRIPTION)
    tags: dict[TagName, TagValue] = Field(default_factory=dict, description=TAGS_DESCRIPTION)

    @model_validator(mode="before")
    @classmethod
    def _format_of_connector(cls, values: object) -> object:
        """Parquet's connector reads Parquet without a `format` that says so."""
        if not isinstance(values, dict) or values.get("connector") != "parquet_files":
            return values
        entities = values.get("entities")
        if not isinstance(entities, list):
            return values
        return values | {"entities": [_in_parquet(entity) for entity in entities]}

    @model_validator(mode="after")
    def _formats_fit(self) -> Self:
        kind = "parquet" if self.connector == "parquet_files" else "csv"
        for entity in self.entities:
            if entity.extract.format.type != kind:
                raise ValueError(
                    f"entities[{entity.name}].extract.format.type: connector {self.connector} "
                    f"reads {kind}, not {entity.extract.format.type}: drop it, or correct connector"
                )
        return self

    def owned(self, entity: EntityConfig) -> EntityConfig:
        """The entity with the owners and tags that it has from its source."""
        if not self.owners and not self.tags:
            return entity
        inherited = {
            "owners": entity.owners or self.owners,
            "tags": {**self.tags, **entity.tags},
        }
        return entity.model_copy(update=inherited)

    @model_validator(mode="after")
    def _entities_once(self) -> Self:
        names = [entity.name for entity in self.entities]
        if again := _second(names):
            raise ValueError(f"entities[{again}].name: '{names[again]}' is declared twice")
        return self
