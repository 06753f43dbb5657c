"""A bank's transactions API: OAuth 2.0 tokens that expire, windows of days, pages of 250."""

import base64
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from demo.apis.server import Answer, Request, error

CLIENT_ID, CLIENT_SECRET = "headrace-demo", "not-a-secret"  # of this local server
MOST_PER_PAGE = 250
_DAY = timedelta(days=1)

Record = Mapping[str, Any]


@dataclass
class Bank:
    """Answers as the API does; give it to an ApiServer.

    `POST /oauth/token`, `GET /v1/transactions?from&to&offset&limit` (`to` is exclusive),
    `GET /v1/branches`.

    Attributes:
        transactions: Those booked on a day, in the order of their ids.
        branches: Reference data.
        token_seconds: How long a token is valid.
    """

    transactions: Callable[[date], Sequence[Record]]
    branches: Sequence[Record] = ()
    token_seconds: float = 300.0
    client: tuple[str, str] = (CLIENT_ID, CLIENT_SECRET)
    _tokens: dict[str, float] = field(default_factory=dict)

    def __call__(self, request: Request) -> Answer:
        """The answer to a request."""
        if request.path == "/oauth/token":
            return self._token(request)
        if refusal := self._refusal(request):
            return refusal
        if request.path == "/v1/branches":
            return self._page(self.branches, request)
        if request.path != "/v1/transactions":
            return error(404, "NOT_FOUND", f"there is no {request.path}")
        try:
            first = date.fromisoformat(request.query["from"])
            end = date.fromisoformat(request.query["to"])
        except (KeyError, ValueError):
            return error(400, "INVALID_WINDOW", "from and to must be dates")
        days = [first + n * _DAY for n in range((end - first).days)]
        return self._page([one for day in days for one in self.transactions(day)], request)

    def expire_tokens(self) -> None:
        """Make all tokens invalid at once."""
        self._tokens.clear()

    def _token(self, request: Request) -> Answer:
        given = request.form.get("client_id", ""), request.form.get("client_secret", "")
        kind, _, pair = request.headers.get("authorization", "").partition(" ")
        if kind == "Basic":
            user, _, password = base64.b64decode(pair).decode().partition(":")
            given = user, password
        if given != self.client:
            return Answer({"error": "invalid_client"}, 401)
        if request.form.get("grant_type") != "client_credentials":
            return Answer({"error": "unsupported_grant_type"}, 400)
        token = secrets.token_hex(16)
        self._tokens[token] = time.monotonic() + self.token_seconds
        return Answer(
            {"access_token": token, "token_type": "Bearer", "expires_in": self.token_seconds}
        )

    def _refusal(self, request: Request) -> Answer | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._tokens.get(token, 0.0) <= time.monotonic():
            return error(401, "TOKEN_EXPIRED", "fetch another token")
        return None

    def _page(self, records: Sequence[Record], request: Request) -> Answer:
        try:
            offset = int(request.query.get("offset", "0"))
            limit = min(int(request.query.get("limit", "100")), MOST_PER_PAGE)
        except ValueError:
            return error(400, "INVALID_PAGE", "offset and limit must be numbers")
        page = [*records[offset : offset + limit]]
        return Answer({"count": len(records), "offset": offset, "limit": limit, "data": page})


def transactions_of(day: date, count: int = 600) -> list[Record]:
    """Transactions of a day that are the same whenever they are asked for."""
    return [_transaction(day, number) for number in range(count)]


def _transaction(day: date, number: int) -> Record:
    cents = (number * 7919 + day.toordinal() * 31) % 50_000
    minute = number * 1440 // 1000 % 1440
    first = cents // 3
    return {
        "id": f"{day:%Y%m%d}-{number:05d}",
        "booked_at": f"{day}T{minute // 60:02d}:{minute % 60:02d}:00Z",
        "amount": cents / 100,
        "currency": "EUR",
        "account": {"number": f"A{number % 97:04d}", "branch": {"id": number % 5 + 1}},
        "note": None if number % 3 else "card",
        "items": [
            {"line": 1, "category": "goods", "amount": first / 100},
            {"line": 2, "category": "services", "amount": (cents - first) / 100},
        ],
    }


BRANCHES: Sequence[Record] = [
    {"id": number, "name": name, "city": {"name": city, "lat": lat, "lon": lon}}
    for number, (name, city, lat, lon) in enumerate(
        (
            ("Alster", "Hamburg", 53.55, 10.0),
            ("Isar", "München", 48.14, 11.58),
            ("Spree", "Berlin", 52.52, 13.4),
            ("Main", "Frankfurt", 50.11, 8.68),
            ("Rhein", "Köln", 50.94, 6.96),
        ),
        start=1,
    )
]
