"""The client of one REST API: documents by GET, with credentials, attempts and limits."""

import codecs
import json
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from typing import Any, Self
from urllib.parse import quote

import httpx2
import stamina

from headrace.config.sources.rest_connection import RestConnection
from headrace.errors import (
    HeadraceError,
    SourceRejectedError,
    SourceUnauthorizedError,
    SourceUnavailableError,
    TransientError,
)
from headrace.sources.rest.credentials import Credentials, Resolve, credentials_of
from headrace.sources.rest.http_session import HttpSession, Reply, ReplyOptions, shown_url
from headrace.sources.rest.request_limits import CircuitBreaker, RateBudget

_MOST_REDIRECTS = 5
_WORDS = ("true", "false", "null")
# What begins a page for people; JSON never begins with it.
_HTML = re.compile(rb"\s*<")


@dataclass(frozen=True)
class Page:
    """A document of an API.

    Attributes:
        url: Where it was, as it may be shown.
        asked: Where it was.
        document: Its JSON: numbers are int or Decimal, so that none loses digits.
        headers: Of the answer.
        is_empty: Whether the answer is that there is nothing (`ReplyOptions.empty_statuses`).
    """

    url: str
    asked: httpx2.URL
    document: Any
    headers: httpx2.Headers
    is_empty: bool = False


@dataclass
class RestClient:
    """Asks one API, from any thread; all threads share its budget, breaker and credentials.

    Attributes:
        name: The connection's name, for remedies.
        connection: Where the API is.
        resolve: Gives a secret's value.
    """

    name: str
    connection: RestConnection
    resolve: Resolve
    _budget: RateBudget = field(init=False)
    _breaker: CircuitBreaker = field(init=False)
    _token_session: HttpSession = field(init=False)
    _credentials: Credentials = field(init=False)
    _session: HttpSession = field(init=False)

    def __post_init__(self) -> None:
        limits, ca_file = self.connection.limits, self.connection.ca_file
        self._budget = RateBudget(*limits.requests_and_period or (None, 1.0))
        self._breaker = CircuitBreaker(self._host, limits.failures_to_open, limits.open_seconds)
        self._token_session = HttpSession(self.name, limits, ca_file=ca_file)
        self._credentials = credentials_of(
            self.connection.auth, self.name, self.resolve, self._token_session
        )
        self._session = HttpSession(self.name, limits, self._credentials, ca_file)

    def url_of(self, path: str, params: Mapping[str, str]) -> httpx2.URL:
        """The URL of a path below the connection's url."""
        # Of a path, only what a URL cannot hold is encoded: it may hold encoded parts already.
        below = quote(path.lstrip("/"), safe="/%:@!$&'()*+,;=~-._")
        url = httpx2.URL(f"{self.connection.url}/{below}".rstrip("/"))
        return url.copy_merge_params(params) if params else url

    def following(self, page: Page, reference: str) -> httpx2.URL:
        """The URL that a page names, resolved against its own.

        Raises:
            SourceRejectedError: It is on another server, which would be sent the credentials.
        """
        try:
            url = page.asked.join(reference)
        except (httpx2.InvalidURL, ValueError):
            raise SourceRejectedError(
                f"{page.url} names a next page that is no URL",
                fix="correct pagination.next, or use the pagination cursor",
            ) from None
        self._check_server(page.url, page.asked, url)
        return url

    def get(self, url: httpx2.URL, options: ReplyOptions) -> Page:
        """The document at a URL.

        Args:
            url: As `url_of` or `following` gives it.
            options: How the answer is taken.

        Raises:
            SourceRejectedError: The server refuses, or answers something other than JSON.
            SourceUnavailableError: All attempts failed.
        """
        with self._breaker.request():
            return self._with_attempts(lambda: self._page(url, options))

    def _with_attempts(self, send: Callable[[], Page]) -> Page:
        limits = self.connection.limits

        def wait(error: Exception) -> bool | float:
            after = error.retry_after_seconds if isinstance(error, SourceUnavailableError) else None
            if after is not None:
                return after if after <= limits.longest_wait_seconds else False
            return isinstance(error, TransientError)

        attempts = stamina.retry_context(
            on=wait,
            attempts=limits.attempts,
            timeout=None,
            wait_initial=limits.first_wait_seconds,
            wait_max=limits.longest_wait_seconds,
            wait_jitter=limits.first_wait_seconds,
        )
        for attempt in attempts:
            with attempt:
                return send()
        raise AssertionError("stamina raises the last error")

    @property
    def _host(self) -> str:
        return httpx2.URL(self.connection.url).host

    def _page(self, url: httpx2.URL, options: ReplyOptions) -> Page:
        try:
            reply = self._reply(url, options)
        except SourceUnavailableError as error:
            # The other threads of this client must not ask meanwhile.
            wait = error.retry_after_seconds
            if wait is not None and wait <= self.connection.limits.longest_wait_seconds:
                self._budget.pause(wait)
            raise
        document = None if reply.is_empty else self._document(reply)
        return Page(reply.url, reply.asked, document, reply.headers, reply.is_empty)

    def _reply(self, url: httpx2.URL, options: ReplyOptions) -> Reply:
        for _ in range(_MOST_REDIRECTS + 1):
            reply = self._authorized(url, options)
            if reply.redirect is None:
                return reply
            try:
                target = reply.asked.join(reply.redirect)
            except (httpx2.InvalidURL, ValueError):
                raise SourceRejectedError(
                    f"{reply.url} redirects to what is no URL",
                    fix=f"correct connections.{self.name}.url",
                ) from None
            self._check_server(reply.url, reply.asked, target)
            url = target
        raise SourceRejectedError(
            f"{reply.url} redirects more than {_MOST_REDIRECTS} times",
            fix=f"correct connections.{self.name}.url or the entity's path",
        )

    def _authorized(self, url: httpx2.URL, options: ReplyOptions) -> Reply:
        self._credentials.prepare()
        generation = self._credentials.generation
        try:
            return self._send(url, options)
        except SourceUnauthorizedError:
            if not self._credentials.renew(generation):
                raise
        return self._send(url, options)

    def _send(self, url: httpx2.URL, options: ReplyOptions) -> Reply:
        self._budget.take()
        headers = {"accept": "application/json", **self.connection.headers}
        return self._session.send("GET", url, headers=headers, options=options)

    def _check_server(self, shown: str, asked: httpx2.URL, target: httpx2.URL) -> None:
        if (asked.scheme, asked.host, asked.port) == (target.scheme, target.host, target.port):
            return
        raise SourceRejectedError(
            f"{shown} leads to another server, {shown_url(target.copy_with(query=None))}: it would "
            "be sent the credentials",
            fix=f"correct connections.{self.name}.url to the server's own scheme, host and port",
        )

    def _document(self, reply: Reply) -> Any:
        if _HTML.match(reply.body):
            raise SourceRejectedError(
                f"{reply.url} answered HTML or XML, not JSON: most often a login or an error page",
                fix=f"correct connections.{self.name}.url and auth, or the entity's path",
            )
        text = self._text(reply)
        try:
            return json.loads(text, parse_float=Decimal)
        except json.JSONDecodeError as error:
            raise self._no_json(reply, text, error) from None
        except (ValueError, ArithmeticError, RecursionError) as error:
            raise SourceRejectedError(
                f"{reply.url}: the answer has numbers of thousands of digits, or is nested too "
                f"deeply ({type(error).__name__})",
                fix="correct the entity's path",
            ) from None

    def _text(self, reply: Reply) -> str:
        try:
            return reply.body.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            # Last, since servers declare ISO-8859-1, which fits all bytes, and send UTF-8.
            declared = _encoding(reply.headers)
            with suppress(UnicodeDecodeError, LookupError):
                if declared is not None:
                    return reply.body.decode(declared)
            raise SourceRejectedError(
                f"{reply.url}: byte {error.start} of the answer is no UTF-8",
                fix="have the API answer JSON in UTF-8, as RFC 8259 demands",
            ) from None

    def _no_json(self, reply: Reply, text: str, error: json.JSONDecodeError) -> HeadraceError:
        if not text.strip():
            return SourceRejectedError(
                f"{reply.url} answered nothing where JSON was expected",
                fix="correct the entity's path; if a status such as 204 means that there are no "
                "records, declare extract.empty_statuses",
            )
        place = f"line {error.lineno} column {error.colno} of {len(reply.body)} bytes"
        if _is_unfinished(text.rstrip(), error):
            return SourceUnavailableError(
                f"{reply.url}: the JSON breaks off at {place}", fix="run it again"
            )
        return SourceRejectedError(
            f"{reply.url}: the answer is no JSON at {place}: {error.msg}",
            fix="correct the entity's path, or have the API mended",
        )


