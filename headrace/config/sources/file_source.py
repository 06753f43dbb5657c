"""Models of sources whose entities are files in the landing zone."""

from typing import Literal, Self

from pydantic import Field, model_validator

from headrace.config.entities.entity import EntityConfig, SourceConfig
from headrace.config.model import Name, did_you_mean
from headrace.config.sources.file_extract import TEXT_FORMATS, CsvFormat, FileExtract
from headrace.config.sources.file_formats import (
    FixedWidthFormat,
    JsonFormat,
    JsonLinesFormat,
    member_path,
)

# Options of an extract that say until when a partition waits for a file.
_WAITING = ("missing_file", "expected_by", "expected_on", "closed_on")


class FileEntity(EntityConfig):
    """One set of files of a source."""

    extract: FileExtract = Field(description="How it is read.")

    @model_validator(mode="after")
    def _fields_have_columns(self) -> Self:
        form = self.extract.format
        fields = form.header if isinstance(form, CsvFormat) else None
        if isinstance(fields, tuple):
            for column in self.columns:
                count = sum(fields.count(name) for name in column.source_names)
                if count > 1 or (not count and not column.may_be_absent):
                    times = "more than once" if count else "not"
                    near = "" if count else did_you_mean(column.source_name, fields)
                    raise ValueError(
                        f"extract.format.header: {column.source_name} is {times} among the fields "
                        f"of format.header{near}"
                    )
        return self

    @model_validator(mode="after")
    def _columns_have_positions(self) -> Self:
        form = self.extract.format
        if isinstance(form, FixedWidthFormat):
            names = [column.name for column in self.columns]
            if missing := [name for name in names if name not in form.positions]:
                raise ValueError(
                    f"extract.format.positions: column {missing[0]} has none: add its first and "
                    "last character"
                )
            if extra := [name for name in form.positions if name not in names]:
                near = did_you_mean(extra[0], names)
                raise ValueError(
                    f"extract.format.positions.{extra[0]}: is no column{near}: drop it, or declare "
                    "it in columns"
                )
        return self

    @model_validator(mode="after")
    def _members_have_columns(self) -> Self:
        if not isinstance(self.extract.format, JsonFormat | JsonLinesFormat):
            return self
        paths: dict[tuple[str, ...], str] = {}
        for column in self.columns:
            for name in column.source_names:
                try:
                    path = member_path(name)
                except ValueError as error:
                    raise ValueError(f"columns[{column.name}].from: {error}") from None
                for other, owner in paths.items():
                    if path[: len(other)] == other or other[: len(path)] == path:
                        raise ValueError(
                            f"columns[{column.name}].from: {name} and the path of '{owner}' lead "
                            "to the same value: a member is either captured as JSON or flattened"
                        )
                paths[path] = column.name
        return self

    @model_validator(mode="after")
    def _waiting_options_have_a_use(self) -> Self:
        """Refuse options that say until when a file is waited for, where none is."""
        extract = self.extract
        given = [name for name in _WAITING if name in extract.model_fields_set]
        if given and extract.day_of_object != "name":
            day = "rows say the day" if extract.partition_by else "files name no day"
            raise ValueError(
                f"extract.{given[0]}: is for a path with {{date:…}}; here {day}, and no partition "
                f"waits for a file: drop {' and '.join(given)}"
            )
        useless = [name for name in given if name != "missing_file"]
        if useless and extract.missing_file == "empty":
            raise ValueError(
                f"extract.{useless[0]}: has no effect beside `missing_file: empty`, by which every "
                f"partition without a file is empty at once: drop {' and '.join(useless)}, or "
                "missing_file"
            )
        useless = [name for name in ("expected_on", "closed_on") if name in given]
        if useless and self.partition in ("month", "year", "none"):
            raise ValueError(
                f"extract.{useless[0]}: says of which days there is a file; with `partition: "
                f"{self.partition}` one file is expected whatever the days: drop "
                f"{' and '.join(useless)}"
            )
        if self.partition == "none" and "expected_by" in given:
            raise ValueError(
                "extract.expected_by: counts from the last day of a partition, and `partition: "
                "none` has none: drop it"
            )
        return self


class FilesSource(SourceConfig):
    """Files in the landing zone and the entities in them."""

    connector: Literal["files", "parquet_files"] = Field(
        description="The kind of source: `files`, text, JSON or Excel in the landing zone; or "
        "`parquet_files`, Parquet files there, whose values have types."
    )
    connection: Name | None = Field(
        None,
        description="An SFTP server whose files are read: one of `connections` in base.yaml or its "
        "overlays, of `kind: sftp`. By default the landing zone.",
    )
    entities: tuple[FileEntity, ...] = Field(min_length=1, description="Its file sets.")

    @model_validator(mode="before")
    @classmethod
    def _format_of_connector(cls, values: object) -> object:
        """Set the format's type for the connector `parquet_files`."""
        if not isinstance(values, dict) or values.get("connector") != "parquet_files":
            return values
        entities = values.get("entities")
        if not isinstance(entities, list):
            return values
        return values | {"entities": [_in_parquet(entity) for entity in entities]}

    @model_validator(mode="after")
    def _formats_fit(self) -> Self:
        kinds = ("parquet",) if self.connector == "parquet_files" else ("csv", *TEXT_FORMATS)
        for entity in self.entities:
            if entity.extract.format.type not in kinds:
                raise ValueError(
                    f"entities[{entity.name}].extract.format.type: connector {self.connector} "
                    f"reads {', '.join(kinds)}, not {entity.extract.format.type}: drop it, or "
                    "correct connector"
                )
        return self

    def kind_of(self, entity: EntityConfig) -> str:
        """See SourceConfig."""
        form = entity.extract.format if isinstance(entity.extract, FileExtract) else None
        return form.type if form else self.connector


def _in_parquet(entity: object) -> object:
    if not isinstance(entity, dict) or not isinstance(extract := entity.get("extract"), dict):
        return entity
    form = extract.get("format", {})
    if not isinstance(form, dict) or "type" in form:
        return entity
    return entity | {"extract": extract | {"format": form | {"type": "parquet"}}}
