"""Files of an SFTP server: its host key, credentials, and connections that are lost."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina
from pydantic import ValidationError

from headrace.config.sources.sftp_connection import SftpConnection
from headrace.errors import (
    HeadraceError,
    SourceRejectedError,
    SourceUnauthorizedError,
    SourceUnavailableError,
)
from headrace.sources.landing.landing_zone import StoredFile
from headrace.sources.landing.sftp_landing import SftpLanding
from headrace.sources.landing.sftp_session import SftpSession
from tests.sftp_server import PASSWORD, SftpServer, sftp_server

OTHER_KEY = "SHA256:" + "A" * 43


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    with sftp_server(tmp_path_factory.mktemp("sftp")) as running:
        yield running


@pytest.fixture(autouse=True)
def secrets(server: SftpServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)
    monkeypatch.setenv("PARTNER_KEY", server.user_key)
    (server.folder / "a.csv").write_bytes(b"123")
    with stamina.set_testing(True):
        yield
    server.cut_after = None


def landing(server: SftpServer, **changes: Any) -> SftpLanding:
    settings = SftpConnection.model_validate(server.connection(**changes))
    return SftpLanding(SftpSession("partner", settings))


def read(zone: SftpLanding, file: StoredFile) -> bytes:
    with zone.open(file) as stream:
        return b"".join(iter(lambda: stream.read(2**20), b""))


def test_a_key_signs_in_as_a_password_does(server: SftpServer) -> None:
    for changes in ({}, {"password": None, "private_key": {"env": "PARTNER_KEY"}}):
        zone = landing(server, **changes)
        (file,) = (one for one in zone.list_files() if one.path == "a.csv")
        assert read(zone, file) == b"123"
        assert PASSWORD not in repr(zone)


def test_a_server_is_known_by_its_line_among_the_known_hosts(
    server: SftpServer, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(server.public_key + "\n")
    zone = landing(server, host_key=None, known_hosts=str(known))
    assert "a.csv" in [file.path for file in zone.list_files()]
    known.write_text(server.public_key.replace(f":{server.port}", ":1") + "\n")
    with pytest.raises(SourceRejectedError, match=r"not the one of known_hosts"):
        landing(server, host_key=None, known_hosts=str(known)).list_files()


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


Fault = tuple[dict[str, Any], type[HeadraceError], str]
FAULTS: dict[str, Callable[[SftpServer], Fault]] = {
    "unknown host key": lambda s: (
        *({"host_key": OTHER_KEY}, SourceRejectedError),
        f"has the host key {s.host_key}, which is not the one of host_key",
    ),
    "no known host": lambda _: (
        *({"host_key": None, "known_hosts": "/dev/null"}, SourceRejectedError),
        "which is not the one of known_hosts",
    ),
    "no file of known hosts": lambda _: (
        *({"host_key": None, "known_hosts": "/none/hosts"}, SourceRejectedError),
        "/none/hosts cannot be read",
    ),
    "wrong password": lambda _: (
        *({"password": {"env": "WRONG"}}, SourceUnauthorizedError),
        "refuses the user 'partner' with these credentials | correct user, or the value of WRONG",
    ),
    "no key": lambda _: (
        *({"password": None, "private_key": {"env": "WRONG"}}, SourceUnauthorizedError),
        "the private key cannot be read",
    ),
    "closed port": lambda _: (
        *({"port": closed_port()}, SourceUnavailableError),
        "does not answer, or cut the connection: ConnectionRefusedError",
    ),
    "no such host": lambda _: (
        {"host": "no-such-host.invalid"},
        SourceUnavailableError,
        "gaierror",
    ),
    "no folder": lambda _: ({"folder": "/none"}, SourceUnavailableError, "/none does not exist"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_cannot_be_used_is_a_typed_error(
    server: SftpServer, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("WRONG", "canary-wrong")
    changes, kind, said = FAULTS[fault](server)
    with pytest.raises(kind) as caught:
        landing(server, **changes).list_files()
    found = f"{caught.value} | {caught.value.fix}"
    assert type(caught.value) is kind
    assert said in found
    assert "connection partner" in found
    assert "canary" not in found


def test_a_file_that_may_not_be_read_is_named(server: SftpServer) -> None:
    (server.folder / "secret.csv").write_bytes(b"1")
    zone = landing(server)
    (file,) = (one for one in zone.list_files() if one.path == "secret.csv")
    with pytest.raises(SourceRejectedError, match=r"secret.csv may not be read"):
        read(zone, file)


def test_a_connection_that_is_cut_in_a_file_is_made_again_for_the_next(server: SftpServer) -> None:
    content = bytes(range(256)) * 2**14
    (server.folder / "big.bin").write_bytes(content)
    zone = landing(server)
    (file,) = (one for one in zone.list_files() if one.path == "big.bin")
    server.cut_after = 2**20
    with pytest.raises(SourceUnavailableError, match=r"cut the connection: \w+, at big.bin"):
        read(zone, file)
    server.cut_after = None
    assert read(zone, file) == content
    (server.folder / "big.bin").unlink()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"host_key": None}, "a server is not trusted unseen"),
        ({"known_hosts": "hosts"}, "a server is not trusted unseen"),
        ({"password": None}, "needs password or private_key"),
        ({"passphrase": {"env": "X"}}, "is that of a private_key"),
        ({"host": "me:canary@host"}, "must be the name of a host alone"),
        ({"host_key": "MD5:aa"}, "should match pattern"),
    ],
)
def test_a_connection_that_is_not_whole_is_refused(
    server: SftpServer, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        SftpConnection.model_validate(server.connection(**changes))
    assert said in str(caught.value)
