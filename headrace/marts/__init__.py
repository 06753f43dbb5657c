"""Marts: dbt models built for a window of partitions."""
