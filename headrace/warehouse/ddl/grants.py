"""Readers of the warehouse: what a role may see, down to rows.

A role with rules sees the facts whose member it may see: policies on the dimension and, through
the key, on every fact that points to it. It is granted the facts themselves and never their months,
and neither marts nor materialised views: policies do not reach these. Tables made later are granted
to other readers by default privileges. Those would show a role with rules every row of a table that
has no policy yet: it gets both at once, after the load that made the table (`grant_new_tables`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from headrace.warehouse.identifiers import policy_name
from headrace.warehouse.sessions import Connect, Session, advisory_key, ensure_namespace, map_errors

NAMESPACES = ("warehouse", "marts", "bi")
_EVERYBODY = "headrace of everybody"


@dataclass(frozen=True)
class RowPolicy:
    """Rows that a role may see: members whose column has one of the values, and their facts.

    Attributes:
        dimension: Namespace and name.
        key: The dimension's primary key.
        column: Column of the dimension.
        values: As text.
        facts: Namespace and name of every fact that points to the dimension, and by which columns.
    """

    dimension: tuple[str, str]
    key: str
    column: str
    values: tuple[str, ...]
    facts: Mapping[tuple[str, str], tuple[str, ...]]

    def members(self) -> sql.Composed:
        """Condition on the dimension's rows."""
        return sql.SQL("{} = any ({})").format(
            sql.Identifier(self.column), sql.Literal(list(self.values))
        )

    def facts_of(self, columns: Sequence[str]) -> sql.Composed:
        """Condition on rows of a fact; the members are looked up once a query, then the index."""
        one = sql.SQL("{column} = any (array(select {key} from {dimension} where {members}))")
        conditions = [
            one.format(
                column=sql.Identifier(column),
                key=sql.Identifier(self.key),
                dimension=sql.Identifier(*self.dimension),
                members=self.members(),
            )
            for column in columns
        ]
        return sql.SQL(" and ").join(conditions)


@dataclass(frozen=True)
class RoleAccess:
    """What a role may see that does not see everything.

    Attributes:
        rules: Each narrows it further.
        tables: Namespace and name of the tables it reads: dimensions, and facts that every rule
            limits.
    """

    rules: tuple[RowPolicy, ...]
    tables: tuple[tuple[str, str], ...]


def grant(connect: Connect, role: str, limits: RoleAccess | None = None) -> list[str]:
    """Let a role read; what it was granted before and no longer should, it loses. All or nothing.

    The role is made if need be, able to log in but without a password. Running it again changes
    nothing. RoleAccess count for the members of the role, too.

    Args:
        connect: Opens sessions as the owner of the tables.
        role: The role.
        limits: Without, it sees all rows of all tables, those made later included.

    Returns:
        The statements that were run.
    """
    with map_errors(f"granting {role}"), connect() as session, session.transaction():
        session.execute("select pg_advisory_xact_lock(%s)", (advisory_key("access", "roles"),))
        done = []
        for statement in _statements(session, role, limits):
            session.execute(statement)
            done.append(statement.as_string(session))
        return done


def grant_new_tables(connect: Connect, limits: Mapping[str, RoleAccess]) -> list[str]:
    """Grant roles with rules what was made since they were granted; which roles got something.

    A role that `grant` never saw gets nothing.

    Args:
        connect: Opens sessions as the owner of the tables.
        limits: By role.
    """
    if not limits:
        return []
    with map_errors("looking for tables that roles lack"), connect() as session:
        behind = [role for role, some in limits.items() if _lacks_tables(session, role, some)]
    for role in behind:
        grant(connect, role, limits[role])
    return behind


def _lacks_tables(session: Session, role: str, limits: RoleAccess) -> bool:
    """Whether a role that was granted once cannot read what is there for it."""
    namespaces = sorted({namespace for namespace, _ in limits.tables})
    known = session.execute(
        "select true from pg_roles as r, pg_namespace as n"
        " where r.rolname = %s and n.nspname = any(%s)"
        " and has_schema_privilege(r.oid, n.oid, 'usage')",
        (role, namespaces),
    ).fetchone()
    tables = [table for table in limits.tables if _is_there(session, table)]
    tables += _views_that_follow_policies(session)
    names = [sql.Identifier(*table).as_string() for table in tables]
    if known is None or not names:
        return False
    lacking = session.execute(
        "select true from unnest(%s::text[]) as t (name)"
        " where not has_table_privilege(%s, t.name::regclass, 'select')",
        (names, role),
    ).fetchone()
    return lacking is not None


