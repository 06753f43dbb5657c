"""The benchmark: the platform against a hand-written script for the same files."""
