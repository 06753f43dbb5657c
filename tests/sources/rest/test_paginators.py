import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pydantic import TypeAdapter

from demo.apis.server import Answer, Api, ApiServer, Request
from headrace.config.sources.rest_source import Pagination
from headrace.errors import HeadraceError, SourceRejectedError, SourceUnavailableError
from headrace.sources.rest.paginators import RecordList, read_lists
from headrace.sources.rest.records import RecordShape
from tests.sources.rest.apis import client_of

RECORDS = [{"id": n} for n in range(10)]
PAGINATION: TypeAdapter[Pagination] = TypeAdapter(Pagination)

Serve = Callable[[Api], ApiServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda api: stack.enter_context(ApiServer(api))


def read(server: ApiServer, records: str = "$.data[*]", **pagination: Any) -> list[int]:
    client, shape = client_of(server), RecordShape((), records)
    declared = PAGINATION.validate_python(pagination)
    url = client.url_of("/list", {"day": "d"})
    pages = read_lists(client, [RecordList(url)], declared, shape.select)
    return [record["id"] for page in pages for record in page.records]


def failure(server: ApiServer, **pagination: Any) -> HeadraceError:
    with pytest.raises(HeadraceError) as caught:
        read(server, **pagination)
    return caught.value


def by_offset(most: int = 4, total: int = 10) -> Api:
    def api(request: Request) -> Answer:
        start, limit = int(request.query["offset"]), int(request.query["limit"])
        return Answer({"count": total, "data": RECORDS[start : start + min(limit, most)]})

    return api


def by_page(size: int = 4) -> Api:
    def api(request: Request) -> Answer:
        start = (int(request.query["page"]) - 1) * size
        return Answer({"pages": 3, "data": RECORDS[start : start + size]})

    return api


def by_cursor(*, last: dict[str, Any] | None = None) -> Api:
    def api(request: Request) -> Answer:
        start = int(request.query.get("cursor", "c0")[1:])
        end = start + 4
        ended: dict[str, Any] = {"next": None} if last is None else last
        meta = {"next": f"c{end}"} if end < 10 else ended
        return Answer({"meta": meta, "data": RECORDS[start:end]})

    return api


def by_link(request: Request) -> Answer:
    start = int(request.query.get("start", 0))
    more = {"link": f'</list?start={start + 4}>; rel="next", </list>; rel="first"'}
    headers = more if start + 4 < 10 else {}
    return Answer({"data": RECORDS[start : start + 4], "next": f"?start={start + 4}"}, 200, headers)


def test_offsets_go_on_by_the_records_that_came(serve: Serve) -> None:
    """The server gives 4 where 250 are asked for: a short page is no end."""
    server = serve(by_offset())
    assert read(server, type="offset", limit=250, total="$.count") == [*range(10)]
    assert [r.query["offset"] for r in server.requests] == ["0", "4", "8"]
    assert {r.query["day"] for r in server.requests} == {"d"}
    assert read(server, type="offset", limit=250) == [*range(10)]
    assert server.requests[-1].query["offset"] == "10"


def test_pages_of_a_known_number_are_asked_for_at_one_time(serve: Serve) -> None:
    """The order of the rows stays, whichever answer comes first, and no page is asked for twice."""
    at_one_time, most, lock = 0, 0, threading.Lock()

    def api(request: Request) -> Answer:
        nonlocal at_one_time, most
        with lock:
            at_one_time += 1
            most = max(most, at_one_time)
        time.sleep(0.05 - int(request.query["offset"]) / 1000)
        with lock:
            at_one_time -= 1
        return by_offset(most=1)(request)

    server = serve(api)
    client, shape = client_of(server, parallel=3), RecordShape((), "$.data[*]")
    declared = PAGINATION.validate_python({"type": "offset", "total": "$.count"})
    lists = [
        RecordList(client.url_of("/list", {"day": str(day)}), {"d": str(day)}) for day in (1, 2)
    ]
    pages = [*read_lists(client, lists, declared, shape.select)]
    found = [(page.values["d"], record["id"]) for page in pages for record in page.records]
    assert found == [(day, n) for day in ("1", "2") for n in range(10)]
    assert most == 3
    assert len(server.requests) == 20


def test_pages_that_are_not_as_long_as_predicted_are_read_all_the_same(serve: Serve) -> None:
    def api(request: Request) -> Answer:
        start = int(request.query["offset"])
        size = {0: 4, 4: 3}.get(start, 2)
        return Answer({"count": 10, "data": RECORDS[start : start + size]})

    client, shape = client_of(serve(api), parallel=4), RecordShape((), "$.data[*]")
    declared = PAGINATION.validate_python({"type": "offset", "total": "$.count"})
    pages = read_lists(client, [RecordList(client.url_of("/list", {}))], declared, shape.select)
    assert [record["id"] for page in pages for record in page.records] == [*range(10)]


def test_pages_are_read_until_one_is_empty_or_their_number_is_met(serve: Serve) -> None:
    server = serve(by_page())
    assert read(server, type="page") == [*range(10)]
    assert [r.query["page"] for r in server.requests] == ["1", "2", "3", "4"]
    assert read(server, type="page", pages="$.pages") == [*range(10)]
    assert len(server.requests) == 7


def test_cursors_are_followed_to_the_last_page(serve: Serve) -> None:
    assert read(serve(by_cursor()), type="cursor", next="$.meta.next") == [*range(10)]
    assert read(serve(by_cursor(last={"next": ""})), type="cursor", next="$.meta.next")[-1] == 9
    absent = serve(by_cursor(last={}))
    assert read(absent, type="cursor", next="$.meta.next", last_page="absent")[-1] == 9


def test_links_and_next_urls_are_followed(serve: Serve) -> None:
    server = serve(by_link)
    assert read(server, type="link") == [*range(10)]
    assert [r.query.get("start") for r in server.requests] == [None, "4", "8"]


def test_next_urls_may_be_relative(serve: Serve) -> None:
    def api(request: Request) -> Answer:
        start = int(request.query.get("start", 0))
        following = f"?start={start + 4}" if start + 4 < 10 else None
        return Answer({"data": RECORDS[start : start + 4], "next": following})

    assert read(serve(api), type="next_url", next="$.next") == [*range(10)]


def test_an_empty_list_is_no_error(serve: Serve) -> None:
    server = serve(lambda _: Answer({"count": 0, "data": []}))
    assert read(server, type="offset", total="$.count") == []
    server.faults.append(Answer({"count": 0, "data": None}))
    assert read(server, type="offset", total="$.count") == []
    assert len(server.requests) == 2


def test_a_status_may_say_that_there_are_no_further_records(serve: Serve) -> None:
    def api(request: Request) -> Answer:
        start = (int(request.query["page"]) - 1) * 4
        return Answer({"data": RECORDS[start : start + 4]}) if start < 10 else Answer({}, 404)

    server = serve(api)
    assert "404 Not Found" in str(failed := failure(server, type="page"))
    assert "declare extract.empty_statuses" in failed.fix
    client, shape = client_of(server), RecordShape((), "$.data[*]")
    lists = [RecordList(client.url_of("/list", {}))] * 2
    declared = PAGINATION.validate_python({"type": "page"})
    server.faults += [None, None, None, None, Answer(b"", 204)]
    pages = read_lists(client, lists, declared, shape.select, [204, 404])
    assert [record["id"] for page in pages for record in page.records] == [*range(10)]


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ("$.items[*]", "there is no $.items; the answer is an object with count, data"),
        ("$.count[*]", "$.count is a number, and no array"),
        ("$.data.rows[*]", "there is no $.data.rows"),
    ],
)
def test_a_page_without_the_list_is_named(serve: Serve, records: str, said: str) -> None:
    with pytest.raises(SourceRejectedError) as caught:
        read(serve(by_offset()), records, type="offset", total="$.count")
    assert said in str(caught.value)
    assert "extract.records" in caught.value.fix


