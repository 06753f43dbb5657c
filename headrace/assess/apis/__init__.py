"""Proposes how lists of a REST API are read, by their first pages."""
