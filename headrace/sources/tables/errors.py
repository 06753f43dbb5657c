"""Errors of databases, in our own words: a driver's text may quote the URL or a row."""

from headrace.errors import ConfigError, SourceRejectedError, SourceUnavailableError
from headrace.sources.connections import Connection


def timed_out(label: str) -> SourceUnavailableError:
    """A statement that reads `label` was cancelled."""
    return SourceUnavailableError(
        f"{label}: the statement was cancelled, or took longer than statement_timeout_seconds",
        fix="index what it selects by, or raise statement_timeout_seconds of the connection",
    )


def broken_off(label: str, why: str) -> SourceUnavailableError:
    """A statement that reads `label` ended, and may succeed later."""
    return SourceUnavailableError(
        f"{label}: the server broke off: {why}", fix="run it again when the server answers"
    )


def unreachable(connection: Connection, why: str) -> SourceUnavailableError:
    """No session was opened, and a later attempt may succeed."""
    return SourceUnavailableError(
        f"connection '{connection.name}': {why}",
        fix=f"check that the server runs, and host and port of the URL in {connection.variable}",
    )


def refused(connection: Connection, why: str) -> SourceRejectedError:
    """The server lets the user of the URL open no session."""
    return SourceRejectedError(
        f"connection '{connection.name}': {why}", fix=f"correct the URL in {connection.variable}"
    )


def wrong_url(connection: Connection, what: str, fix: str) -> ConfigError:
    """The URL cannot be used as it is."""
    return ConfigError(
        f"connection '{connection.name}': the URL in {connection.variable} {what}", fix=fix
    )