def test_a_list_that_is_missing_on_a_later_page_is_an_error(serve: Serve) -> None:
    server = serve(by_offset())
    server.faults += [None, Answer({"count": 10, "error": "busy"})]
    failed = failure(server, type="offset", total="$.count")
    assert "list?day=d&limit=100&offset=4: there is no" in str(failed)
    assert "there is no $.data" in str(failed)


def test_a_wrong_path_of_the_cursor_is_an_error(serve: Serve) -> None:
    failed = failure(serve(by_cursor()), type="cursor", next="$.meta.cursor")
    assert "there is no $.meta.cursor; the answer is an object with meta, data" in str(failed)
    assert "last_page: absent" in failed.fix


def test_a_cursor_that_repeats_is_an_error(serve: Serve) -> None:
    numbers = iter(range(100))

    def api(request: Request) -> Answer:
        n = next(numbers)
        return Answer({"next": f"c{n % 3}", "data": [{"id": n}]})

    failed = failure(serve(api), type="cursor", next="$.next")
    assert "leads to a page that was read already" in str(failed)


def test_a_next_url_that_repeats_is_an_error(serve: Serve) -> None:
    numbers = iter(range(100))
    server = serve(lambda _: Answer({"next": "/list?day=d", "data": [{"id": next(numbers)}]}))
    assert "read already" in str(failure(server, type="next_url", next="$.next"))
    assert len(server.requests) == 1


def test_a_page_that_comes_twice_is_an_error(serve: Serve) -> None:
    """An API that ignores the parameter of the page gives the first one for ever."""
    server = serve(lambda _: Answer({"at": 1, "data": RECORDS[:4]}))
    failed = failure(server, type="page")
    assert "has exactly the records of a page before it" in str(failed)
    assert len(server.requests) == 2


def test_a_total_that_is_not_met_is_an_error(serve: Serve) -> None:
    failed = failure(serve(by_offset(total=12)), type="offset", total="$.count")
    assert "the pages hold 10 records, and pagination.total says 12" in str(failed)
    alone = serve(lambda _: Answer({"total": 10, "data": RECORDS[:4]}))
    failed = failure(alone, type="none", total="$.total")
    assert "hold 4 records, and pagination.total says 10" in str(failed)


def test_a_list_that_changes_while_it_is_read_is_read_again_later(serve: Serve) -> None:
    server = serve(by_offset())
    server.faults += [None, Answer({"count": 11, "data": RECORDS[4:8]})]
    failed = failure(server, type="offset", total="$.count")
    assert type(failed) is SourceUnavailableError
    assert "had 10 records and has 11 now" in str(failed)


def test_a_total_that_is_no_count_is_an_error(serve: Serve) -> None:
    failed = failure(serve(by_offset()), type="offset", total="$.total")
    assert "$.total must be a count and is nothing" in str(failed)


def test_a_second_page_that_nobody_reads_is_an_error(serve: Serve) -> None:
    failed = failure(serve(by_link), type="none")
    assert "pagination says that there is none" in str(failed)
    assert "type: link" in failed.fix


def test_a_next_url_on_another_server_is_not_followed(serve: Serve) -> None:
    server = serve(lambda _: Answer({"data": RECORDS, "next": "https://evil.example/list?a=b"}))
    failed = failure(server, type="next_url", next="$.next")
    assert "leads to another server, https://evil.example/list:" in str(failed)
