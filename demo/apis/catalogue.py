"""The catalogue of a chain's head office: changes of products, by the day they were recorded."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from demo.apis.server import Answer, Request, error

MOST_PER_PAGE = 1000
# Each line begins with it, then the day and a quote.
_DAY = b'{"recorded_on":"'
_Mark = tuple[int, int]


@dataclass
class Catalogue:
    """Answers as the API does; give it to an ApiServer.

    `GET /v1/products/changes?from&to&offset&limit`: `to` is exclusive.

    Attributes:
        path: One JSON object a line, in order of their days; it is read again once it changes.
    """

    path: Path
    _days: dict[date, list[bytes]] = field(default_factory=dict)
    _mark: _Mark | None = None

    def __call__(self, request: Request) -> Answer:
        """The answer to a request."""
        if request.path != "/v1/products/changes":
            return error(404, "NOT_FOUND", f"there is no {request.path}")
        try:
            first = date.fromisoformat(request.query["from"])
            end = date.fromisoformat(request.query["to"])
            offset = int(request.query.get("offset", "0"))
            limit = min(int(request.query.get("limit", "100")), MOST_PER_PAGE)
        except (KeyError, ValueError):
            return error(400, "INVALID_REQUEST", "from and to are dates, offset and limit numbers")
        lines = [line for day, some in self._read().items() if first <= day < end for line in some]
        page = b",".join(lines[offset : offset + limit])
        return Answer(b'{"count":%d,"data":[%b]}' % (len(lines), page))

    def _read(self) -> dict[date, list[bytes]]:
        found = self.path.stat()
        mark = (found.st_mtime_ns, found.st_size)
        if mark != self._mark:
            days: defaultdict[date, list[bytes]] = defaultdict(list)
            for line in self.path.read_bytes().splitlines():
                day = line[len(_DAY) : len(_DAY) + len("2017-01-01")].decode()
                days[date.fromisoformat(day)].append(line)
            self._days, self._mark = dict(days), mark
        return self._days
