"""Dagster assets: one module a layer, made from configuration."""
