"""How many rows the tables hold whose partitions do not say so."""

from collections.abc import Collection, Iterator

import psycopg
from psycopg import sql

from headrace.config.loading import Project
from headrace.project.connections import lake_of, postgres_url

# Kinds of relations that hold rows: tables, partitioned ones, materialised views.
_HOLD_ROWS = ["r", "p", "m"]


def rows_in_tables(project: Project, assets: Collection[str]) -> dict[str, int | None]:
    """Rows by asset, of the dimensions and marts among `assets`; None of a view.

    Args:
        project: The project.
        assets: Names such as `warehouse/dim_product`, `marts/mart_sales`.
    """
    whole = {*(dim.name for dim in project.star.dimensions), project.star.calendar.name}
    chosen = [tuple(asset.split("/", 1)) for asset in assets if asset.count("/") == 1]
    in_lake = [name for layer, name in chosen if layer == "curated" and name in whole]
    in_postgres = [
        (layer, name)
        for layer, name in chosen
        if layer == "marts" or (layer == "warehouse" and name in whole)
    ]
    found: dict[str, int | None] = dict(_lake_rows(project, in_lake))
    found |= {f"{layer}/{name}": None for layer, name in in_postgres}
    return found | dict(_postgres_rows(project, in_postgres))


def _lake_rows(project: Project, names: Collection[str]) -> Iterator[tuple[str, int]]:
    lake = lake_of(project) if names else None
    for name in names:
        table = lake.table("curated", name) if lake else None
        if table is not None and table.exists():
            yield f"curated/{name}", table.scan().total_rows


def _postgres_rows(
    project: Project, tables: Collection[tuple[str, str]]
) -> Iterator[tuple[str, int]]:
    if not tables:
        return
    with psycopg.connect(postgres_url(project, "warehouse"), autocommit=True) as connection:
        known = connection.execute(
            "select n.nspname, c.relname from pg_class as c"
            " inner join pg_namespace as n on c.relnamespace = n.oid where c.relkind = any(%s)",
            (_HOLD_ROWS,),
        ).fetchall()
        for layer, name in {*tables} & {(row[0], row[1]) for row in known}:
            counted = connection.execute(
                sql.SQL("select count(*) from {}").format(sql.Identifier(layer, name))
            ).fetchone()
            if counted is not None:
                yield f"{layer}/{name}", counted[0]
