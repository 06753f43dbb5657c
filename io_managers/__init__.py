"""IO managers: assets as Iceberg and Postgres tables, usable by any Dagster project."""
