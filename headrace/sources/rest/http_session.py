"""One HTTP exchange with its limits; each way to fail is an error of Headrace without secrets."""

import json
import logging
import re
import socket
import ssl
import time
import urllib.request
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Protocol

import httpx2

from headrace.config.sources.rest_connection import RestLimits
from headrace.errors import (
    ConfigError,
    HeadraceError,
    SourceRateLimitedError,
    SourceRejectedError,
    SourceUnauthorizedError,
    SourceUnavailableError,
)

_TRANSIENT = {408, 425}
_ERROR_BYTES = 64 * 1024
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}|[0-9]{1,6}")
_CODE_PATHS = (("error", "code"), ("code",), ("error",), ("errors", 0, "code"), ("cod",), ("type",))
_REDIRECTS = {301, 302, 303, 307, 308}
# At INFO httpx2 logs the URL of each request, at DEBUG httpcore2 the headers of each answer, which
# may repeat a secret.
_WIRE_LOGS = ("httpx2", "httpcore2")


class Authorization(Protocol):
    """Adds credentials to a request on its way out."""

    @property
    def secrets(self) -> Collection[str]:
        """Texts that must never be shown."""
        ...

    def authorize(self, request: httpx2.Request) -> httpx2.Request:
        """A copy of the request with the credentials."""
        ...


@dataclass(frozen=True)
class ReplyOptions:
    """How the answers to some requests are taken.

    Attributes:
        shown_params: Query parameters whose values errors may show.
        empty_statuses: Statuses that mean that there is nothing, and are no error.
    """

    shown_params: Collection[str] = ()
    empty_statuses: Collection[int] = ()


@dataclass(frozen=True)
class Reply:
    """A whole answer of status 200 to 299, or a redirect.

    Attributes:
        url: What was asked, as it may be shown.
        asked: What was asked, without credentials.
        redirect: Where the answer is instead.
        is_empty: Whether its status is one of `empty_statuses`.
    """

    url: str
    asked: httpx2.URL
    headers: httpx2.Headers
    body: bytes
    redirect: str | None = None
    is_empty: bool = False


