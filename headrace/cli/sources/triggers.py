"""`headrace source triggers`: triggers that write the changes of a table to its change table."""

from functools import partial

import psycopg
from psycopg.conninfo import conninfo_to_dict

from headrace.cli.output import warn
from headrace.cli.sources.entities import chosen_entities
from headrace.config.loader import Project, load_project, resolve_secret
from headrace.config.model import Secret
from headrace.config.settings import ConnectionSettings
from headrace.config.sources.table_source import ChangeTableExtract, DatabaseSource, TableEntity
from headrace.errors import ConfigError
from headrace.sources.connections import Connection, connection_of
from headrace.sources.postgres.triggers import Triggers, install


def trigger_scripts(source: str, entity: str | None, variable: str | None) -> dict[str, str]:
    """By `source.entity`, a script for psql that installs the triggers of its table.

    Args:
        source: A source, or `source.entity`.
        entity: An entity of the source; None: all with a change table.
        variable: See `install_triggers`.
    """
    found = _triggers(load_project(), source, entity, variable)
    return {name: some.script() for name, some in found.items()}


def install_triggers(source: str, entity: str | None, variable: str | None) -> dict[str, str]:
    """Install the triggers of tables; by `source.entity`, the change table.

    Args:
        source: A source, or `source.entity`.
        entity: An entity of the source; None: all with a change table.
        variable: Environment variable with the URL of a user who may; None: the connection's.
    """
    project = load_project()
    done = {}
    for name, some in _triggers(project, source, entity, variable).items():
        connection = connection_of(project, _source_of(project, name).connection)
        if variable is not None:
            secret = Secret.model_construct(env=variable)
            connection = Connection(variable, variable, partial(resolve_secret, secret))
        install(some, connection)
        done[name] = some.changes
    return done


def _triggers(
    project: Project, source: str, entity: str | None, variable: str | None
) -> dict[str, Triggers]:
    """By `source.entity`, the triggers of its table."""
    found = {
        name: Triggers(declared, _reader(project, name, variable))
        for name, (_, declared) in chosen_entities(project, source, entity).items()
        if isinstance(declared, TableEntity) and isinstance(declared.extract, ChangeTableExtract)
    }
    if not found:
        raise ConfigError(
            f"{entity or source} has no table with mode: change_table",
            fix="declare `extract: {mode: change_table, table: …}`; see "
            "docs/how-to/read-postgres.md#every-change-by-triggers",
        )
    return found


def _reader(project: Project, name: str, variable: str | None) -> str | None:
    """The role that is to read the change table, if it is not the one that makes it."""
    settings = project.settings.connections[_source_of(project, name).connection]
    if not isinstance(settings, ConnectionSettings) or variable == settings.url.env:
        return None
    try:
        user = conninfo_to_dict(resolve_secret(settings.url)).get("user")
    except psycopg.Error:  # Connecting names what is wrong with the URL.
        return None
    except ConfigError:
        warn(f"{settings.url.env} is not set, so no role is granted the change table")
        return None
    return str(user) if user else None


def _source_of(project: Project, name: str) -> DatabaseSource:
    source = project.entities()[name][0]
    if not isinstance(source, DatabaseSource):
        raise TypeError(f"{name} is no table of a database")
    return source
