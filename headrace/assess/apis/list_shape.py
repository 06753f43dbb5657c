"""Guesses from one answer of an API where its records are and how further pages are asked for."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Steps = tuple[str, ...]

_DEEPEST = 3
_SIZES_OF_PAGES = {10, 20, 25, 30, 50, 100, 200, 250, 500, 1000}
_LINK_NEXT = re.compile(r'rel\s*=\s*"?next"?', re.IGNORECASE)
_TOTALS = {
    "total",
    "totalcount",
    "count",
    "totalresults",
    "totalitems",
    "totalelements",
    "nrecords",
}
_PAGE_COUNTS = {"totalpages", "pages", "pagecount", "lastpage", "numpages"}
_PAGES = {"page", "currentpage", "pagenumber", "pageno"}
_SIZES = {"perpage", "pagesize", "size", "limit", "itemsperpage"}
_OFFSETS = {"offset", "skip", "start", "startindex"}
_NEXTS = {"next", "nexturl", "nextpage", "nextlink", "nexthref", "odatanextlink"}
_CURSORS = {
    "nextcursor": "cursor",
    "cursor": "cursor",
    "endcursor": "after",
    "after": "after",
    "nextpagetoken": "pageToken",
    "nexttoken": "nextToken",
    "continuationtoken": "continuationToken",
    "continuation": "continuation",
}


@dataclass(frozen=True)
class ListShape:
    """How a list is read.

    Attributes:
        records: JSONPath of the records.
        found: The records of the answer.
        pagination: `pagination` of the extract.
        evidence: What it was concluded from.
        problems: What somebody has to decide.
    """

    records: str
    found: tuple[Mapping[str, Any], ...]
    pagination: Mapping[str, Any]
    evidence: tuple[str, ...]
    problems: tuple[str, ...] = ()


def list_shape(document: Any, link: str = "") -> ListShape | None:
    """The shape of a list by its first answer; None if it has no object.

    Args:
        document: The answer.
        link: Its header `Link`.
    """
    arrays = [*_arrays(document, ())]
    if arrays:
        steps, found = max(arrays, key=lambda one: (len(one[1]), -len(one[0])))
        records = tuple(record for record in found if isinstance(record, dict))
        pagination, why, problems = _pagination(document, steps, len(found), link)
        evidence = (f"the longest array of objects is {json_path(steps) or '$'}", why)
        return ListShape(f"{json_path(steps) or '$'}[*]", records, pagination, evidence, problems)
    if isinstance(document, dict) and document:
        why = "the answer is one object, without an array of objects"
        return ListShape("$", (document,), {"type": "none"}, (why,))
    return None


def _arrays(value: Any, above: Steps) -> Iterator[tuple[Steps, list[Any]]]:
    if isinstance(value, list):
        if any(isinstance(one, dict) for one in value):
            yield above, value
    elif isinstance(value, dict) and len(above) < _DEEPEST:
        for name, inner in value.items():
            yield from _arrays(inner, (*above, name))


def _pagination(
    document: Any, records: Steps, count: int, link: str
) -> tuple[dict[str, Any], str, tuple[str, ...]]:
    """Options of pagination, why, and what somebody has to decide."""
    beside = {steps: v for steps, v in _scalars(document, ()) if steps[: len(records)] != records}
    total = _named(beside, _TOTALS, int)
    # A count of this page alone would end the pages after the first one.
    known = {"total": json_path(total[0])} if total and total[1] > count else {}
    if _LINK_NEXT.search(link):
        return {"type": "link", **known}, "the header Link names the next page", ()
    for way in (_by_next, _by_cursor, _by_page, _by_offset):
        if found := way(beside):
            options, why, problems = found
            return {**options, **known}, why, problems
    doubt = ""
    if total and total[1] > count:
        doubt = f"{json_path(total[0])} says {total[1]:,} records, and the answer has {count:,}"
    elif count in _SIZES_OF_PAGES:
        doubt = f"the answer has {count:,} records, as many as a page often has"
    problems = (f"{doubt}: see how further pages are asked for",) if doubt else ()
    return {"type": "none"}, "nothing in the answer names further pages", problems


Found = tuple[dict[str, Any], str, tuple[str, ...]]


def _by_next(beside: Mapping[Steps, Any]) -> Found | None:
    for steps, value in beside.items():
        is_url = isinstance(value, str) and re.match(r"https?://|/|\?", value)
        if _plain(steps[-1]) in _NEXTS | {"href"} and (is_url or value is None):
            if _plain(steps[-1]) == "href" and (len(steps) < 2 or _plain(steps[-2]) != "next"):  # noqa: PLR2004
                continue
            problems = (
                () if value else ("the first page is the last one: see whether `next` works",)
            )
            return (
                {"type": "next_url", "next": json_path(steps)},
                f"{json_path(steps)} holds the URL of the next page",
                problems,
            )
    return None


def _by_cursor(beside: Mapping[Steps, Any]) -> Found | None:
    for steps, value in beside.items():
        param = _CURSORS.get(_plain(steps[-1]))
        if param and isinstance(value, str) and value:
            doubt = f"the query parameter of the cursor is taken to be {param}"
            return (
                {"type": "cursor", "param": param, "next": json_path(steps)},
                f"{json_path(steps)} holds the cursor of the next page",
                (doubt,),
            )
    return None


def _by_page(beside: Mapping[Steps, Any]) -> Found | None:
    page = _named(beside, _PAGES, int)
    if page is None:
        return None
    options: dict[str, Any] = {"type": "page", "param": page[0][-1], "first": page[1]}
    if size := _named(beside, _SIZES, int):
        options |= {"size_param": size[0][-1], "size": size[1]}
    if pages := _named(beside, _PAGE_COUNTS, int):
        options["pages"] = json_path(pages[0])
    doubt = f"the query parameter of the page is taken to be {page[0][-1]}, as in the answer"
    return options, f"{json_path(page[0])} is the number of the page", (doubt,)


def _by_offset(beside: Mapping[Steps, Any]) -> Found | None:
    offset, limit = _named(beside, _OFFSETS, int), _named(beside, _SIZES, int)
    if offset is None or limit is None or limit[1] < 1:
        return None
    options = {"type": "offset", "param": offset[0][-1]}
    options |= {"limit_param": limit[0][-1], "limit": limit[1]}
    doubt = f"the query parameters are taken to be {offset[0][-1]} and {limit[0][-1]}"
    return (
        options,
        f"{json_path(offset[0])} and {json_path(limit[0])} say the place of the page",
        (doubt,),
    )


def _named(beside: Mapping[Steps, Any], names: set[str], kind: type) -> tuple[Steps, Any] | None:
    """The first member of one of these names with a value of a type that is no truth value."""
    for steps, value in beside.items():
        if _plain(steps[-1]) in names and isinstance(value, kind) and not isinstance(value, bool):
            return steps, value
    return None


def _scalars(value: Any, above: Steps) -> Iterator[tuple[Steps, Any]]:
    if isinstance(value, dict) and len(above) < _DEEPEST:
        for name, inner in value.items():
            if isinstance(inner, dict):
                yield from _scalars(inner, (*above, name))
            elif not isinstance(inner, list):
                yield (*above, name), inner


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def json_path(steps: Sequence[str]) -> str:
    """A JSONPath; '' of no steps."""
    parts = [
        f".{step}"
        if re.fullmatch(r"[A-Za-z_]\w*", step)
        else "['" + step.replace("'", "\\'") + "']"
        for step in steps
    ]
    return "$" + "".join(parts) if parts else ""


def member_source(steps: Sequence[str]) -> str:
    """A member of a record as a column's `from` has it."""
    is_plain = len(steps) == 1 and not steps[0].startswith(("$", "@", "{"))
    return steps[0] if is_plain else json_path(steps)
