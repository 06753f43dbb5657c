"""Connections that the configuration names: their URLs are read from the environment at use."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import stamina

from headrace.config.loader import Project, home_folder, resolve_secret
from headrace.config.settings import ConnectionSettings, DemoConnection, Settings
from headrace.config.sources.rest_connection import RestConnection
from headrace.errors import ConfigError, SourceUnavailableError

Result = TypeVar("Result")

_ATTEMPTS = 3


@dataclass(frozen=True)
class Connection:
    """A named connection. Its text has no URL, and neither may errors or logs.

    Attributes:
        name: Its name in `connections`.
        variable: The environment variable that holds the URL, for remedies.
        url: Reads the URL; raises ConfigError if the variable is not set.
        statement_timeout: A statement that takes longer is cancelled.
        sessions: How many sessions read an entity at a time.
    """

    name: str
    variable: str
    url: Callable[[], str] = field(repr=False, compare=False)
    statement_timeout: timedelta = timedelta(hours=1)
    sessions: int = 2


def connection_of(project: Project, name: str) -> Connection:
    """The connection called `name` in `connections` of a project.

    Raises:
        ConfigError: There is none.
    """
    return named_connection(project.settings, name, project.home)


def named_connection(found: Settings, name: str, home: Path | None = None) -> Connection:
    """The database called `name` in `connections`.

    Args:
        found: The settings.
        name: Its name.
        home: Where servers of the demo are; by default HEADRACE_HOME.

    Raises:
        ConfigError: There is none.
    """
    settings = found.connections.get(name)
    if isinstance(settings, DemoConnection) and settings.is_database:
        return Connection(name, "the demo", lambda: demo_url(home, settings.server))
    if not isinstance(settings, ConnectionSettings):
        raise ConfigError(
            f"there is no database connection '{name}'",
            fix="declare it under `connections` in base.yaml",
        )
    return Connection(
        name,
        settings.url.env,
        lambda: resolve_secret(settings.url),
        timedelta(seconds=settings.statement_timeout_seconds),
        settings.sessions,
    )


def named_api(found: Settings, name: str, home: Path | None = None) -> RestConnection | None:
    """The API called `name` in `connections`; None if there is none. One of the demo starts.

    Raises:
        ConfigError: It is one of the demo, which is not staged.
        SourceUnavailableError: It is one of the demo, which does not start.
    """
    settings = found.connections.get(name)
    if isinstance(settings, DemoConnection) and not settings.is_database:
        return RestConnection(kind="rest", url=demo_url(home, settings.server))
    return settings if isinstance(settings, RestConnection) else None


def demo_url(home: Path | None, server: str) -> str:
    """The URL of a server of the demo, which is started if it does not run."""
    # The demo imports this package.
    url: str = import_module("demo.servers").url_of(home or home_folder(), server)
    return url


def retried(act: Callable[[], Result]) -> Result:
    """Act up to three times while the source is unavailable, after 1 s, then 2 s, with jitter."""
    for attempt in stamina.retry_context(
        on=SourceUnavailableError, attempts=_ATTEMPTS, wait_initial=1.0, wait_max=60.0
    ):
        with attempt:
            return act()
    raise AssertionError("a retry context returns or raises")
