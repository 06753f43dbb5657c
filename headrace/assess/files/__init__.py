"""Finds entities in a folder of files: paths, dialects, headers, sampled rows."""
