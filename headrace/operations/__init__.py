"""Maintenance of what is published: audits, retention, reset."""
