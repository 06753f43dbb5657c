"""Dagster assets, built from the configuration: one module a layer."""
