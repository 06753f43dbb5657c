"""Proposes the configuration of a source from a sample of its data."""
