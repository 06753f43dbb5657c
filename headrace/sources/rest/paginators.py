"""The pages of a list: what follows a page, and whether all of them came."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx2

from headrace.config.rest_source import (
    CursorPagination,
    LinkPagination,
    NextUrlPagination,
    NoPagination,
    OffsetPagination,
    PagePagination,
    Pagination,
)
from headrace.errors import SourceRejectedError, SourceUnavailableError
from headrace.sources.rest.client import Page, RestClient
from headrace.sources.rest.json_paths import MISSING, members, single_path


@dataclass(frozen=True)
class RecordPage:
    """A page and the records in it."""

    page: Page
    records: list[Any]


@dataclass
class _Progress:
    """What was read so far, the last page included."""

    pages: int = 0
    records: int = 0
    total: int | None = None


def read_pages(
    client: RestClient,
    url: httpx2.URL,
    pagination: Pagination,
    select: Callable[[Page], list[Any]],
) -> Iterator[RecordPage]:
    """All pages of the list at a URL, in order, one at a time.

    Args:
        client: Gets the pages.
        url: The list, without parameters of pages.
        pagination: How pages follow.
        select: The records of a page; raises where it has no list of them.

    Raises:
        SourceRejectedError: A page comes twice, a cursor repeats, or the records are not as many
            as the answers say.
        SourceUnavailableError: The list changed while it was read, or the server fails.
    """
    paginator = _PAGINATORS[pagination.type](client, url, pagination)
    progress, seen, shown = _Progress(), set[bytes](), _shown_params(url, pagination)
    following: httpx2.URL | None = paginator.first()
    while following is not None:
        page = client.get(following, shown)
        records = select(page)
        _refuse_repetition(page, records, seen)
        progress.pages += 1
        progress.records += len(records)
        progress.total = _total(page, pagination, progress)
        yield RecordPage(page, records)
        following = paginator.after(page, records, progress)
    if progress.total is not None and progress.records != progress.total:
        raise SourceRejectedError(
            f"{page.url}: the pages hold {progress.records} records, and pagination.total says "
            f"{progress.total}",
            fix="correct pagination (its parameters, total and records); if rows were added or "
            "deleted meanwhile, run it again",
        )


class _Paginator(Protocol):
    def first(self) -> httpx2.URL: ...

    def after(self, page: Page, records: list[Any], progress: _Progress) -> httpx2.URL | None: ...


@dataclass
class _One:
    client: RestClient
    url: httpx2.URL
    pagination: NoPagination

    def first(self) -> httpx2.URL:
        return self.url

    def after(
        self,
        page: Page,
        records: list[Any],  # noqa: ARG002
        progress: _Progress,  # noqa: ARG002
    ) -> httpx2.URL | None:
        if _link(page) is not None:
            raise SourceRejectedError(
                f"{page.url} has a header Link with a next page, and pagination says that there is "
                "none",
                fix="declare pagination: {type: link}",
            )
        return None


@dataclass
class _ByPage:
    client: RestClient
    url: httpx2.URL
    pagination: PagePagination

    def first(self) -> httpx2.URL:
        return self._url(0)

    def after(self, page: Page, records: list[Any], progress: _Progress) -> httpx2.URL | None:
        path = self.pagination.pages
        if path is not None:
            return self._url(progress.pages) if progress.pages < _count(page, path) else None
        return _unless_at_end(self._url(progress.pages), records, progress)

    def _url(self, number: int) -> httpx2.URL:
        declared = self.pagination
        url = self.url.copy_set_param(declared.param, declared.first + number)
        size = declared.size_param
        return url if size is None else url.copy_set_param(size, declared.size)


@dataclass
class _ByOffset:
    client: RestClient
    url: httpx2.URL
    pagination: OffsetPagination

    def first(self) -> httpx2.URL:
        return self._url(0)

    def after(self, page: Page, records: list[Any], progress: _Progress) -> httpx2.URL | None:  # noqa: ARG002
        # By the records that came: a server may give fewer than `limit` in each page.
        return _unless_at_end(self._url(progress.records), records, progress)

    def _url(self, offset: int) -> httpx2.URL:
        declared = self.pagination
        url = self.url.copy_set_param(declared.limit_param, declared.limit)
        return url.copy_set_param(declared.param, offset)


@dataclass
class _ByCursor:
    client: RestClient
    url: httpx2.URL
    pagination: CursorPagination
    _seen: set[str] = field(default_factory=set)

    def first(self) -> httpx2.URL:
        return self.url

    def after(
        self,
        page: Page,
        records: list[Any],  # noqa: ARG002
        progress: _Progress,  # noqa: ARG002
    ) -> httpx2.URL | None:
        cursor = _next(page, self.pagination)
        if cursor is None:
            return None
        _refuse_loop(page, cursor, self._seen)
        return self.url.copy_set_param(self.pagination.param, cursor)


@dataclass
class _ByNextUrl:
    client: RestClient
    url: httpx2.URL
    pagination: NextUrlPagination | LinkPagination
    _seen: set[str] = field(default_factory=set)

    def first(self) -> httpx2.URL:
        return self.url

    def after(
        self,
        page: Page,
        records: list[Any],  # noqa: ARG002
        progress: _Progress,  # noqa: ARG002
    ) -> httpx2.URL | None:
        if isinstance(self.pagination, LinkPagination):
            reference = _link(page)
        else:
            reference = _next(page, self.pagination)
        if reference is None:
            return None
        url = self.client.following(page, reference)
        self._seen.add(str(page.asked))
        _refuse_loop(page, str(url), self._seen)
        return url


_PAGINATORS: dict[str, Callable[[RestClient, httpx2.URL, Any], _Paginator]] = {
    "none": _One,
    "page": _ByPage,
    "offset": _ByOffset,
    "cursor": _ByCursor,
    "next_url": _ByNextUrl,
    "link": _ByNextUrl,
}


def _shown_params(url: httpx2.URL, pagination: Pagination) -> frozenset[str]:
    """Parameters that the configuration gives; cursors may hold data, and next URLs secrets."""
    of_pages: tuple[str | None, ...] = ()
    if isinstance(pagination, PagePagination):
        of_pages = (pagination.param, pagination.size_param)
    elif isinstance(pagination, OffsetPagination):
        of_pages = (pagination.param, pagination.limit_param)
    return frozenset([*url.params, *filter(None, of_pages)])


def _unless_at_end(url: httpx2.URL, records: list[Any], progress: _Progress) -> httpx2.URL | None:
    """The URL unless all records have come; a short page is no end, since servers cap the size."""
    if not records:
        return None
    return None if progress.total is not None and progress.records >= progress.total else url


def _total(page: Page, pagination: Pagination, progress: _Progress) -> int | None:
    if pagination.total is None:
        return None
    total = _count(page, pagination.total)
    if progress.total is not None and total != progress.total:
        raise SourceUnavailableError(
            f"{page.url}: the list had {progress.total} records and has {total} now: it changed "
            "while it was read, and rows may be missing or come twice",
            fix="run it again; of a list that always changes, capture windows that have passed",
        )
    return total


def _count(page: Page, path: str) -> int:
    found = single_path(path).value(page.document)
    text = str(found) if isinstance(found, str | int) and not isinstance(found, bool) else ""
    if not text.isascii() or not text.isdigit():
        what = "nothing" if found is MISSING else members(found)
        raise SourceRejectedError(
            f"{page.url}: {path} must be a count and is {what}; the answer is "
            f"{members(page.document)}",
            fix="correct pagination.total or pages, or leave it out",
        )
    return int(text)


def _next(page: Page, pagination: CursorPagination | NextUrlPagination) -> str | None:
    """The cursor or URL of the next page; None after the last."""
    found = single_path(pagination.next).value(page.document)
    if found is MISSING and pagination.last_page == "empty":
        raise SourceRejectedError(
            f"{page.url}: there is no {pagination.next}; the answer is {members(page.document)}",
            fix="correct pagination.next, or declare last_page: absent if the last page lacks it",
        )
    if found is MISSING or found is None or found == "":
        return None
    if not isinstance(found, str | int) or isinstance(found, bool):
        raise SourceRejectedError(
            f"{page.url}: {pagination.next} must be a text or a number and is {members(found)}",
            fix="correct pagination.next",
        )
    return str(found)


def _link(page: Page) -> str | None:
    """The target of the header `Link` with `rel=next`."""
    links = httpx2.Response(200, headers=page.headers).links
    return links.get("next", {}).get("url")


def _refuse_loop(page: Page, reference: str, seen: set[str]) -> None:
    if reference in seen:
        raise SourceRejectedError(
            f"{page.url} leads to a page that was read already: its pages never end",
            fix="correct pagination (the cursor's parameter), or have the API mended",
        )
    seen.add(reference)


def _refuse_repetition(page: Page, records: list[Any], seen: set[bytes]) -> None:
    if not records:
        return
    digest = hashlib.blake2b(repr(records).encode(errors="replace"), digest_size=16).digest()
    if digest in seen:
        raise SourceRejectedError(
            f"{page.url} has exactly the records of a page before it",
            fix="correct pagination: most often the API ignores its parameter and gives the first "
            "page again",
        )
    seen.add(digest)
