"""Models of what says that a file has arrived whole: time, a marker file, or a manifest."""

import re
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from headrace.config.model import StrictModel, did_you_mean, tag_of
from headrace.config.sources.file_formats import member_path

_FIELD = re.compile(r"\{([^{}]*)\}")
_OF_A_FILE = ("path", "folder", "name")


class SettledArrival(StrictModel):
    """A file has arrived once it has not changed for `sensor.settle_seconds`."""

    type: Literal["settled"] = Field("settled", description="By the time since its last change.")


class _NamedArrival(StrictModel):
    """What both kinds of files that say so have in common."""

    @field_validator("path", check_fields=False)
    @classmethod
    def _lies_below_the_landing_zone(cls, value: str) -> str:
        for field in _FIELD.findall(value):
            if not field.startswith("date:") and field not in _OF_A_FILE:
                near = did_you_mean(field, _OF_A_FILE)
                raise ValueError(
                    f"{{{field}}} stands for nothing: use {{path}}, {{folder}}, {{name}} or "
                    f"{{date:%Y-%m-%d}}{near}"
                )
        parts = value.split("/")
        if value.startswith(("/", "~")) or "\\" in value or {"", ".", ".."} & {*parts}:
            raise ValueError(
                "must be a path below the landing zone, with / between folders, without .. and "
                "empty parts"
            )
        if any(part.startswith(".") for part in parts) or value.endswith((".tmp", ".part", "~")):
            raise ValueError("is the name of a hidden or unfinished file, which is not listed")
        return value


class MarkerArrival(_NamedArrival):
    """A file has arrived once its marker file is there, which was not written before it."""

    type: Literal["marker"] = Field(description="By a marker file.")
    path: str = Field(
        min_length=1,
        description="Path of the marker. `{path}` is the path of the file, `{folder}` its folder, "
        "`{name}` its name without it; `{date:%Y-%m-%d}` is the day in the file's path.",
        examples=["{path}.done", "{folder}/_SUCCESS", "done/{date:%Y-%m-%d}.ok"],
    )


class ManifestArrival(_NamedArrival):
    """A file has arrived once all files that its manifest lists are there as listed."""

    type: Literal["manifest"] = Field(description="By a manifest, which lists files.")
    path: str = Field(
        min_length=1,
        description="Path of the manifest, with `{folder}` and `{date:…}` as those of a marker. "
        "The names in it are relative to its folder.",
        examples=["{folder}/manifest.json", "manifests/{date:%Y-%m-%d}.csv"],
    )
    format: Literal["lines", "checksums", "csv", "json"] = Field(
        "lines",
        description="`lines`, a name a line; `checksums`, lines of `sha256sum`, `sha1sum` or "
        "`md5sum`; `csv`, with a header; `json`, an array of names or of objects.",
    )
    records: str = Field(
        "$",
        description="Of a `json` manifest: the path of the array.",
        examples=["files", "delivery.files"],
    )
    name: str = Field("name", description="Column or member with the name.")
    size: str = Field("size", description="Column or member with the size in bytes; may be absent.")
    checksum: str = Field(
        "checksum",
        description="Column or member with the checksum in hexadecimal digits, MD5, SHA-1 or "
        "SHA-256; may be absent. Files that have one are read twice.",
    )

    @field_validator("path")
    @classmethod
    def _is_one_of_several_files(cls, value: str) -> str:
        if found := [name for name in ("path", "name") if f"{{{name}}}" in value]:
            raise ValueError(f"{{{found[0]}}} is of one file: a manifest lists all of a folder")
        return value

    @field_validator("records")
    @classmethod
    def _is_path(cls, value: str) -> str:
        member_path(value)
        return value


Arrival = Annotated[
    Annotated[SettledArrival, Tag("settled")]
    | Annotated[MarkerArrival, Tag("marker")]
    | Annotated[ManifestArrival, Tag("manifest")],
    Discriminator(tag_of("type")),
]
