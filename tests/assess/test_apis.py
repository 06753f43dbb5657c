"""What is proposed for lists of a REST API: records, pages, columns."""

from typing import Any

import pytest
import yaml

from demo.apis.server import Answer, ApiServer, Request, error
from headrace.assess.apis.list_shape import list_shape
from headrace.assess.apis.samples import ListSamples
from headrace.assess.assessment import assess
from headrace.config.sources.models import parse_source
from headrace.config.sources.rest_connection import RestConnection
from headrace.errors import ConfigError

ROWS = [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize(
    ("document", "records", "pagination"),
    [
        (ROWS, "$[*]", {"type": "none"}),
        ({"data": ROWS}, "$.data[*]", {"type": "none"}),
        (
            {"data": ROWS, "links": {"next": "/x?page=2"}},
            "$.data[*]",
            {"type": "next_url", "next": "$.links.next"},
        ),
        (
            {"results": ROWS, "next": None, "count": 2},
            "$.results[*]",
            {"type": "next_url", "next": "$.next"},
        ),
        (
            {"items": ROWS, "meta": {"next_cursor": "abc"}, "total": 9},
            "$.items[*]",
            {"type": "cursor", "param": "cursor", "next": "$.meta.next_cursor", "total": "$.total"},
        ),
        (
            {"page": 1, "per_page": 2, "total_pages": 3, "total": 6, "rows": ROWS},
            "$.rows[*]",
            {
                "type": "page",
                "param": "page",
                "first": 1,
                "size_param": "per_page",
                "size": 2,
                "pages": "$.total_pages",
                "total": "$.total",
            },
        ),
        (
            {"offset": 0, "limit": 2, "count": 5, "transactions": ROWS},
            "$.transactions[*]",
            {
                "type": "offset",
                "param": "offset",
                "limit_param": "limit",
                "limit": 2,
                "total": "$.count",
            },
        ),
        ({"all rows": ROWS}, "$['all rows'][*]", {"type": "none"}),
        ({"id": 7, "name": "one"}, "$", {"type": "none"}),
    ],
)
def test_records_and_pages_are_found_by_the_shape_of_an_answer(
    document: Any, records: str, pagination: dict[str, Any]
) -> None:
    shape = list_shape(document)
    assert shape is not None
    assert (shape.records, shape.pagination) == (records, pagination)


def test_a_link_header_names_the_next_page() -> None:
    shape = list_shape(ROWS, '<https://x/y?p=2>; rel="next", <https://x/y?p=9>; rel="last"')
    assert shape is not None
    assert shape.pagination == {"type": "link"}


def test_a_count_of_the_page_alone_is_no_total() -> None:
    shape = list_shape({"count": 2, "next": "/x?page=2", "data": ROWS})
    assert shape is not None
    assert "total" not in shape.pagination


@pytest.mark.parametrize("document", [{"total": 50, "data": ROWS}, [{"id": n} for n in range(100)]])
def test_pages_that_nothing_names_are_a_doubt(document: Any) -> None:
    shape = list_shape(document)
    assert shape is not None
    assert "see how further pages are asked for" in " ".join(shape.problems)


def answer(request: Request) -> Answer:
    page = int(request.query.get("page", 1))
    rows = [
        {
            "id": n,
            "bookedAt": f"2024-05-{n % 28 + 1:02d}T10:00:00Z",
            "amount": n + 0.5,
            "account": {"iban": "DE89370400440532013000", "branch": {"city": "Ulm"}},
            "tags": ["a"],
        }
        for n in range(120)
    ][(page - 1) * 50 : page * 50]
    if request.path == "/transactions":
        return Answer({"page": page, "total_pages": 3, "total": 120, "data": rows})
    # It gives the first page for ever.
    if request.path == "/stuck":
        return Answer({"page": 1, "data": ROWS})
    return error(404, "unknown", "there is no such list")


def test_lists_are_assessed_by_their_first_pages() -> None:
    with ApiServer(answer) as server:
        api = RestConnection.model_validate({"kind": "rest", "url": server.url})
        found = assess(ListSamples("bank", api, ["/transactions", "stuck", "none"]), "bank", 1000)
    values = yaml.safe_load(found.yaml)
    parse_source(values)
    entities = {entity["name"]: entity for entity in values["entities"]}
    transactions = entities["transactions"]
    assert transactions["key"] == ["id"]
    assert transactions["extract"]["partition_by"] == "booked_at"
    assert "120 rows sampled" in found.yaml
    columns = {column["name"]: column for column in transactions["columns"]}
    assert columns["account_branch_city"]["from"] == "$.account.branch.city"
    assert columns["amount"]["type"] == "decimal(12,2)"
    assert "transactions.account_iban: IBAN" in found.personal
    checks = " ".join(found.checks)
    assert "exactly the records of a page before it" in checks
    assert "none is left out" in checks
    assert "DE89370400440532013000" not in found.yaml + found.markdown + found.html


def test_an_api_needs_the_paths_of_its_lists() -> None:
    api = RestConnection.model_validate({"kind": "rest", "url": "http://127.0.0.1:1"})
    with pytest.raises(ConfigError, match="does not say what lists it has"):
        ListSamples("bank", api, [])