@dataclass
class HttpSession:
    """Sends requests to the hosts of one API, from any thread.

    Credentials are added below httpx2's client, so that none of its logs and errors has them.

    Attributes:
        name: The connection's name, for remedies.
        limits: Times and sizes.
        authorization: None: no credentials.
        ca_file: See RestConnection.
    """

    name: str
    limits: RestLimits
    authorization: Authorization | None = None
    ca_file: str | None = None
    _client: httpx2.Client = field(init=False)

    def __post_init__(self) -> None:
        for name in _WIRE_LOGS:
            logging.getLogger(name).setLevel(logging.WARNING)
        limits = self.limits
        self._client = httpx2.Client(
            transport=_Transport(self._tls(), limits.parallel, self.authorization),
            timeout=httpx2.Timeout(
                limits.read_seconds, connect=limits.connect_seconds, pool=limits.request_seconds
            ),
            # br and zstd depend on what is installed.
            headers={"accept-encoding": "gzip", "user-agent": "headrace"},
            follow_redirects=False,
        )
        # Connectors are not closed: their connections end with them.
        weakref.finalize(self, self._client.close)

    def send(
        self,
        method: str,
        url: httpx2.URL,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        secrets: Collection[str] = (),
        options: ReplyOptions = ReplyOptions(),
    ) -> Reply:
        """Send one request and read the answer.

        Args:
            method: GET or POST.
            url: Without credentials.
            headers: Of the request.
            form: Its body.
            secrets: Texts in headers and form that must never be shown.
            options: How the answer is taken.

        Raises:
            SourceUnauthorizedError: Status 401.
            SourceRejectedError: Another status of 400 to 499, or an answer that is too large.
            SourceRateLimitedError: Status 429.
            SourceUnavailableError: Status 408, 425 or 500 to 599, or no whole answer in time.
        """
        shown = shown_url(url, options.shown_params)
        request = self._client.build_request(method, url, headers=headers, data=form)
        ends_at = time.monotonic() + self.limits.request_seconds
        with self._map_errors(shown, url.host):
            response = self._client.send(request, stream=True)
            try:
                if response.status_code in _REDIRECTS and "location" in response.headers:
                    location = response.headers["location"]
                    return Reply(shown, url, response.headers, b"", redirect=location)
                if response.status_code in options.empty_statuses:
                    return Reply(shown, url, response.headers, b"", is_empty=True)
                if response.status_code >= HTTPStatus.BAD_REQUEST:
                    code = self._error_code(response, shown, ends_at, secrets)
                    raise self._refusal(response, shown, code)
                if not HTTPStatus.OK <= response.status_code < HTTPStatus.MULTIPLE_CHOICES:
                    raise SourceRejectedError(
                        f"{shown} answered {response.status_code}",
                        fix=f"correct connections.{self.name}.url or the entity's path",
                    )
                body = self._body(response, shown, ends_at, self.limits.max_response_bytes)
            finally:
                response.close()
        return Reply(shown, url, response.headers, body)

    def _tls(self) -> ssl.SSLContext | None:
        if self.ca_file is None:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise ConfigError(
                f"connections.{self.name}.ca_file: {self.ca_file} cannot be read: "
                f"{type(error).__name__}",
                fix="give the path of a PEM file of certificate authorities",
            ) from None

    def _body(self, response: httpx2.Response, shown: str, ends_at: float, most: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        for chunk in response.iter_bytes():
            size += len(chunk)
            if size > most:
                raise SourceRejectedError(
                    f"{shown}: the answer is larger than {most} bytes",
                    fix="ask for smaller pages, or raise "
                    f"connections.{self.name}.limits.max_response_bytes",
                )
            if time.monotonic() > ends_at:
                raise SourceUnavailableError(
                    f"{shown}: the answer was not whole after {self.limits.request_seconds:g} s",
                    fix="ask for smaller pages, or raise "
                    f"connections.{self.name}.limits.request_seconds",
                )
            parts.append(chunk)
        return b"".join(parts)

    def _error_code(
        self, response: httpx2.Response, shown: str, ends_at: float, secrets: Collection[str]
    ) -> str:
        try:
            code = error_code(self._body(response, shown, ends_at, _ERROR_BYTES))
        except (HeadraceError, httpx2.HTTPError):
            return ""
        hidden = [*secrets, *(self.authorization.secrets if self.authorization else ())]
        # A server may answer what it was sent.
        return "" if any(secret in code or code in secret for secret in hidden) else code

    def _refusal(self, response: httpx2.Response, shown: str, code: str) -> HeadraceError:
        """The error of a status from 400 on."""
        status = response.status_code
        what = f"{shown} answered {_status(status)}{f' ({code})' if code else ''}"
        after = retry_after(response.headers.get("retry-after"), datetime.now(UTC))
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            wait = "" if after is None else f"; it asks for a pause of {after:.0f} s"
            return SourceRateLimitedError(
                f"{what}{wait}",
                fix=f"declare connections.{self.name}.limits.rate as the API's documentation "
                "gives it, or run later",
                retry_after_seconds=after,
            )
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT:
            return SourceUnavailableError(
                what, fix="run it again once the server is well", retry_after_seconds=after
            )
        if status == HTTPStatus.UNAUTHORIZED:
            return SourceUnauthorizedError(
                what, fix=f"correct the credentials that connections.{self.name}.auth names"
            )
        if status == HTTPStatus.FORBIDDEN:
            return SourceRejectedError(
                f"{what}: the credentials lack the permission",
                fix=f"have the user of connections.{self.name}.auth granted what the path needs",
            )
        return SourceRejectedError(
            what,
            fix=f"correct connections.{self.name}.url, or the entity's path or params; if it means "
            "that there are no records, declare extract.empty_statuses",
        )

    @contextmanager
    def _map_errors(self, shown: str, host: str) -> Iterator[None]:
        # `from None`: texts of a driver may quote headers, which hold secrets.
        try:
            yield
        except httpx2.TransportError as error:
            raise _transport_error(error, shown, host, self.limits) from None
        except httpx2.DecodingError:
            raise SourceUnavailableError(
                f"{shown}: the compressed answer is damaged", fix="run it again"
            ) from None
        except httpx2.InvalidURL:
            raise SourceRejectedError(
                f"{shown} is no valid URL", fix="correct the entity's path or params"
            ) from None


class _Transport(httpx2.BaseTransport):
    """Sends requests by httpx2's transports, through the machine's proxy where there is one."""

    def __init__(
        self, tls: ssl.SSLContext | None, connections: int, authorization: Authorization | None
    ) -> None:
        self._tls, self._authorization = tls, authorization
        self._limits = httpx2.Limits(max_connections=connections)
        self._transports: dict[tuple[str, str | None], httpx2.HTTPTransport] = {}

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        key = request.url.scheme, _proxy_of(request.url)
        transport = self._transports.get(key)
        if transport is None:
            # Of two threads that come first, one's is kept.
            transport = self._transports.setdefault(key, self._transport(*key))
        if self._authorization is not None:
            request = self._authorization.authorize(request)
        return transport.handle_request(request)

    def _transport(self, scheme: str, proxy: str | None) -> httpx2.HTTPTransport:
        # Without TLS there is nothing to verify, and the machine's certificates take 0.1 s to load.
        tls = (self._tls or True) if scheme == "https" else False
        return httpx2.HTTPTransport(verify=tls, limits=self._limits, proxy=proxy)

    def close(self) -> None:
        for transport in self._transports.values():
            transport.close()


def _proxy_of(url: httpx2.URL) -> str | None:
    if urllib.request.proxy_bypass(url.host):
        return None
    return urllib.request.getproxies().get(url.scheme)


def shown_url(url: httpx2.URL, shown_params: Collection[str] = ()) -> str:
    """A URL without user, password and the values of parameters that may be secret."""
    shown = (
        f"{name}={value}" if name in shown_params else f"{name}=…"
        for name, value in url.params.multi_items()
    )
    query = "&".join(shown)
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme}://{url.host}{port}{url.path}{f'?{query}' if query else ''}"


