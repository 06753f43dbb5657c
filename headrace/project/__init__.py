"""A configured installation: its home folder, connections, lineage and version."""
