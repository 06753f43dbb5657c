"""The connector of PostgreSQL."""
