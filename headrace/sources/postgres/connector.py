"""The connector of PostgreSQL, by the mode of an entity."""

from headrace.config.loader import Project
from headrace.config.sources.table_source import ChangeTableExtract
from headrace.sources.postgres.change_table import PostgresChangeTable
from headrace.sources.postgres.database import PostgresRelation
from headrace.sources.tables.change_table import ChangeTableConnector
from headrace.sources.tables.connector import TableConnector
from headrace.sources.tables.database_relation import declared_table


def postgres_connector(project: Project, name: str) -> TableConnector | ChangeTableConnector:
    """The connector of the entity `name` (`source.entity`) of a project."""
    entity, connection = declared_table(project, name)
    if isinstance(entity.extract, ChangeTableExtract):
        return ChangeTableConnector("postgres", entity, PostgresChangeTable(entity, connection))
    return TableConnector("postgres", entity, PostgresRelation(entity, connection))