class ReadAhead:
    """Gets pages in the order of their list; those that follow come while one is worked on."""

    def __init__(self, client: RestClient, options: ReplyOptions) -> None:
        self._client, self._options = client, options
        self._most = client.connection.limits.parallel
        self._pool = ThreadPoolExecutor(self._most, "rest")
        self._pending: dict[httpx2.URL, Future[Page]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def get(self, url: httpx2.URL) -> Page:
        """The document at a URL. Raises as `RestClient.get` does."""
        pending = self._pending.pop(url, None)
        return self._client.get(url, self._options) if pending is None else pending.result()

    def expect(self, urls: Iterable[httpx2.URL]) -> None:
        """Ask for pages that are likely to be wanted next, as many as `limits.parallel` allows."""
        if self._most == 1:
            return
        for url in islice(urls, self._most):
            if len(self._pending) < self._most and url not in self._pending:
                ask = self._pool.submit(self._client.get, url, self._options)
                self._pending[url] = ask


def _is_unfinished(text: str, error: json.JSONDecodeError) -> bool:
    """Whether the error is that the text ends: at its end, or in its last token."""
    rest = text[error.pos :]
    is_in_text = error.msg.startswith(("Unterminated string", "Invalid \\u"))
    return is_in_text or len(rest) <= 1 or any(word.startswith(rest) for word in _WORDS)


def _encoding(headers: httpx2.Headers) -> str | None:
    found = re.search(r"charset=\"?([\w.-]+)", headers.get("content-type", ""))
    try:
        return codecs.lookup(found[1]).name if found else None
    except LookupError:
        return None
