"""Headrace, the library: plain Python that computes and knows no Dagster."""
