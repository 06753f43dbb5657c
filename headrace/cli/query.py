"""Queries on the warehouse from the command line.

Belongs here: running one statement and fetching its rows.
Elsewhere: printing them (headrace.cli.output).
"""

from dataclasses import dataclass
from typing import Any

import psycopg

from headrace.config.loading import load_project
from headrace.connections import postgres_url
from headrace.errors import PermanentError


@dataclass(frozen=True)
class Rows:
    """A result: column names and rows in the order of the query."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


class QueryError(PermanentError):
    """Postgres refused the statement."""

    exit_code = 2


def run_query(query: str) -> Rows:
    """Run one statement on the warehouse.

    Raises:
        QueryError: Postgres refused it.
    """
    with psycopg.connect(postgres_url(load_project(), "warehouse"), autocommit=True) as connection:
        try:
            cursor = connection.execute(query)  # the user's own SQL
        except psycopg.Error as error:
            what = error.diag.message_primary or type(error).__name__
            raise QueryError(
                what, fix="schemas are warehouse, marts and platform; \\d works in psql"
            ) from None
        if cursor.description is None:
            return Rows((), ())
        return Rows(tuple(c.name for c in cursor.description), tuple(cursor.fetchall()))
