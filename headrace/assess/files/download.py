"""Downloads the file of an http(s) URL, to be assessed as a file."""

import logging
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx2

from headrace.errors import ConfigError, SourceRejectedError, SourceUnavailableError

_LARGEST_BYTES = 2**30
_TIMEOUT_SECONDS = 30.0
_MOST_REDIRECTS = 5
# At INFO httpx2 logs URLs, at DEBUG httpcore2 headers.
_WIRE_LOGS = ("httpx2", "httpcore2")
_TRANSIENT = {408, 425, 429}
_FIRST_OF_SERVER = 500


def is_url(target: str) -> bool:
    """Whether a target is the URL of a file."""
    return target.lower().startswith(("http://", "https://"))


def shown_url(url: str) -> str:
    """A URL without what may be secret in it: user, password and parameters."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError("this is no URL", fix="write https://host/path/file.csv") from None
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def file_name(url: str) -> str:
    """The name of a URL's file; `download` if it has none."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    return re.sub(r"[^\w. -]+", "_", name).strip(". ") or "download"


def download(url: str, folder: Path) -> Path:
    """Write the file of a URL into a folder, at most 1 GiB.

    Raises:
        ConfigError: The URL is none.
        SourceRejectedError: The server refuses, or the file is too large.
        SourceUnavailableError: The server does not answer, or breaks off.
    """
    for name in _WIRE_LOGS:
        logging.getLogger(name).setLevel(logging.WARNING)
    shown = shown_url(url)
    path = folder / file_name(url)
    try:
        with (
            httpx2.Client(
                follow_redirects=True, timeout=_TIMEOUT_SECONDS, max_redirects=_MOST_REDIRECTS
            ) as client,
            client.stream("GET", url) as response,
        ):
            _require_success(response.status_code, shown)
            size = 0
            with path.open("wb") as target:
                for chunk in response.iter_bytes():
                    size += len(chunk)
                    if size > _LARGEST_BYTES:
                        raise SourceRejectedError(
                            f"{shown}: the file has more than {_LARGEST_BYTES:,} bytes",
                            fix="download it, and assess the local file",
                        )
                    target.write(chunk)
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol):
        # Its text quotes the URL.
        raise ConfigError(f"{shown}: is no URL", fix="write https://host/path/file.csv") from None
    except httpx2.TooManyRedirects:
        raise SourceRejectedError(
            f"{shown}: redirects more than {_MOST_REDIRECTS} times", fix="give the last URL"
        ) from None
    except httpx2.HTTPError as error:
        raise SourceUnavailableError(
            f"{shown}: the server cannot be reached, or broke off ({type(error).__name__})",
            fix="check host and port, and try again",
        ) from None
    return path


def _require_success(status: int, shown: str) -> None:
    if status in _TRANSIENT or status >= _FIRST_OF_SERVER:
        raise SourceUnavailableError(f"{shown}: HTTP status {status}", fix="try again later")
    if status != httpx2.codes.OK:
        raise SourceRejectedError(
            f"{shown}: HTTP status {status}",
            fix="open the URL in a browser; for an API declare a connection: "
            "docs/how-to/read-a-rest-api.md",
        )