def error_code(body: bytes) -> str:
    """The code of an error in JSON, such as INVALID_WINDOW; empty without one.

    A message beside it may quote what was sent, and is not shown.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    for path in _CODE_PATHS:
        found = _member(document, path)
        if isinstance(found, str | int) and _CODE.fullmatch(str(found)):
            return str(found)
    return ""


def _status(status: int) -> str:
    # The server's own phrase may quote what was sent.
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _member(document: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        if isinstance(step, int):
            document = document[step] if isinstance(document, list) and document else None
        else:
            document = document.get(step) if isinstance(document, dict) else None
    return document


def retry_after(text: str | None, now: datetime) -> float | None:
    """Seconds of a header `Retry-After`, which holds seconds or an HTTP date; None: neither."""
    if text is None:
        return None
    if re.fullmatch(r"\d{1,9}", text.strip()):
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max((at - now).total_seconds(), 0.0)


def _transport_error(
    error: httpx2.TransportError, shown: str, host: str, limits: RestLimits
) -> HeadraceError:
    cause = _first_cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return SourceRejectedError(
            f"{shown}: the certificate of {host} is not accepted: {cause.verify_message}",
            fix="correct the host's name, or name the authority that signed it (ca_file)",
        )
    if isinstance(error, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError):
        return SourceRejectedError(
            f"{shown} cannot be asked: {type(error).__name__}",
            fix="correct the connection's url and headers, and its secrets: they must be one line "
            "of ASCII",
        )
    if isinstance(cause, socket.gaierror):
        return SourceUnavailableError(
            f"{shown}: the name {host} cannot be resolved",
            fix="correct the connection's url, or see that the machine reaches its DNS server",
        )
    return SourceUnavailableError(
        f"{shown}: {_reason(error, limits)}",
        fix="see that the machine reaches the server; then run it again",
    )


def _reason(error: httpx2.TransportError, limits: RestLimits) -> str:
    match error:
        case httpx2.ConnectTimeout():
            return f"no connection within {limits.connect_seconds:g} s"
        case httpx2.ReadTimeout():
            return f"the server sent nothing for {limits.read_seconds:g} s"
        case httpx2.ConnectError():
            return "the server does not accept connections"
        case httpx2.RemoteProtocolError() | httpx2.ReadError():
            return "the connection ended before the answer was whole"
    return f"no answer: {type(error).__name__}"


def _first_cause(error: BaseException) -> BaseException:
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return error
