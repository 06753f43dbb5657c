"""Proposes how tables of a database are captured, by the catalog and sampled rows."""
