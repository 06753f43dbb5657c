"""Views of the schema `bi`: created from SQL files; materialised views are refreshed after a load.

A file has one query and the name of the view. Comment lines at its head are the view's comment;
`-- materialized: month, department` makes it a materialised view with a unique index on these
columns, which REFRESH CONCURRENTLY requires.
"""

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import psycopg
import structlog
from psycopg import sql

from headrace.warehouse.sessions import Connect, Session, advisory_key, ensure_namespace

NAMESPACE = "bi"
_LOCK_TIMEOUT = "5s"
_MATERIALIZED = "materialized:"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,50}")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ViewDeclaration:
    """A view of the schema `bi`.

    Attributes:
        name: The name of the view, and of its file.
        description: The comment of the view.
        query: One SELECT statement.
        unique: Columns of a materialised view's unique index; empty for an ordinary view.
    """

    name: str
    description: str
    query: str
    unique: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """A hash of the declaration."""
        parts = "\n".join([self.name, self.description, self.query, *self.unique])
        return hashlib.sha256(parts.encode()).hexdigest()[:12]


def read_views(folder: Path) -> list[ViewDeclaration]:
    """The views of a folder, by name; none if the folder does not exist."""
    return [_parsed(path) for path in sorted(folder.glob("*.sql")) if _NAME.fullmatch(path.stem)]


def refresh(
    connect: Connect,
    folder: Path,
    changed: Collection[str],
    declared: Collection[ViewDeclaration] = (),
) -> list[str]:
    """Create views that are new or changed, then refresh the materialised views.

    An error is logged and leaves the view unchanged: the load is published already.

    Args:
        connect: Opens sessions with the warehouse.
        folder: Has one SQL file per view.
        changed: Namespaces with changed tables: only views that read them are refreshed.
        declared: Views without a file; a file of the same name takes precedence.

    Returns:
        The refreshed materialised views, as namespace.name.
    """
    with connect() as session:
        key = advisory_key("views", NAMESPACE)
        session.execute("select pg_advisory_lock(%s)", (key,))
        session.execute(sql.SQL("set lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT)))
        every = {view.name: view for view in (*declared, *read_views(folder))}
        _create_changed(session, every.values())
        found = _to_refresh(session, changed)
        return [".".join(name) for name in found if _refresh(session, *name)]


def _parsed(path: Path) -> ViewDeclaration:
    """The declaration in a file; its head is the comment lines before the query."""
    lines = path.read_text(encoding="utf-8").splitlines()
    head = []
    while lines and (lines[0].startswith("--") or not lines[0].strip()):
        head.append(lines.pop(0).removeprefix("--").strip())
    unique: tuple[str, ...] = ()
    for line in [line for line in head if line.startswith(_MATERIALIZED)]:
        head.remove(line)
        unique = tuple(c.strip() for c in line.removeprefix(_MATERIALIZED).split(","))
    query = "\n".join(lines).strip().removesuffix(";")
    return ViewDeclaration(path.stem, " ".join(filter(None, head)), query, unique)


def _create_changed(session: Session, views: Collection[ViewDeclaration]) -> None:
    existing = _fingerprints(session)
    for view in views:
        if existing.get(view.name) == view.fingerprint:
            continue
        try:
            with session.transaction():
                ensure_namespace(session, NAMESPACE)
                _replace(session, view)
            log.info("view_created", view=f"{NAMESPACE}.{view.name}")
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            # Before the first load of the marts or the star; each load tries again.
            log.info("view_postponed", view=f"{NAMESPACE}.{view.name}")
        except psycopg.Error as error:
            why = (error.diag.message_primary or type(error).__name__).split("\n")[0]
            log.warning("view_not_created", view=f"{NAMESPACE}.{view.name}", error=why)


def _fingerprints(session: Session) -> dict[str, str]:
    """The fingerprint of each view, from the end of its comment."""
    found = session.execute(
        """
        select c.relname::text, right(obj_description(c.oid, 'pg_class'), 13)
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = %s and c.relkind in ('v', 'm')
        """,
        (NAMESPACE,),
    ).fetchall()
    return {name: (comment or "").strip(" )") for name, comment in found}


def _replace(session: Session, view: ViewDeclaration) -> None:
    name = sql.Identifier(NAMESPACE, view.name)
    kind = session.execute(
        "select relkind::text from pg_class where oid = to_regclass(%s)", (name.as_string(),)
    ).fetchone()
    if kind:
        # Not CREATE OR REPLACE, which allows new columns at the end only.
        drop = "drop materialized view {}" if kind[0] == "m" else "drop view {}"
        session.execute(sql.SQL(drop).format(name))
    query = sql.SQL(view.query)  # trusted: a file of the project
    if view.unique:
        session.execute(sql.SQL("create materialized view {} as {}").format(name, query))
        columns = sql.SQL(", ").join(map(sql.Identifier, view.unique))
        index = sql.Identifier(f"{view.name}__key")
        session.execute(sql.SQL("create unique index {} on {} ({})").format(index, name, columns))
    else:
        # With the privileges of the reader: row-level security applies through the view.
        options = "create view {} with (security_invoker = true) as {}"
        session.execute(sql.SQL(options).format(name, query))
    comment = f"{view.description} (version {view.fingerprint})".strip()
    what = "materialized view" if view.unique else "view"
    session.execute(
        sql.SQL("comment on {} {} is {}").format(sql.SQL(what), name, sql.Literal(comment))
    )


def _to_refresh(session: Session, changed: Collection[str]) -> list[tuple[str, str]]:
    """Materialised views with a unique index that read a changed namespace, also indirectly."""
    found = session.execute(
        """
        with recursive reads as (
            select r.ev_class as view, d.refobjid as source
            from pg_rewrite as r
            join pg_depend as d on d.objid = r.oid and d.classid = 'pg_rewrite'::regclass
            where d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class
        ), closure as (
            select view, source from reads
            union
            select c.view, r.source from closure as c join reads as r on r.view = c.source
        )
        select n.nspname::text, c.relname::text
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where c.relkind = 'm'
            and exists (
                select from closure as k
                join pg_class as s on s.oid = k.source
                join pg_namespace as sn on sn.oid = s.relnamespace
                where k.view = c.oid and sn.nspname = any(%s)
            )
            and exists (select from pg_index as i where i.indrelid = c.oid and i.indisunique
                and i.indpred is null and i.indexprs is null)
        order by 1, 2
        """,
        ([*changed],),
    ).fetchall()
    return [(namespace, name) for namespace, name in found]


def _refresh(session: Session, namespace: str, name: str) -> bool:
    try:
        session.execute(
            sql.SQL("refresh materialized view concurrently {}").format(
                sql.Identifier(namespace, name)
            )
        )
    except psycopg.Error as error:
        log.warning("view_not_refreshed", view=f"{namespace}.{name}", error=type(error).__name__)
        return False
    return True
