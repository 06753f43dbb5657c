"""Dagster jobs and schedules, and backfills from the command line."""
