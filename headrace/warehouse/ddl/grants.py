"""Grants and row-level security for the readers of the warehouse.

A restricted role sees some members of a dimension, and the facts that refer to them: by policies on
the dimension and on each fact with its key. It is granted facts but not their partitions, marts or
materialised views, to which policies do not apply. Default privileges grant new tables to the other
roles. A restricted role gets a new table together with its policy, after the load that created it
(`grant_new_tables`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from headrace.warehouse.identifiers import policy_name
from headrace.warehouse.sessions import Connect, Session, advisory_key, ensure_namespace, map_errors

NAMESPACES = ("warehouse", "marts", "bi")
_ALL_READERS = "headrace of everybody"


@dataclass(frozen=True)
class RowPolicy:
    """The rows that a role may see: members with one of the values in a column, and their facts.

    Attributes:
        dimension: Namespace and name.
        key: The dimension's primary key.
        column: Column of the dimension.
        values: As text.
        facts: By namespace and name of each fact with a key of the dimension: the key columns.
    """

    dimension: tuple[str, str]
    key: str
    column: str
    values: tuple[str, ...]
    facts: Mapping[tuple[str, str], tuple[str, ...]]

    def members(self) -> sql.Composed:
        """The condition on rows of the dimension."""
        return sql.SQL("{} = any ({})").format(
            sql.Identifier(self.column), sql.Literal(list(self.values))
        )

    def facts_of(self, columns: Sequence[str]) -> sql.Composed:
        """The condition on rows of a fact; a query looks up the members once."""
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
    """What a restricted role may see.

    Attributes:
        policies: A row must satisfy all of them.
        tables: Namespace and name of the tables it reads: dimensions, and the facts to which every
            policy applies.
    """

    policies: tuple[RowPolicy, ...]
    tables: tuple[tuple[str, str], ...]


def grant(connect: Connect, role: str, access: RoleAccess | None = None) -> list[str]:
    """Set the privileges of a reading role, and revoke all others, in one transaction.

    The role is created if it does not exist, with LOGIN and without a password. A second call
    changes nothing. Policies apply to the members of the role as well.

    Args:
        connect: Opens sessions as the owner of the tables.
        role: The role.
        access: None for all rows of all tables, including future ones.

    Returns:
        The executed statements.
    """
    with map_errors(f"granting {role}"), connect() as session, session.transaction():
        session.execute("select pg_advisory_xact_lock(%s)", (advisory_key("access", "roles"),))
        done = []
        for statement in _statements(session, role, access):
            session.execute(statement)
            done.append(statement.as_string(session))
        return done


def grant_new_tables(connect: Connect, access: Mapping[str, RoleAccess]) -> list[str]:
    """Grant new tables to restricted roles; returns the roles that were granted any.

    Roles that never were granted anything are skipped.

    Args:
        connect: Opens sessions as the owner of the tables.
        access: By role.
    """
    if not access:
        return []
    with map_errors("looking for tables without grants"), connect() as session:
        lacking = [role for role, some in access.items() if _lacks_tables(session, role, some)]
    for role in lacking:
        grant(connect, role, access[role])
    return lacking


def _lacks_tables(session: Session, role: str, access: RoleAccess) -> bool:
    """Whether a role that has privileges cannot read one of its tables."""
    namespaces = sorted({namespace for namespace, _ in access.tables})
    has_usage = session.execute(
        "select true from pg_roles as r, pg_namespace as n"
        " where r.rolname = %s and n.nspname = any(%s)"
        " and has_schema_privilege(r.oid, n.oid, 'usage')",
        (role, namespaces),
    ).fetchone()
    tables = [table for table in access.tables if _exists(session, table)]
    tables += _security_invoker_views(session)
    names = [sql.Identifier(*table).as_string() for table in tables]
    if has_usage is None or not names:
        return False
    lacking = session.execute(
        "select true from unnest(%s::text[]) as t (name)"
        " where not has_table_privilege(%s, t.name::regclass, 'select')",
        (names, role),
    ).fetchone()
    return lacking is not None


def _statements(session: Session, role: str, access: RoleAccess | None) -> Iterator[sql.Composed]:
    name = sql.Identifier(role)
    if not session.execute("select true from pg_roles where rolname = %s", (role,)).fetchone():
        yield sql.SQL("create role {} login").format(name)
    database = sql.Identifier(session.info.dbname)
    yield sql.SQL("grant connect on database {} to {}").format(database, name)
    # Also before the first load: default privileges then grant its tables.
    namespaces = [sql.Identifier(namespace) for namespace in NAMESPACES]
    for namespace in NAMESPACES:
        ensure_namespace(session, namespace)
    yield from (sql.SQL(each).format(one, name) for one in namespaces for each in _REVOKED)
    yield from _without_policies(session, role)
    if access is None:
        yield from (
            sql.SQL(each).format(schema, name) for schema in namespaces for each in _GRANTED
        )
    else:
        yield from _restricted(session, role, access)


def _restricted(session: Session, role: str, access: RoleAccess) -> Iterator[sql.Composed]:
    name = sql.Identifier(role)
    tables = [table for table in access.tables if _exists(session, table)]
    tables += _security_invoker_views(session)
    # Also before the first load: USAGE marks a role that `grant_new_tables` has to grant.
    for schema in sorted({namespace for namespace, _ in (*access.tables, *tables)}):
        yield sql.SQL("grant usage on schema {} to {}").format(sql.Identifier(schema), name)
    for table in tables:
        yield sql.SQL("grant select on {} to {}").format(sql.Identifier(*table), name)
    yield from _policies(session, role, access)


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


def _policies(session: Session, role: str, access: RoleAccess) -> Iterator[sql.Composed]:
    conditions: dict[tuple[str, str], list[sql.Composed]] = {}
    for rule in access.policies:
        conditions.setdefault(rule.dimension, []).append(rule.members())
        for fact, columns in rule.facts.items():
            conditions.setdefault(fact, []).append(rule.facts_of(columns))
    for table, all_of_them in conditions.items():
        if not _exists(session, table):
            continue
        identifier = sql.Identifier(*table)
        yield sql.SQL("alter table {} enable row level security").format(identifier)
        has_default = session.execute(
            "select true from pg_policies"
            " where schemaname = %s and tablename = %s and policyname = %s",
            (*table, _ALL_READERS),
        ).fetchone()
        if not has_default:
            # With row-level security, roles without a policy see no row: this one is for them.
            yield sql.SQL("create policy {} on {} for select to public using (true)").format(
                sql.Identifier(_ALL_READERS), identifier
            )
        yield sql.SQL("create policy {} on {} as restrictive for select to {} using ({})").format(
            sql.Identifier(policy_name(role)),
            identifier,
            sql.Identifier(role),
            sql.SQL(" and ").join(all_of_them),
        )


def _security_invoker_views(session: Session) -> list[tuple[str, str]]:
    """Views with security_invoker: row-level security applies through them."""
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


def _exists(session: Session, table: tuple[str, str]) -> bool:
    name = sql.Identifier(*table).as_string()
    row = session.execute("select to_regclass(%s) is not null", (name,)).fetchone()
    return bool(row and row[0])
