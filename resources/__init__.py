"""Dagster resources: the lake, the warehouse, the engine, the landing zone."""
