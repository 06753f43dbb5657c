"""Models of a REST API: where it is, how requests are authorized and limited, how pages follow."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from headrace.config.model import StrictModel
from headrace.config.settings import Secret

_PERIODS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_RATE = re.compile(r"([1-9]\d{0,6})/(s|min|h|d)")
_CREDENTIALS = {"authorization", "proxy-authorization", "cookie"}


def _json_path(text: str) -> str:
    # It takes a tenth of a second to import, for which projects without REST do not wait.
    import jsonpath  # noqa: PLC0415

    try:
        jsonpath.compile(text, strict=True)
    except jsonpath.JSONPathError as error:
        # Its text shows the place in lines of their own.
        raise ValueError(f"is no JSONPath (RFC 9535), such as $.data[*]: {error.args[0]}") from None
    return text


def _single_json_path(text: str) -> str:
    import jsonpath  # noqa: PLC0415

    path = jsonpath.compile(_json_path(text), strict=True)
    if not isinstance(path, jsonpath.JSONPath) or not path.singular_query():
        raise ValueError("must name one value, such as $.meta.total, and no list of them")
    return text


def _http_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme not in {"http", "https"} or not rest.strip("/"):
        raise ValueError("must begin with https:// or http:// and a host")
    if "@" in rest.partition("/")[0]:
        raise ValueError("must not hold a user or a password: declare them under auth")
    if "?" in url or "#" in url:
        raise ValueError("must not have a ? or #: parameters are the entity's (extract.params)")
    return url.rstrip("/")


JsonPath = Annotated[str, AfterValidator(_json_path)]
SingleJsonPath = Annotated[str, AfterValidator(_single_json_path)]
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


RestAuth = Annotated[ApiKeyAuth | BearerAuth | BasicAuth | OAuth2Auth, Field(discriminator="type")]


class RestLimits(StrictModel):
    """How often, how long and how much is asked of an API."""

    rate: str | None = Field(
        None,
        description="Most requests in any period of a second, minute, hour or day, counted by "
        "process: `5/s`, `60/min`, `1000/h`, `10000/d`. Left out: no limit.",
        examples=["60/min"],
    )
    parallel: int = Field(2, ge=1, le=32, description="Most requests at one time.")
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


class NoPagination(StrictModel):
    """The first answer is whole."""

    type: Literal["none"] = Field(description="The first answer is whole.")
    total: SingleJsonPath | None = Field(
        None, description="Where an answer says how many records there are; they must be met."
    )


class PagePagination(StrictModel):
    """Pages by number."""

    type: Literal["page"] = Field(description="Pages by number.")
    param: ParameterName = Field("page", description="Query parameter of the number.")
    first: int = Field(1, ge=0, description="Number of the first page.")
    size_param: ParameterName | None = Field(None, description="Query parameter of the size.")
    size: int = Field(100, ge=1, description="Records that a page is asked for, by `size_param`.")
    total: SingleJsonPath | None = Field(
        None,
        description="Where an answer says how many records there are; they must be met. With "
        "neither `total` nor `pages`, pages are read until one is empty.",
        examples=["$.meta.total"],
    )
    pages: SingleJsonPath | None = Field(
        None, description="Where an answer says how many pages there are."
    )


class OffsetPagination(StrictModel):
    """Pages by the number of records before them."""

    type: Literal["offset"] = Field(description="Pages by the number of records before them.")
    param: ParameterName = Field("offset", description="Query parameter of that number.")
    limit_param: ParameterName = Field("limit", description="Query parameter of the size.")
    limit: int = Field(100, ge=1, description="Records that a page is asked for.")
    total: SingleJsonPath | None = Field(
        None,
        description="Where an answer says how many records there are; they must be met. Without "
        "it, pages are read until one is empty.",
        examples=["$.count"],
    )


class CursorPagination(StrictModel):
    """Each page holds the cursor of the next one."""

    type: Literal["cursor"] = Field(description="Each page holds the cursor of the next one.")
    param: ParameterName = Field("cursor", description="Query parameter of the cursor.")
    next: SingleJsonPath = Field(
        description="Where a page holds the next cursor; null or an empty text ends the pages.",
        examples=["$.meta.next_cursor"],
    )
    last_page: Literal["null", "absent"] = Field(
        "null",
        description="Whether the last page has the member `next` as null or an empty text, or may "
        "lack it. By default a page without it is an error.",
    )
    total: SingleJsonPath | None = Field(
        None, description="Where an answer says how many records there are; they must be met."
    )


class NextUrlPagination(StrictModel):
    """Each page holds the URL of the next one."""

    type: Literal["next_url"] = Field(description="Each page holds the URL of the next one.")
    next: SingleJsonPath = Field(
        description="Where a page holds the next URL; null or an empty text ends the pages.",
        examples=["$.links.next"],
    )
    last_page: Literal["null", "absent"] = Field(
        "null",
        description="Whether the last page has the member `next` as null or an empty text, or may "
        "lack it. By default a page without it is an error.",
    )
    total: SingleJsonPath | None = Field(
        None, description="Where an answer says how many records there are; they must be met."
    )


class LinkPagination(StrictModel):
    """The header `Link` with `rel=next` (RFC 8288) holds the URL of the next page."""

    type: Literal["link"] = Field(description="The header `Link` with `rel=next` (RFC 8288).")
    total: SingleJsonPath | None = Field(
        None, description="Where an answer says how many records there are; they must be met."
    )


Pagination = Annotated[
    NoPagination
    | PagePagination
    | OffsetPagination
    | CursorPagination
    | NextUrlPagination
    | LinkPagination,
    Field(discriminator="type"),
]
