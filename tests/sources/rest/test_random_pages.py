"""Lists of any length, in pages of any size, from a server that fails now and then."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from demo.apis.server import Answer, ApiServer, Request
from headrace.config.sources.rest_source import Pagination
from headrace.sources.rest.paginators import RecordList, read_lists
from headrace.sources.rest.records import RecordShape
from tests.sources.rest.apis import client_of

pytestmark = pytest.mark.property

PAGINATIONS: dict[str, dict[str, Any]] = {
    "offset": {"type": "offset", "limit": 5},
    "offset and total": {"type": "offset", "limit": 5, "total": "$.total"},
    "page": {"type": "page", "size_param": "limit", "size": 5},
    "page and total": {"type": "page", "total": "$.total"},
    "page and pages": {"type": "page", "pages": "$.pages"},
    "cursor": {"type": "cursor", "next": "$.next"},
    "cursor that is absent": {"type": "cursor", "next": "$.after", "last_page": "absent"},
    "next_url": {"type": "next_url", "next": "$.url", "total": "$.total"},
    "link": {"type": "link"},
}


class Lists:
    """Answers in every way at once: what each page holds is by its start."""

    def __init__(self) -> None:
        self.records, self.sizes, self.page_size = 0, [1], 1
        self.fails: set[int] = set()
        self.asked = 0

    def __call__(self, request: Request) -> Answer:
        self.asked += 1
        if self.asked in self.fails:
            return Answer({}, 503)
        query = request.query
        if "page" in query:
            start, size = (int(query["page"]) - 1) * self.page_size, self.page_size
        else:
            start = int(query.get("offset") or query.get("cursor") or query.get("start") or 0)
            size = self.sizes[start % len(self.sizes)]
        end = min(start + size, self.records)
        more = end < self.records
        body: dict[str, Any] = {
            "total": self.records,
            "pages": -(-self.records // self.page_size),
            "next": str(end) if more else None,
            "url": f"?start={end}" if more else None,
            "data": [{"id": n} for n in range(start, end)],
            **({"after": end} if more else {}),
        }
        headers = {"link": f'<?start={end}>; rel="next"'} if more else {}
        return Answer(body, headers=headers)


@pytest.fixture(scope="module")
def lists() -> Iterator[tuple[Lists, ApiServer]]:
    api = Lists()
    with ApiServer(api) as server:
        yield api, server


@dataclass(frozen=True)
class Case:
    records: int
    sizes: list[int]
    fails: set[int]
    kind: str
    parallel: int
    lists: int


CASES = st.builds(
    Case,
    records=st.integers(0, 30),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    fails=st.sets(st.integers(1, 20), max_size=3),
    kind=st.sampled_from(sorted(PAGINATIONS)),
    parallel=st.integers(1, 4),
    lists=st.integers(1, 3),
)


@given(case=CASES)
@settings(max_examples=60, deadline=None)
def test_every_record_comes_once_and_in_order(lists: tuple[Lists, ApiServer], case: Case) -> None:
    api, server = lists
    api.records, api.sizes, api.page_size = case.records, case.sizes, case.sizes[0]
    api.fails, api.asked = case.fails, 0
    client = client_of(server, parallel=case.parallel, attempts=5)
    declared: Pagination = TypeAdapter(Pagination).validate_python(PAGINATIONS[case.kind])
    names = [str(number) for number in range(case.lists)]
    wanted = [RecordList(client.url_of("/list", {"d": name}), {"d": name}) for name in names]
    pages = read_lists(client, wanted, declared, RecordShape((), "$.data[*]").select)
    found = [(page.values["d"], record["id"]) for page in pages for record in page.records]
    assert found == [(name, record) for name in names for record in range(case.records)]
