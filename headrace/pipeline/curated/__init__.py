"""Stages of curated tables: dimensions, facts, the calendar."""
