"""The embedded PostgreSQL: its data directory, server process and TCP port."""
