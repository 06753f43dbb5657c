import gzip
import io
import json
import logging
import ssl
import subprocess
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from demo.apis.bank import Bank, transactions_of
from demo.apis.server import Answer, ApiServer, Request
from headrace.config.sources.rest_connection import RestConnection
from headrace.errors import (
    ConfigError,
    HeadraceError,
    SourceRateLimitedError,
    SourceRejectedError,
    SourceUnauthorizedError,
    SourceUnavailableError,
)
from headrace.sources.rest.client import Page, RestClient
from headrace.sources.rest.http_session import ReplyOptions, retry_after
from tests.sources.rest.apis import SECRETS, client_of, oauth2, resolve

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer(lambda request: Answer({"path": request.path})) as found:
        yield found


def get(client: RestClient, path: str = "/orders", **params: str) -> Page:
    return client.get(client.url_of(path, params), ReplyOptions({"page"}))


def failure(client: RestClient, path: str = "/orders", **params: str) -> HeadraceError:
    with pytest.raises(HeadraceError) as caught:
        get(client, path, **params)
    return caught.value


def test_a_document_comes_with_all_digits_of_its_numbers(server: ApiServer) -> None:
    server.faults.append(Answer(b'{"a": 12345678901234567890.123456789, "b": 9007199254740993}'))
    page = get(client_of(server))
    assert page.document == {
        "a": Decimal("12345678901234567890.123456789"),
        "b": 9007199254740993,
    }
    assert page.url == f"{server.url}/orders"


@pytest.mark.parametrize(
    ("auth", "header", "value", "query"),
    [
        ({"type": "api_key", "header": "X-Key", "key": "KEY"}, "x-key", SECRETS["KEY"], {}),
        ({"type": "api_key", "param": "appid", "key": "KEY"}, "x", None, {"appid": SECRETS["KEY"]}),
        ({"type": "bearer", "token": "KEY"}, "authorization", f"Bearer {SECRETS['KEY']}", {}),
        (
            {"type": "basic", "user": "USER", "password": "PASSWORD"},
            "authorization",
            "Basic Y2FuYXJ5LXVzZXI6Y2FuYXJ5LXBhc3Mgd29yZCsv",
            {},
        ),
    ],
)
def test_credentials_are_sent_where_they_are_declared(
    server: ApiServer, auth: dict[str, Any], header: str, value: str | None, query: dict[str, str]
) -> None:
    named = {name: {"env": text} if text in SECRETS else text for name, text in auth.items()}
    get(client_of(server, named), page="2")
    (request,) = server.requests
    assert request.headers.get(header) == value
    assert request.query == {"page": "2", **query}


def test_a_token_is_fetched_once_and_again_before_it_expires() -> None:
    bank = Bank(lambda day: transactions_of(day, 1), token_seconds=300)
    with ApiServer(bank) as server:
        client = client_of(server, oauth2(server))
        for _ in range(3):
            get(client, "/v1/branches")
        assert [r.path for r in server.requests].count("/oauth/token") == 1
        bank.token_seconds = 0.0
        other = client_of(server, oauth2(server, client_auth="body"))
        failed = failure(other, "/v1/branches")  # Refused twice: the new token is no better.
        assert "401 Unauthorized (TOKEN_EXPIRED)" in str(failed)
        bank.token_seconds = 0.2
        get(other, "/v1/branches")
        time.sleep(0.25)
        asked = len(server.requests)
        get(other, "/v1/branches")
        # No request with the old token was refused first.
        paths = [request.path for request in server.requests[asked:]]
        assert paths == ["/oauth/token", "/v1/branches"]


def test_a_token_that_is_refused_is_fetched_anew() -> None:
    bank = Bank(lambda day: transactions_of(day, 1))
    with ApiServer(bank) as server:
        client = client_of(server, oauth2(server))
        get(client, "/v1/branches")
        bank.expire_tokens()
        assert get(client, "/v1/branches").document["count"] == 0
        assert [r.path for r in server.requests] == [
            *("/oauth/token", "/v1/branches", "/v1/branches", "/oauth/token", "/v1/branches"),
        ]


def test_a_wrong_client_secret_is_no_reason_to_try_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ApiServer(Bank(transactions_of)) as server:
        auth = oauth2(server, client_secret={"env": "KEY"})
        failed = failure(client_of(server, auth), "/v1/branches")
        assert type(failed) is SourceUnauthorizedError
        assert "401 Unauthorized (invalid_client): the token endpoint refuses" in str(failed)
        assert "connections.shop.auth" in failed.fix
        assert len(server.requests) == 1


def test_a_secret_that_cannot_be_sent_is_named_and_not_shown() -> None:
    connection = RestConnection.model_validate(
        {"kind": "rest", "url": "http://x", "auth": {"type": "bearer", "token": {"env": "KEY"}}}
    )
    with pytest.raises(ConfigError, match="the value of KEY has characters") as caught:
        RestClient("shop", connection, lambda _: "canary\n")
    assert "canary" not in str(caught.value)


