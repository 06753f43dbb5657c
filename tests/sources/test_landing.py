"""What a landing zone promises, on a local folder and on a real S3 server."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
from dagster_aws.s3 import S3Resource

from headrace.config.model import Secret
from headrace.config.settings import S3Settings
from headrace.config.sources.sftp_connection import SftpConnection
from headrace.errors import SourceRejectedError, SourceUnavailableError
from headrace.sources.landing.landing_zone import Landing, LocalLanding, StoredFile
from headrace.sources.landing.s3_landing import S3Landing
from headrace.sources.landing.sftp_landing import SftpLanding
from headrace.sources.landing.sftp_session import SftpSession
from resources.landing import LandingResource
from resources.s3_landing import S3LandingResource
from tests import servers
from tests.sftp_server import PASSWORD, sftp_server


@dataclass(frozen=True)
class Zone:
    """A landing zone and the ways a source changes it."""

    landing: Landing
    put: Callable[[str, bytes], Any]
    remove: Callable[[str], Any]

    def read(self, file: StoredFile) -> bytes:
        with self.landing.open(file) as stream:
            return b"".join(iter(lambda: stream.read(7), b""))

    def paths(self, prefix: str = "") -> list[str]:
        return [file.path for file in self.landing.list_files(prefix)]


def local_zone(folder: Path, tick_nanoseconds: int = 1) -> Zone:
    written = iter(range(1, 1_000))

    def put(path: str, content: bytes) -> None:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        os.utime(target, ns=(0, time.time_ns() + next(written) * tick_nanoseconds))

    return Zone(LocalLanding(folder), put, lambda path: (folder / path).unlink())


def s3_client(**changes: Any) -> Any:
    settings = servers.s3().settings
    reached = {
        "endpoint_url": settings.endpoint,
        "region_name": settings.region,
        "aws_access_key_id": settings.access_key_id,
        "aws_secret_access_key": settings.secret_access_key,
    }
    return S3Resource(**{**reached, **changes}).get_client()


def s3_zone(_folder: Path) -> Zone:
    client, bucket, prefix = s3_client(), servers.s3().bucket, f"landing-{uuid4().hex}"
    client.put_object(Bucket=bucket, Key=f"{prefix}-not-ours/x.csv", Body=b"x")

    def put(path: str, content: bytes) -> None:
        client.put_object(Bucket=bucket, Key=f"{prefix}/{path}", Body=content)

    def remove(path: str) -> None:
        client.delete_object(Bucket=bucket, Key=f"{prefix}/{path}")

    return Zone(S3Landing(client, bucket, prefix), put, remove)


ZONES: dict[str, Callable[[Path], Zone]] = {"local": local_zone, "s3": s3_zone}


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3), "sftp"])
def zone(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Zone]:
    if request.param != "sftp":
        yield ZONES[request.param](tmp_path)
        return
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)
    with sftp_server(tmp_path) as server:
        local = local_zone(tmp_path, 10**9)  # SFTP tells times in seconds.
        settings = SftpConnection.model_validate(server.connection())
        yield replace(local, landing=SftpLanding(SftpSession("partner", settings)))


def test_a_listing_says_path_size_version_and_time(zone: Zone) -> None:
    zone.put("a/one.csv", b"123")
    (file,) = zone.landing.list_files()
    assert (file.path, file.size_bytes) == ("a/one.csv", 3)
    assert abs(datetime.now(UTC) - file.modified_at) < timedelta(minutes=1)
    assert zone.read(file) == b"123"


def test_a_prefix_narrows_the_listing_and_folders_are_searched(zone: Zone) -> None:
    for path in ("t/2017-01/a", "t/2017-02/b", "t/2017-01-x", "t2/2017-01/c", "u"):
        zone.put(path, b"x")
    assert zone.paths() == sorted(zone.paths())
    assert zone.paths("t/2017-01") == ["t/2017-01-x", "t/2017-01/a"]
    assert zone.paths("t/") == ["t/2017-01-x", "t/2017-01/a", "t/2017-02/b"]
    assert zone.paths("t/2017-01/a") == ["t/2017-01/a"]
    assert zone.paths("nothing/here") == []


def test_unfinished_and_hidden_files_are_left_out(zone: Zone) -> None:
    names = ["a.csv", ".a.csv.XyZ1", "a.csv.tmp", "a.csv.part", "a.csv~", "a.csv._COPYING_"]
    for path in [*names, ".staging/b.csv", "a.csv.filepart"]:
        zone.put(path, b"x")
    assert zone.paths() == ["a.csv"]


def test_a_changed_file_has_another_version(zone: Zone) -> None:
    zone.put("a", b"123")
    (before,) = zone.landing.list_files()
    zone.put("a", b"124")
    (after,) = zone.landing.list_files()
    assert before.version != after.version
    assert zone.read(after) == b"124"


def test_a_file_that_changed_since_the_listing_is_not_read(zone: Zone) -> None:
    zone.put("a", b"123")
    (file,) = zone.landing.list_files()
    zone.put("a", b"124")
    with pytest.raises(SourceUnavailableError, match=r"a changed while .* still being written"):
        zone.read(file)


def test_a_file_that_is_gone_is_named(zone: Zone) -> None:
    zone.put("a", b"123")
    (file,) = zone.landing.list_files()
    zone.remove("a")
    with pytest.raises(SourceUnavailableError, match="a was removed since it was listed"):
        zone.read(file)


def test_bytes_are_read_from_any_position(zone: Zone) -> None:
    zone.put("a", b"0123456789")
    (file,) = zone.landing.list_files()
    with zone.landing.random_access(file) as content:
        assert [content.read_at(7, 2), content.read_at(0, 3)] == [b"78", b"012"]
        assert [content.read_at(8, 9), content.read_at(10, 1)] == [b"89", b""]


def test_a_file_is_moved_to_a_free_path_alone(zone: Zone) -> None:
    zone.put("in/a", b"123")
    (file,) = zone.landing.list_files()
    assert zone.landing.move(file, "archive/in/a")
    assert zone.paths() == ["archive/in/a"]
    zone.put("in/a", b"4567")
    _, again = zone.landing.list_files()
    assert not zone.landing.move(again, "archive/in/a")
    assert zone.paths() == ["archive/in/a", "in/a"]
    zone.put("in/a", b"89")
    with pytest.raises(SourceUnavailableError, match="in/a changed"):
        zone.landing.move(again, "archive/in/b")
    assert "in/a" in zone.paths()


@pytest.mark.s3
def test_a_move_on_s3_that_was_interrupted_is_finished(tmp_path: Path) -> None:
    zone = s3_zone(tmp_path)
    for path in ("in/a", "archive/in/a"):  # As after the copy and before the delete.
        zone.put(path, b"123")
    file = zone.landing.list_files("in/")[0]
    assert zone.landing.move(file, "archive/in/a")
    assert zone.paths() == ["archive/in/a"]


def test_half_a_file_is_reported_as_unfinished_rather_than_as_malformed(tmp_path: Path) -> None:
    zone = local_zone(tmp_path)
    zone.put("a", b"123")
    (file,) = zone.landing.list_files()

    def meet_half() -> None:
        with zone.landing.open(file) as stream:
            stream.read(10)
            zone.put("a", b"123456")
            raise SourceRejectedError("malformed", fix="correct it")

    with pytest.raises(SourceUnavailableError, match="still being written"):
        meet_half()


@pytest.mark.s3
def test_s3_reads_one_version_to_its_end_whatever_is_put_there_meanwhile(tmp_path: Path) -> None:
    zone = s3_zone(tmp_path)
    content = os.urandom(4 * 2**20)
    zone.put("a", content)
    (file,) = zone.landing.list_files()
    with zone.landing.open(file) as stream:
        head = stream.read(1_000)
        zone.put("a", b"new")
        assert head + b"".join(iter(lambda: stream.read(2**20), b"")) == content


@pytest.mark.s3
def test_a_bucket_that_is_not_there_is_named() -> None:
    landing = S3Landing(s3_client(), "no-such-bucket", "x")
    with pytest.raises(SourceRejectedError, match=r"s3://no-such-bucket/x/.*NoSuchBucket"):
        landing.list_files()


@pytest.mark.s3
def test_wrong_keys_are_no_passing_trouble() -> None:
    wrong = {"aws_secret_access_key": "wrong"}
    landing = S3Landing(s3_client(**wrong), servers.s3().bucket)
    with pytest.raises(SourceRejectedError, match="may not be read"):
        landing.list_files()


@pytest.mark.s3
def test_a_server_that_does_not_answer_is_worth_another_try() -> None:
    landing = S3Landing(s3_client(endpoint_url="http://127.0.0.1:9", max_attempts=1), "bucket")
    with pytest.raises(SourceUnavailableError, match="S3 did not answer: EndpointConnectionError"):
        landing.list_files()


def test_a_landing_folder_that_is_not_there_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="nowhere is not a folder"):
        LocalLanding(tmp_path / "nowhere").list_files()


@pytest.mark.s3
# Dagster 1.13 calls its own deprecated property wherever a resource holds another.
@pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated")
def test_the_resource_reaches_the_bucket_with_keys_that_stay_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    zone, store = s3_zone(tmp_path), servers.s3()
    zone.put("a", b"123")
    landing = zone.landing
    assert isinstance(landing, S3Landing)
    monkeypatch.setenv("LANDING_KEY", store.settings.access_key_id or "")
    monkeypatch.setenv("LANDING_SECRET", store.settings.secret_access_key or "")
    settings = S3Settings(
        endpoint=store.settings.endpoint,
        access_key=Secret(env="LANDING_KEY"),
        secret_key=Secret(env="LANDING_SECRET"),
    )
    uri = f"s3://{landing.bucket}/{landing.prefix}/"
    resource = S3LandingResource.of_settings(uri, settings)
    assert (store.settings.secret_access_key or "") not in repr(resource)
    with dg.build_resources({"landing": resource}) as ready:
        assert [file.path for file in ready.landing.landing().list_files()] == ["a"]


def test_the_resource_of_a_folder_needs_nothing_of_s3(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    assert [f.path for f in LandingResource(uri=str(tmp_path)).landing().list_files()] == ["a"]
