"""A landing zone on S3, or on a server that speaks S3."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from headrace.errors import HeadraceError, SourceRejectedError, SourceUnavailableError
from headrace.sources.landing.landing_zone import (
    ByteStream,
    RandomAccess,
    StoredFile,
    changed_error,
    forbidden_error,
    is_finished,
    removed_error,
)

_FORBIDDEN = {401, 403}
_TRANSIENT = {408, 429}
_NOT_FOUND = 404
_PRECONDITION_FAILED = 412
_SERVER_ERROR = 500
# A larger object is copied by parts.
_COPIED_AT_ONCE = 5 * 2**30


@dataclass(frozen=True)
class S3Landing:
    """The objects below `prefix` of a bucket. A file's version is its ETag.

    Attributes:
        client: boto3's S3 client.
        bucket: Name of the bucket.
        prefix: Begins every key, without a slash at its end; empty for the whole bucket.
    """

    client: Any
    bucket: str
    prefix: str = ""

    @classmethod
    def of_uri(cls, client: Any, uri: str) -> Self:
        """The objects below `s3://bucket/prefix`."""
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        return cls(client, bucket, prefix.rstrip("/"))

    @property
    def name(self) -> str:
        """See Landing."""
        return f"s3://{self.bucket}/{self.prefix}"

    def list_files(self, prefix: str = "") -> tuple[StoredFile, ...]:
        """See Landing."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self._key(prefix)
        )
        try:
            objects = [found for page in pages for found in page.get("Contents", ())]
        except (ClientError, BotoCoreError) as error:
            raise _mapped_error(error, f"s3://{self.bucket}/{self._key(prefix)}") from error
        listed = (self._listed(found) for found in objects)
        # A key that ends in a slash stands for a folder.
        finished = (f for f in listed if is_finished(f.path) and not f.path.endswith("/"))
        return tuple(sorted(finished, key=lambda file: file.path))

    @contextmanager
    def open(self, file: StoredFile) -> Iterator[ByteStream]:
        """See Landing. S3 returns one version to its end, even if it is replaced meanwhile."""
        try:
            answer = self.client.get_object(
                Bucket=self.bucket, Key=self._key(file.path), IfMatch=f'"{file.version}"'
            )
        except (ClientError, BotoCoreError) as error:
            raise _mapped_error(error, file.path) from error
        with answer["Body"] as body:
            yield _S3Bytes(body, file.path)

    @contextmanager
    def random_access(self, file: StoredFile) -> Iterator[RandomAccess]:
        """See Landing."""
        yield _S3Ranges(self.client, self.bucket, self._key(file.path), file)

    def move(self, file: StoredFile, target: str) -> bool:
        """See Landing. A copy, then a delete: S3 has no rename."""
        source = {"Bucket": self.bucket, "Key": self._key(file.path)}
        place = {"Bucket": self.bucket, "Key": self._key(target)}
        condition = f'"{file.version}"'
        try:
            if (there := self._version_at(target)) is None:
                if file.size_bytes > _COPIED_AT_ONCE:
                    only = {"CopySourceIfMatch": condition}
                    self.client.copy(CopySource=source, ExtraArgs=only, **place)
                else:
                    self.client.copy_object(CopySource=source, CopySourceIfMatch=condition, **place)
            elif there != file.version:
                return False
            now = self._version_at(file.path)
            if now not in {None, file.version}:
                raise changed_error(file.path)
            self.client.delete_object(**source)
        except (ClientError, BotoCoreError) as error:
            raise _mapped_error(error, file.path) from error
        return True

    def _version_at(self, path: str) -> str | None:
        try:
            found = self.client.head_object(Bucket=self.bucket, Key=self._key(path))
        except ClientError as error:
            if _status(error) == _NOT_FOUND:
                return None
            raise
        version: str = found["ETag"].strip('"')
        return version

    def _key(self, path: str) -> str:
        return f"{self.prefix}/{path}" if self.prefix else path

    def _listed(self, found: Any) -> StoredFile:
        path = found["Key"].removeprefix(self._key(""))
        version = found["ETag"].strip('"')
        return StoredFile(path, found["Size"], version, found["LastModified"])


@dataclass(frozen=True)
class _S3Bytes:
    body: Any
    path: str

    def read(self, size: int, /) -> bytes:
        try:
            chunk: bytes = self.body.read(size)
        except BotoCoreError as error:
            raise _mapped_error(error, self.path) from error
        return chunk


@dataclass(frozen=True)
class _S3Ranges:
    client: Any
    bucket: str
    key: str
    file: StoredFile

    def read_at(self, offset: int, size: int, /) -> bytes:
        end = min(offset + size, self.file.size_bytes)
        if offset >= end:
            return b""
        try:
            answer = self.client.get_object(
                Bucket=self.bucket,
                Key=self.key,
                IfMatch=f'"{self.file.version}"',
                Range=f"bytes={offset}-{end - 1}",
            )
            with answer["Body"] as body:
                content: bytes = body.read()
        except (ClientError, BotoCoreError) as error:
            raise _mapped_error(error, self.file.path) from error
        return content


def _status(error: ClientError) -> int:
    status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status


def _mapped_error(error: ClientError | BotoCoreError, path: str) -> HeadraceError:
    """The error for a failed call; boto3 has already retried what can be retried."""
    if isinstance(error, BotoCoreError):
        return SourceUnavailableError(
            f"{path}: S3 did not answer: {type(error).__name__}",
            fix="see that landing.s3.endpoint can be reached and that it has credentials",
        )
    status = _status(error)
    code = error.response.get("Error", {}).get("Code", "")
    if status == _PRECONDITION_FAILED:
        return changed_error(path)
    if status in _FORBIDDEN:
        return forbidden_error(path)
    if status == _NOT_FOUND and code != "NoSuchBucket":
        return removed_error(path)
    what = f"{path}: S3 answered {status} {code}"
    if status >= _SERVER_ERROR or status in _TRANSIENT:
        return SourceUnavailableError(what, fix="try again once the server works")
    return SourceRejectedError(what, fix="correct landing.uri or landing.s3")