def test_failures_that_pass_are_tried_again(server: ApiServer) -> None:
    server.faults += [Answer({}, 503), Answer({}, 500)]
    assert get(client_of(server)).document == {"path": "/orders"}
    server.faults += [Answer(b'{"a": "bcdefghijk"}', cut_at=9), Answer(b'{"a": tr')]
    assert get(client_of(server)).document == {"path": "/orders"}
    server.faults += [Answer({"error": {"code": "BUSY"}}, 502)] * 3
    failed = failure(client_of(server))
    assert type(failed) is SourceUnavailableError
    assert str(failed) == f"{server.url}/orders answered 502 Bad Gateway (BUSY)"
    assert not server.faults


def test_429_waits_as_long_as_the_server_asks(server: ApiServer) -> None:
    server.faults.append(Answer({}, 429, {"retry-after": "1"}))
    begun = datetime.now(UTC)
    get(client_of(server))
    assert datetime.now(UTC) - begun >= timedelta(seconds=1)


def test_429_for_ever_ends_in_an_error_of_its_own(server: ApiServer) -> None:
    server.faults += [Answer({}, 429, {"retry-after": "0"})] * 3
    failed = failure(client_of(server))
    assert type(failed) is SourceRateLimitedError
    assert "429 Too Many Requests" in str(failed)
    assert "connections.shop.limits.rate" in failed.fix
    server.faults += [Answer({}, 429, {"retry-after": "3600"})] * 2
    failed = failure(client_of(server))
    assert "it asks for a pause of 3600 s" in str(failed)
    assert len(server.faults) == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("Monday, 30-Nov-26 12:00:30 GMT", 30.0),
        ("soon", None),
        ("-1", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_an_http_date(text: str | None, seconds: float | None) -> None:
    assert retry_after(text, NOW) == seconds


@pytest.mark.parametrize(
    ("answer", "said", "remedy"),
    [
        (
            Answer(b"<!DOCTYPE html><html>please log in</html>"),
            "answered HTML or XML, not JSON",
            "connections.shop.url and auth",
        ),
        (Answer(b'{"a": nonsense}'), "no JSON at line 1 column 7 of 15 bytes", "entity's path"),
        (Answer(b'{"a": "b'), "the JSON breaks off at line 1 column 7 of 8 bytes", "again"),
        (Answer(b'{"a": "bcdefghijk"}', cut_at=9), "the connection ended before", "again"),
        (Answer(b""), "answered nothing where JSON was expected", "path"),
        (Answer(b'{"a": "\xe4"}'), "byte 7 of the answer is no UTF-8", "UTF-8"),
        (Answer(b"[" * 100_000), "nested too deeply", "path"),
        (Answer(b"9" * 5000), "thousands of digits", "path"),
        (Answer(b"1e9999999999999999999"), "thousands of digits", "path"),
        (Answer(b'"' + b"x" * 300_000), "larger than 200000 bytes", "max_response_bytes"),
        (Answer({}, 404), "404 Not Found", "entity's path"),
        (Answer({}, 403), "403 Forbidden: the credentials lack", "granted"),
        (Answer({}, 302, {"location": "/orders"}), "redirects more than 5 times", "url"),
        (Answer({}, 302, {"location": "http://evil.example/x?key=1"}), "another server", "url"),
    ],
)
def test_an_answer_that_is_no_document_is_named_with_a_remedy(
    server: ApiServer, answer: Answer, said: str, remedy: str
) -> None:
    server.faults += [answer] * 6
    failed = failure(client_of(server, max_response_bytes=200_000, attempts=1), page="1", other="x")
    assert said in str(failed)
    assert f"{server.url}/orders?page=1&other=…" in str(failed) or "redirect" in said
    assert remedy in failed.fix


@pytest.mark.parametrize(
    ("charset", "body"),
    [
        ("", b'"K\xc3\xb6ln"'),
        ("; charset=ISO-8859-1", b'"K\xc3\xb6ln"'),  # As many servers declare of UTF-8.
        ("; charset=ISO-8859-1", b'"K\xf6ln"'),
        ("; charset=hex", b'"K\xc3\xb6ln"'),
        ("; charset=nonsense", b'\xef\xbb\xbf"K\xc3\xb6ln"'),
    ],
)
def test_an_answer_is_read_as_utf_8_before_its_declared_charset(
    server: ApiServer, charset: str, body: bytes
) -> None:
    server.faults.append(Answer(body, headers={"content-type": f"application/json{charset}"}))
    assert get(client_of(server)).document == "Köln"


def test_redirects_of_the_same_server_are_followed(server: ApiServer) -> None:
    server.faults.append(Answer({}, 307, {"location": "/elsewhere"}))
    assert get(client_of(server)).document == {"path": "/elsewhere"}


def test_a_compressed_answer_counts_by_what_it_holds(server: ApiServer) -> None:
    bomb = gzip.compress(b'"' + b"0" * 10_000_000 + b'"')
    assert len(bomb) < 20_000
    server.faults.append(Answer(bomb, headers={"content-encoding": "gzip"}))
    failed = failure(client_of(server, max_response_bytes=100_000))
    assert "larger than 100000 bytes" in str(failed)
    server.faults.append(Answer(gzip.compress(b'{"a": 1}'), headers={"content-encoding": "gzip"}))
    assert get(client_of(server)).document == {"a": 1}


def test_a_server_that_stays_silent_or_is_slow_is_given_up(server: ApiServer) -> None:
    server.faults.append(Answer({}, wait_seconds=0.5))
    failed = failure(client_of(server, attempts=1, read_seconds=0.1))
    assert "the server sent nothing for 0.1 s" in str(failed)
    server.faults.append(Answer(b"0" * 3_000_000, wait_seconds=0.2))
    failed = failure(client_of(server, attempts=1, request_seconds=0.1))
    assert "not whole after 0.1 s" in str(failed)


def test_hosts_that_cannot_be_reached_are_told_apart(server: ApiServer) -> None:
    limits = {"attempts": 1, "connect_seconds": 2}

    def failed(url: str) -> HeadraceError:
        connection = RestConnection.model_validate({"kind": "rest", "url": url, "limits": limits})
        return failure(RestClient("shop", connection, resolve))

    nobody = failed("http://127.0.0.1:1")
    assert type(nobody) is SourceUnavailableError
    assert "does not accept connections" in str(nobody)
    unknown = failed("http://no-such-host.invalid")
    assert "the name no-such-host.invalid cannot be resolved" in str(unknown)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout k.pem -out c.pem -days 2"
    subprocess.run(
        [*command.split(), "-subj", "/CN=shop.example", "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


def test_a_certificate_is_checked_against_the_named_authorities(certificate: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate / "c.pem", certificate / "k.pem")
    with ApiServer(lambda _: Answer([1]), tls=tls) as server:
        failed = failure(client_of(server, attempts=1))
        assert type(failed) is SourceRejectedError
        assert "the certificate of 127.0.0.1 is not accepted" in str(failed)
        assert "ca_file" in failed.fix
        connection = {"kind": "rest", "url": server.url, "ca_file": str(certificate / "c.pem")}
        client = RestClient("shop", RestConnection.model_validate(connection), resolve)
        assert get(client).document == [1]


def test_a_dead_server_is_not_asked_again_and_again(server: ApiServer) -> None:
    client = client_of(server, attempts=2, failures_to_open=2, open_seconds=0.2)
    server.faults += [Answer({}, 500)] * 4
    for _ in range(2):
        failure(client)
    assert "circuit breaker" in str(failure(client))
    assert len(server.requests) == 4
    time.sleep(0.25)
    assert get(client).document == {"path": "/orders"}


def test_the_rate_of_all_requests_is_limited(server: ApiServer) -> None:
    client = client_of(server, rate="3/s")
    begun = datetime.now(UTC)
    for _ in range(4):
        get(client)
    assert timedelta(seconds=1) <= datetime.now(UTC) - begun < timedelta(seconds=1.9)


class _Echo:
    """Repeats all that it was sent, in headers and bodies."""

    def __init__(self, status: int) -> None:
        self.status = status

    def __call__(self, request: Request) -> Answer:
        sent = f"{request.query} {request.headers} {request.form}".replace("\n", " ")
        code = SECRETS["KEY"]
        links = {"link": f'</next?appid={code}>; rel="next"', "x-echo": sent}
        body = {"error": {"code": code, "message": sent}, "code": sent, "access_token": code}
        return Answer(json.dumps(body).encode(), self.status, links)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500])
@pytest.mark.parametrize(
    "auth",
    [
        {"type": "api_key", "param": "appid", "key": {"env": "KEY"}},
        {"type": "api_key", "header": "X-Key", "key": {"env": "KEY"}},
        {"type": "bearer", "token": {"env": "KEY"}},
        {"type": "basic", "user": {"env": "USER"}, "password": {"env": "KEY"}},
        "oauth2",
    ],
)
def test_no_secret_is_shown_in_an_error_or_a_log(
    auth: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    written = io.StringIO()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(written))
    caplog.set_level(logging.DEBUG)
    try:
        with ApiServer(_Echo(status)) as server:
            secret = {"client_secret": {"env": "KEY"}}
            declared = oauth2(server, **secret) if auth == "oauth2" else auth
            client = client_of(server, declared, attempts=2)
            try:
                page = get(client, page="1")
                client.following(page, f"http://elsewhere/?appid={SECRETS['KEY']}")
            except HeadraceError as error:
                written.writelines(traceback.format_exception(error))
                written.write(error.fix)
            written.write(repr(client))
    finally:
        structlog.reset_defaults()
    shown = written.getvalue() + caplog.text
    assert server.url in shown
    assert "canary" not in shown
    assert "Y2FuYXJ5" not in shown
