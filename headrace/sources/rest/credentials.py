"""Credentials of a REST API: resolved when they are used, renewed where they expire."""

import base64
import json
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import httpx2

from headrace.config.model import Secret
from headrace.config.sources.rest_connection import (
    ApiKeyAuth,
    BasicAuth,
    BearerAuth,
    OAuth2Auth,
    RestAuth,
)
from headrace.errors import ConfigError, SourceRejectedError, SourceUnauthorizedError
from headrace.sources.rest.http_session import Authorization, HttpSession, Reply

# A token that expires sooner is fetched anew: the request must reach the server before that.
_SPARE_SECONDS = 30.0
_SPARE_SHARE = 0.1

Resolve = Callable[[Secret], str]


class Credentials(Authorization, Protocol):
    """What authorizes the requests of one connection, on any thread."""

    @property
    def generation(self) -> int:
        """Counts renewals."""
        ...

    def prepare(self) -> None:
        """Fetch what the next request needs."""
        ...

    def renew(self, generation: int) -> bool:
        """Replace credentials that were refused.

        Args:
            generation: That of the refused ones; another thread may have renewed them since.

        Returns:
            Whether there are others now.
        """
        ...


def credentials_of(
    auth: RestAuth | None, name: str, resolve: Resolve, session: HttpSession
) -> Credentials:
    """The credentials that a connection declares.

    Args:
        auth: None: none are sent.
        name: The connection's name, for remedies.
        resolve: Gives a secret's value.
        session: Sends token requests.

    Raises:
        ConfigError: A secret is not set, or cannot be sent.
    """

    def secret(place: str, declared: Secret) -> str:
        value = resolve(declared)
        # An error of the HTTP library would quote it.
        if not value.isprintable() or not value.isascii() or value != value.strip():
            raise ConfigError(
                f"connections.{name}.auth.{place}: the value of {declared.env} has characters that "
                "cannot be sent",
                fix=f"set {declared.env} to one line of printable ASCII, without blanks around it",
            )
        return value

    match auth:
        case None:
            return StaticCredentials()
        case ApiKeyAuth(header=str(header)):
            key = secret("key", auth.key)
            return StaticCredentials({header: key}, secrets=(key,))
        case ApiKeyAuth():
            key = secret("key", auth.key)
            return StaticCredentials(param=(str(auth.param), key), secrets=(key,))
        case BearerAuth():
            token = secret("token", auth.token)
            return StaticCredentials({"authorization": f"Bearer {token}"}, secrets=(token,))
        case BasicAuth():
            pair = secret("user", auth.user), secret("password", auth.password)
            return StaticCredentials({"authorization": _basic(*pair)}, secrets=pair)
    return OAuth2Credentials(
        auth,
        name,
        session,
        secret("client_id", auth.client_id),
        secret("client_secret", auth.client_secret),
    )


@dataclass(frozen=True)
class StaticCredentials:
    """Credentials that stay the same. See Credentials."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    param: tuple[str, str] | None = field(default=None, repr=False)
    secrets: Collection[str] = field(default=(), repr=False)
    generation: int = 0

    def prepare(self) -> None:
        """See Credentials."""

    def renew(self, generation: int) -> bool:  # noqa: ARG002  # there are no others
        """See Credentials."""
        return False

    def authorize(self, request: httpx2.Request) -> httpx2.Request:
        """See Authorization."""
        url = request.url if self.param is None else request.url.copy_set_param(*self.param)
        return _copy(request, url, self.headers)


@dataclass
class OAuth2Credentials:
    """Tokens of the client credentials grant (RFC 6749, 4.4). See Credentials."""

    auth: OAuth2Auth
    name: str
    session: HttpSession = field(repr=False)
    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)
    generation: int = field(default=0, init=False)
    _token: str = field(default="", init=False, repr=False)
    _renewed_at: float = field(default=float("-inf"), init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def secrets(self) -> Collection[str]:
        """See Authorization."""
        return [text for text in (self.client_secret, self.client_id, self._token) if text]

    def prepare(self) -> None:
        """See Credentials."""
        with self._lock:
            if not self._token or time.monotonic() >= self._renewed_at:
                self._fetch()

    def renew(self, generation: int) -> bool:
        """See Credentials."""
        with self._lock:
            if self.generation == generation:
                self._fetch()
        return True

    def authorize(self, request: httpx2.Request) -> httpx2.Request:
        """See Authorization."""
        return _copy(request, request.url, {"authorization": f"Bearer {self._token}"})

    def _fetch(self) -> None:
        form = {"grant_type": "client_credentials", **self.auth.params}
        if self.auth.scope is not None:
            form["scope"] = self.auth.scope
        headers = {"accept": "application/json"}
        if self.auth.client_auth == "basic":
            headers["authorization"] = _basic(self.client_id, self.client_secret)
        else:
            form |= {"client_id": self.client_id, "client_secret": self.client_secret}
        url = httpx2.URL(self.auth.token_url)
        try:
            reply = self.session.send("POST", url, headers=headers, form=form, secrets=self.secrets)
        except SourceRejectedError as error:
            # RFC 6749 answers 400 to wrong credentials as to a wrong request.
            raise self._refused(str(error)) from None
        token, seconds = self._read(reply)
        self._token = token
        self._renewed_at = time.monotonic() + seconds - min(_SPARE_SECONDS, seconds * _SPARE_SHARE)
        self.generation += 1

    def _read(self, reply: Reply) -> tuple[str, float]:
        try:
            answer = json.loads(reply.body)
        except (ValueError, RecursionError):
            answer = None
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise SourceRejectedError(
                f"{reply.url} answered no token: there is no text access_token in its JSON",
                fix=f"correct connections.{self.name}.auth.token_url",
            )
        seconds = answer.get("expires_in")
        try:
            # Left out, it is not known (RFC 6749, 5.1): the token is used until it is refused.
            return token, float(seconds) if seconds is not None else float("inf")
        except (TypeError, ValueError):
            return token, float("inf")

    def _refused(self, what: str) -> SourceUnauthorizedError:
        return SourceUnauthorizedError(
            f"{what}: the token endpoint refuses the client",
            fix=f"correct the id and secret that connections.{self.name}.auth names, its scope, "
            "client_auth and params",
        )


def _copy(request: httpx2.Request, url: httpx2.URL, headers: Mapping[str, str]) -> httpx2.Request:
    together = request.headers.copy()
    together.update(headers)
    return httpx2.Request(
        method=request.method,
        url=url,
        headers=together,
        stream=request.stream,
        extensions=request.extensions,
    )


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
