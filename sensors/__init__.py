"""Sensors: they request runs for files that arrive, and for stale partitions."""
