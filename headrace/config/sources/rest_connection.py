"""Models of the connection to a REST API: where it is, credentials and limits."""

import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from headrace.config.model import MAY_HOLD_SECRET, Secret, StrictModel, tag_of

_PERIODS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_RATE = re.compile(r"([1-9]\d{0,6})/(s|min|h|d)")
_CREDENTIALS = {"authorization", "proxy-authorization", "cookie"}


def _http_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    fault = None
    if scheme not in {"http", "https"} or not rest.strip("/"):
        fault = "must begin with https:// or http:// and a host"
    elif "@" in rest.partition("/")[0]:
        fault = "must not hold a user or a password: declare them under auth"
    elif "?" in url or "#" in url:
        fault = "must not have a ? or #: parameters are the entity's (extract.params), keys auth's"
    if fault:
        raise PydanticCustomError(MAY_HOLD_SECRET, fault)
    return url.rstrip("/")


HttpUrl = Annotated[str, AfterValidator(_http_url)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
ParameterName = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class ApiKeyAuth(StrictModel):
    """A key in a header or in a query parameter."""

    type: Literal["api_key"] = Field(description="A key in a header or query parameter.")
    key: Secret = Field(description="The key.")
    header: HeaderName | None = Field(
        None, description="Header that holds the key.", examples=["X-Api-Key"]
    )
    param: ParameterName | None = Field(
        None, description="Query parameter that holds the key.", examples=["appid"]
    )

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        if (self.header is None) == (self.param is None):
            raise ValueError("needs either header or param: where the key is sent")
        return self


class BearerAuth(StrictModel):
    """A token that does not expire, in the header `Authorization`."""

    type: Literal["bearer"] = Field(description="A token that does not expire.")
    token: Secret = Field(description="The token.")


class BasicAuth(StrictModel):
    """A user and a password, in the header `Authorization`."""

    type: Literal["basic"] = Field(description="A user and a password.")
    user: Secret = Field(description="The user.")
    password: Secret = Field(description="The password.")


class OAuth2Auth(StrictModel):
    """OAuth 2.0 client credentials (RFC 6749, 4.4): tokens that expire are fetched anew."""

    type: Literal["oauth2"] = Field(description="OAuth 2.0 client credentials.")
    token_url: HttpUrl = Field(description="Where tokens are fetched.")
    client_id: Secret = Field(description="The client's id.")
    client_secret: Secret = Field(description="The client's secret.")
    scope: str | None = Field(None, description="Scopes, separated by blanks.")
    params: dict[ParameterName, str] = Field(
        default_factory=dict,
        description="Further parameters of the token request.",
        examples=[{"audience": "https://api.example.com"}],
    )
    client_auth: Literal["basic", "body"] = Field(
        "basic", description="Whether id and secret are sent in a header or in the request's body."
    )


RestAuth = Annotated[
    Annotated[ApiKeyAuth, Tag("api_key")]
    | Annotated[BearerAuth, Tag("bearer")]
    | Annotated[BasicAuth, Tag("basic")]
    | Annotated[OAuth2Auth, Tag("oauth2")],
    Discriminator(tag_of("type")),
]


class RestLimits(StrictModel):
    """Limits of the requests to an API: rate, retries, times and sizes."""

    rate: str | None = Field(
        None,
        description="Most requests in any period of a second, minute, hour or day, counted by "
        "process: `5/s`, `60/min`, `1000/h`, `10000/d`. Left out: no limit.",
        examples=["60/min"],
    )
    parallel: int = Field(
        2,
        ge=1,
        le=32,
        description="Most requests at one time. Each partition that is read may hold as many pages "
        "in memory.",
    )
    attempts: int = Field(
        3,
        ge=1,
        le=20,
        description="How often a request is sent that gets 408, 425, 429 or 5xx, or no answer.",
    )
    first_wait_seconds: float = Field(
        1.0, ge=0, description="Wait before the second attempt; it doubles before each further one."
    )
    longest_wait_seconds: float = Field(
        60.0,
        gt=0,
        description="Longest wait before an attempt. Where `Retry-After` asks for a longer one, "
        "the capture fails for now.",
    )
    connect_seconds: float = Field(10.0, gt=0, description="Longest wait for a connection.")
    read_seconds: float = Field(60.0, gt=0, description="Longest wait for the next bytes.")
    request_seconds: float = Field(300.0, gt=0, description="Longest time for a whole answer.")
    max_response_bytes: int = Field(
        16 * 2**20, ge=1024, description="Largest answer, decompressed; a page is held in memory."
    )
    failures_to_open: int = Field(
        5,
        ge=1,
        description="After so many requests in a row whose attempts all failed, none is sent for "
        "`open_seconds` (circuit breaker).",
    )
    open_seconds: float = Field(60.0, gt=0, description="How long no request is sent then.")

    @field_validator("rate")
    @classmethod
    def _rate_is_known(cls, value: str | None) -> str | None:
        if value is not None and not _RATE.fullmatch(value):
            raise ValueError("must be a number of requests and a period, such as 60/min")
        return value

    @property
    def requests_and_period(self) -> tuple[int, float] | None:
        """Requests and seconds of `rate`."""
        found = _RATE.fullmatch(self.rate or "")
        return (int(found[1]), float(_PERIODS[found[2]])) if found else None


class RestConnection(StrictModel):
    """An HTTP API that answers JSON."""

    kind: Literal["rest"] = Field(description="An HTTP API that answers JSON.")
    url: HttpUrl = Field(
        description="What all paths of its entities begin with.",
        examples=["https://api.example.com/v1"],
    )
    auth: RestAuth | None = Field(None, description="How requests are authorized.")
    headers: dict[HeaderName, str] = Field(
        default_factory=dict,
        description="Further headers of each request; no secrets.",
        examples=[{"Accept-Language": "en"}],
    )
    limits: RestLimits = Field(RestLimits(), description="Rate, retries, timeouts and sizes.")
    ca_file: str | None = Field(
        None,
        description="PEM file of the certificate authorities to trust. By default those of the "
        "machine.",
    )

    @field_validator("headers")
    @classmethod
    def _hold_no_credentials(cls, value: dict[str, str]) -> dict[str, str]:
        if secret := sorted(name for name in value if name.lower() in _CREDENTIALS):
            raise ValueError(f"{secret[0]} holds credentials: declare them under auth")
        for name, text in value.items():
            if not text.isprintable() or not text.isascii():
                raise ValueError(f"{name} must be printable ASCII")
        return value
