"""Judging data before it is published: row rules, partition rules, schemas."""