def _statements(session: Session, role: str, limits: RoleAccess | None) -> Iterator[sql.Composed]:
    name = sql.Identifier(role)
    if not session.execute("select true from pg_roles where rolname = %s", (role,)).fetchone():
        yield sql.SQL("create role {} login").format(name)
    database = sql.Identifier(session.info.dbname)
    yield sql.SQL("grant connect on database {} to {}").format(database, name)
    # Made here if no load did yet: what it brings is the role's by default privileges.
    namespaces = [sql.Identifier(namespace) for namespace in NAMESPACES]
    for namespace in NAMESPACES:
        ensure_namespace(session, namespace)
    yield from (sql.SQL(each).format(one, name) for one in namespaces for each in _REVOKED)
    yield from _without_policies(session, role)
    if limits is None:
        yield from (
            sql.SQL(each).format(schema, name) for schema in namespaces for each in _GRANTED
        )
    else:
        yield from _limited(session, role, limits)


def _limited(session: Session, role: str, limits: RoleAccess) -> Iterator[sql.Composed]:
    name = sql.Identifier(role)
    tables = [table for table in limits.tables if _is_there(session, table)]
    tables += _views_that_follow_policies(session)
    # Before the first load, too: by this a role is known that waits for its tables.
    for schema in sorted({namespace for namespace, _ in (*limits.tables, *tables)}):
        yield sql.SQL("grant usage on schema {} to {}").format(sql.Identifier(schema), name)
    for table in tables:
        yield sql.SQL("grant select on {} to {}").format(sql.Identifier(*table), name)
    yield from _policies(session, role, limits)


_REVOKED: tuple[LiteralString, ...] = (
    "revoke all on all tables in schema {} from {}",
    "revoke all on schema {} from {}",
    "alter default privileges in schema {} revoke all on tables from {}",
)
_GRANTED: tuple[LiteralString, ...] = (
    "grant usage on schema {} to {}",
    "grant select on all tables in schema {} to {}",
    "alter default privileges in schema {} grant select on tables to {}",
)


def _without_policies(session: Session, role: str) -> Iterator[sql.Composed]:
    found = session.execute(
        "select schemaname::text, tablename::text from pg_policies"
        " where policyname = %s and schemaname = any(%s)",
        (policy_name(role), [*NAMESPACES]),
    ).fetchall()
    for table in found:
        yield sql.SQL("drop policy {} on {}").format(
            sql.Identifier(policy_name(role)), sql.Identifier(*table)
        )


def _policies(session: Session, role: str, limits: RoleAccess) -> Iterator[sql.Composed]:
    conditions: dict[tuple[str, str], list[sql.Composed]] = {}
    for rule in limits.rules:
        conditions.setdefault(rule.dimension, []).append(rule.members())
        for fact, columns in rule.facts.items():
            conditions.setdefault(fact, []).append(rule.facts_of(columns))
    for table, all_of_them in conditions.items():
        if not _is_there(session, table):
            continue
        identifier = sql.Identifier(*table)
        yield sql.SQL("alter table {} enable row level security").format(identifier)
        everybody = session.execute(
            "select true from pg_policies"
            " where schemaname = %s and tablename = %s and policyname = %s",
            (*table, _EVERYBODY),
        ).fetchone()
        if not everybody:
            # Policies shut out whom none of them names: other readers go on as before.
            yield sql.SQL("create policy {} on {} for select to public using (true)").format(
                sql.Identifier(_EVERYBODY), identifier
            )
        yield sql.SQL("create policy {} on {} as restrictive for select to {} using ({})").format(
            sql.Identifier(policy_name(role)),
            identifier,
            sql.Identifier(role),
            sql.SQL(" and ").join(all_of_them),
        )


def _views_that_follow_policies(session: Session) -> list[tuple[str, str]]:
    """Views that read with the rights of who reads them."""
    found = session.execute(
        """
        select n.nspname::text, c.relname::text
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = any(%s) and c.relkind = 'v'
            and 'security_invoker=true' = any(c.reloptions)
        order by 1, 2
        """,
        ([*NAMESPACES],),
    ).fetchall()
    return [(namespace, name) for namespace, name in found]


def _is_there(session: Session, table: tuple[str, str]) -> bool:
    name = sql.Identifier(*table).as_string()
    row = session.execute("select to_regclass(%s) is not null", (name,)).fetchone()
    return bool(row and row[0])
