"""The pages of a list: what follows a page, and whether all of them came."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from headrace.config.sources.rest_source import (
    CursorPagination,
    LinkPagination,
    NextUrlPagination,
    OffsetPagination,
    PagePagination,
    Pagination,
)
from headrace.errors import SourceRejectedError, SourceUnavailableError
from headrace.sources.documents.json_paths import MISSING, members, single_path
from headrace.sources.rest.client import Page, ReadAhead, RestClient
from headrace.sources.rest.http_session import ReplyOptions


@dataclass(frozen=True)
class RecordPage:
    """A page and the records in it.

    Attributes:
        values: What columns with `from: "{name}"` hold in all of its rows.
    """

    page: Page
    records: list[Any]
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Progress:
    """What was read so far, the last page included.

    Attributes:
        pages: Pages read.
        records: Records in them.
        last: Records in the last one.
        total: As the last one says it.
        contents: Digests of the pages' records.
        visited: Cursors and URLs of pages read.
    """

    pages: int = 0
    records: int = 0
    last: int = 0
    total: int | None = None
    contents: set[bytes] = field(default_factory=set)
    visited: set[str] = field(default_factory=set)

    @property
    def is_at_end(self) -> bool:
        """Whether all records have come; a short page is no end, since servers cap the size."""
        return not self.last or (self.total is not None and self.records >= self.total)

    def add(self, page: Page, records: list[Any], pagination: Pagination) -> None:
        """Count a page.

        Raises:
            SourceRejectedError: It came before, or its total is no count.
            SourceUnavailableError: The total changed.
        """
        if records:
            content = repr(records).encode(errors="replace")
            digest = hashlib.blake2b(content, digest_size=16).digest()
            if digest in self.contents:
                raise SourceRejectedError(
                    f"{page.url} has exactly the records of a page before it",
                    fix="correct pagination: most often the API ignores its parameter and gives "
                    "the first page again",
                )
            self.contents.add(digest)
        self.pages += 1
        self.last = len(records)
        self.records += self.last
        if pagination.total is None:
            return
        total = _count(page, pagination.total)
        if self.total is not None and total != self.total:
            raise SourceUnavailableError(
                f"{page.url}: the list had {self.total} records and has {total} now: it changed "
                "while it was read, and rows may be missing or come twice",
                fix="run it again; of a list that always changes, capture windows that have passed",
            )
        self.total = total

    def follow(self, page: Page, reference: str) -> None:
        """Go on to a cursor or URL.

        Raises:
            SourceRejectedError: That page was read already.
        """
        if reference in self.visited:
            raise SourceRejectedError(
                f"{page.url} leads to a page that was read already: its pages never end",
                fix="correct pagination (the cursor's parameter), or have the API mended",
            )
        self.visited.add(reference)


@dataclass(frozen=True)
class RecordList:
    """A list of an API.

    Attributes:
        url: Without parameters of pages.
        values: See RecordPage.
    """

    url: httpx2.URL
    values: Mapping[str, str] = field(default_factory=dict)


def read_lists(
    client: RestClient,
    lists: Sequence[RecordList],
    pagination: Pagination,
    select: Callable[[Page], list[Any]],
    empty_statuses: Collection[int] = (),
) -> Iterator[RecordPage]:
    """All pages of some lists, in order; the memory is that of `limits.parallel` pages.

    Args:
        client: Gets the pages.
        lists: At least one; of all, the parameters have the same names.
        pagination: How pages follow.
        select: The records of a page; raises where it has no list of them.
        empty_statuses: Statuses of an answer that ends a list, or that it has no records.

    Raises:
        SourceRejectedError: A page comes twice, a cursor repeats, or the records are not as many
            as the answers say.
        SourceUnavailableError: The list changed while it was read, or the server fails.
    """
    kind = _PAGINATORS[pagination.type]
    paginators = [kind(client, one.url, pagination) for one in lists]
    firsts = [paginator.first() for paginator in paginators]
    options = ReplyOptions(_shown_params(lists[0].url, pagination), empty_statuses)
    with ReadAhead(client, options) as ahead:
        for number, (one, paginator) in enumerate(zip(lists, paginators, strict=True), start=1):
            following: httpx2.URL | None = firsts[number - 1]
            while following is not None:
                page = ahead.get(following)
                if page.is_empty:
                    break
                records = select(page)
                paginator.progress.add(page, records, pagination)
                following = paginator.after(page)
                nexts = [] if following is None else [following, *paginator.predicted()]
                ahead.expect([*nexts, *firsts[number:]])
                yield RecordPage(page, records, one.values)
            _require_total(page, paginator.progress)


def _require_total(last: Page, progress: _Progress) -> None:
    if progress.total is not None and progress.records != progress.total:
        raise SourceRejectedError(
            f"{last.url}: the pages hold {progress.records} records, and pagination.total says "
            f"{progress.total}",
            fix="correct pagination (its parameters, total and records); if rows were added or "
            "deleted meanwhile, run it again",
        )


class _Paginator(ABC):
    def __init__(self, client: RestClient, url: httpx2.URL, pagination: Any) -> None:
        self.client, self.url, self.pagination = client, url, pagination
        self.progress = _Progress()

    def first(self) -> httpx2.URL:
        return self.url

    @abstractmethod
    def after(self, page: Page) -> httpx2.URL | None:
        """What follows a page, which `progress` includes; None after the last."""

    def predicted(self) -> list[httpx2.URL]:
        """What will most likely come after that: pages are as long as the last one."""
        return []

    def _starts(self) -> range:
        """Records before each of these pages; empty if nobody says how many there are."""
        read, size, total = self.progress.records, self.progress.last, self.progress.total
        most = self.client.connection.limits.parallel
        return range(read + size, min(total or 0, read + size * most), size) if size else range(0)


class _One(_Paginator):
    def after(self, page: Page) -> httpx2.URL | None:
        if _link(page) is not None:
            raise SourceRejectedError(
                f"{page.url} has a header Link with a next page, and pagination says that there is "
                "none",
                fix="declare pagination: {type: link}",
            )
        return None


class _ByPage(_Paginator):
    pagination: PagePagination

    def first(self) -> httpx2.URL:
        return self._url(0)

    def after(self, page: Page) -> httpx2.URL | None:
        path, read = self.pagination.pages, self.progress.pages
        if path is None:
            return None if self.progress.is_at_end else self._url(read)
        return self._url(read) if read < _count(page, path) else None

    def predicted(self) -> list[httpx2.URL]:
        return [self._url(self.progress.pages + n) for n, _ in enumerate(self._starts(), start=1)]

    def _url(self, number: int) -> httpx2.URL:
        declared = self.pagination
        url = self.url.copy_set_param(declared.param, declared.first + number)
        size = declared.size_param
        return url if size is None else url.copy_set_param(size, declared.size)


class _ByOffset(_Paginator):
    pagination: OffsetPagination

    def first(self) -> httpx2.URL:
        return self._url(0)

    def after(self, page: Page) -> httpx2.URL | None:  # noqa: ARG002  # records say all
        # By the records that came: a server may give fewer than `limit` in each page.
        return None if self.progress.is_at_end else self._url(self.progress.records)

    def predicted(self) -> list[httpx2.URL]:
        return [self._url(start) for start in self._starts()]

    def _url(self, offset: int) -> httpx2.URL:
        declared = self.pagination
        url = self.url.copy_set_param(declared.limit_param, declared.limit)
        return url.copy_set_param(declared.param, offset)


class _ByCursor(_Paginator):
    pagination: CursorPagination

    def after(self, page: Page) -> httpx2.URL | None:
        cursor = _next(page, self.pagination)
        if cursor is None:
            return None
        self.progress.follow(page, cursor)
        return self.url.copy_set_param(self.pagination.param, cursor)


class _ByNextUrl(_Paginator):
    pagination: NextUrlPagination | LinkPagination

    def after(self, page: Page) -> httpx2.URL | None:
        if isinstance(self.pagination, LinkPagination):
            reference = _link(page)
        else:
            reference = _next(page, self.pagination)
        if reference is None:
            return None
        url = self.client.following(page, reference)
        self.progress.visited.add(str(page.asked))
        self.progress.follow(page, str(url))
        return url


_PAGINATORS: dict[str, type[_Paginator]] = {
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
